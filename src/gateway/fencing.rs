//! `Fencing-Token`: which holder of a lock sends something, as an item of RFC 9651 (Structured Field Values):
//! `176722560000001;lock="import"`. There is no standard for it; the name is what the thing is called.
//! Invariant: what cannot be read is refused, because ignoring it would be writing without the lock.

use std::fmt::Write;

use actix_web::http::header::{HeaderMap, HeaderName};

use super::{
    problem::{Place, Problem},
    problems::MALFORMED_HEADER,
};
use crate::{address::MAX_KEY, backend::Fence};

static FENCING_TOKEN: HeaderName = HeaderName::from_static("fencing-token");

const EXPECTED: &str = "expected a token and the lock's name, such as 176722560000001;lock=\"import\"";

/// The holder that the headers name, if they do.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Fence>, Problem> {
    let mut values = headers.get_all(&FENCING_TOKEN);
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |reason: &str| {
        let place = Place::Header("Fencing-Token".into());
        Err(Problem::of(&MALFORMED_HEADER).fault(place, reason))
    };
    if values.next().is_some() {
        return refuse("sent more than once");
    }
    match value.to_str().ok().and_then(parse) {
        Some(fence) => Ok(Some(fence)),
        None => refuse(EXPECTED),
    }
}

fn parse(text: &str) -> Option<Fence> {
    let (token, parameter) = text.trim().split_once(';')?;
    // An integer has at most 15 digits there (RFC 9651 §3.3.1).
    if !(1..=15).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let lock = parameter.trim_start_matches(' ').strip_prefix("lock=")?;
    let lock = match lock.strip_prefix('%') {
        Some(display) => percent(quoted(display)?)?,
        None => string(quoted(lock)?)?,
    };
    let fine = (1..=MAX_KEY).contains(&lock.len()) && !lock.chars().any(char::is_control);
    fine.then(|| Some(Fence { lock, token: token.parse().ok()? })).flatten()
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// What is between the quotes of a String (RFC 9651 §3.3.3).
fn string(text: &str) -> Option<String> {
    let (mut read, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        read.push(match c {
            '\\' => chars.next().filter(|c| matches!(c, '"' | '\\'))?,
            ' ' | '!' | '#'..='~' => c,
            _ => return None,
        });
    }
    Some(read)
}

/// What is between the quotes of a Display String (RFC 9651 §3.3.8).
fn percent(text: &str) -> Option<String> {
    let (mut read, mut bytes) = (Vec::new(), text.bytes());
    let hex = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    while let Some(b) = bytes.next() {
        read.push(match b {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'"' => return None,
            b' '..=b'~' => b,
            _ => return None,
        });
    }
    String::from_utf8(read).ok()
}

/// The value of the header for a holder.
pub(crate) fn write(fence: &Fence) -> String {
    let mut text = format!("{};lock=", fence.token);
    let plain = fence.lock.bytes().all(|b| matches!(b, b' '..=b'~'));
    text.push_str(if plain { "\"" } else { "%\"" });
    for b in fence.lock.bytes() {
        match b {
            b'"' | b'\\' if plain => text.extend(['\\', char::from(b)]),
            b' '..=b'~' if plain || !matches!(b, b'%' | b'"') => text.push(char::from(b)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{b:02x}")),
        }
    }
    text.push('"');
    text
}

/// Lets a test of the gateway name a holder.
#[cfg(test)]
pub(super) fn header(fence: &Fence) -> (HeaderName, actix_web::http::header::HeaderValue) {
    (FENCING_TOKEN.clone(), write(fence).parse().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Option<(u64, String)> {
        parse(text).map(|fence| (fence.token, fence.lock))
    }

    #[test]
    fn a_holder_is_read_as_the_standard_writes_it() {
        assert_eq!(of("7;lock=\"import\""), Some((7, "import".into())));
        assert_eq!(of(" 176722560000001; lock=\"a \\\"b\\\\\""), Some((176_722_560_000_001, "a \"b\\".into())));
        assert_eq!(of("7;lock=%\"f%c3%bcr\""), Some((7, "für".into())));
        for bad in [
            "",
            "7",
            "7;lock=import",
            "7;lock=\"\"",
            "-7;lock=\"a\"",
            "1234567890123456;lock=\"a\"",
            "7;lock=\"a\";more",
            "7;lock=\"a\\b\"",
            "7;lock=%\"%C3%BC\"",
            "7;lock=%\"%ff\"",
            "7;key=\"a\"",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let mut twice = HeaderMap::new();
        let (name, value) = header(&Fence { lock: "a".into(), token: 1 });
        twice.append(name.clone(), value.clone());
        assert_eq!(read(&twice).unwrap().unwrap().lock, "a");
        twice.append(name, value);
        assert_eq!(read(&twice).unwrap_err().status(), 400);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(lock in "[^\\p{Cc}]{1,40}", token in 1..1_000_000_000_000_000u64) {
            prop_assume!(lock.len() <= MAX_KEY);
            let fence = Fence { lock, token };
            prop_assert_eq!(parse(&write(&fence)), Some(fence));
        }

        #[test]
        fn no_header_breaks_it(text in "[\\x20-\\x7e]{0,40}") {
            let _ = parse(&text);
        }
    }
}
