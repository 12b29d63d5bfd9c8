//! `Prefer: wait=N` (RFC 7240 §4.3): how long the client would like to wait for the end.
//! Invariant: what cannot be understood is ignored, as the standard demands, never an error.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// Says which preference was honoured.
pub(crate) static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The wait a client prefers, at most `most`; `None` when it prefers none.
pub(crate) fn wait(headers: &HeaderMap, most: Duration) -> Option<Duration> {
    // The first instance of a preference counts, over all fields.
    let seconds = headers.get_all(&PREFER).filter_map(|value| value.to_str().ok()).find_map(seconds)?;
    let wait = Duration::from_secs(seconds).min(most);
    (!wait.is_zero()).then_some(wait)
}

/// The value of `wait` in one `Prefer` field.
fn seconds(field: &str) -> Option<u64> {
    field.split(',').find_map(|preference| {
        // Parameters after a semicolon mean nothing to `wait`.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        // More digits than a u64 holds still mean "very long".
        (name.trim().eq_ignore_ascii_case("wait") && digits).then(|| value.parse().unwrap_or(u64::MAX))
    })
}

/// The header that says how long was waited at most.
pub(crate) fn applied(wait: Duration) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
    (PREFERENCE_APPLIED.clone(), value.unwrap_or(HeaderValue::from_static("wait")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(fields: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(PREFER.clone(), HeaderValue::from_str(field).unwrap());
        }
        wait(&headers, Duration::from_secs(60)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_first_wait_counts_and_is_bounded() {
        assert_eq!(of(&["wait=5"]), Some(5));
        assert_eq!(of(&["respond-async, WAIT = \"7\"; x=1"]), Some(7));
        assert_eq!(of(&["handling=lenient", "wait=9, wait=3"]), Some(9));
        assert_eq!(of(&["wait=600"]), Some(60));
        assert_eq!(of(&["wait=99999999999999999999999"]), Some(60));
    }

    #[test]
    fn what_cannot_be_understood_is_ignored() {
        for field in ["", "wait", "wait=", "wait=-1", "wait=abc", "wait=0", "await=3", "wait=1.5", "wait=\"", ";wait=1"]
        {
            assert_eq!(of(&[field]), None, "{field}");
        }
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(field in "[\\x20-\\x7e]{0,60}") {
            of(&[&field]);
        }

        #[test]
        fn every_number_is_read(n in 1..=60u64, space in " {0,2}") {
            prop_assert_eq!(of(&[&format!("{space}wait{space}={space}{n}{space}")]), Some(n));
        }
    }
}
