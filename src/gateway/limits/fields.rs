//! How much is left, in header fields.
//!
//! `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11 (May 2026): lists
//! of structured fields (RFC 9651), one item for each bucket, named by its rule. `RateLimit-Limit`,
//! `RateLimit-Remaining` and `RateLimit-Reset` are those of the drafts up to -06, which clients in the field
//! read: of the tightest bucket, with the seconds from now.
//!
//! Invariant: what `RateLimit` says is safe to use: whoever spreads `r` over `t` is never refused, because
//! `r / t` is never more than the rate (section 8.5 of the draft), and `Retry-After` is never before the
//! end of `t` (section 6).

use std::fmt::Write;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::rules::Applied;
use crate::backend::limits::{Quota, Rate, Taken};

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static OLD: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

/// What pages of other origins may read of it.
pub(crate) const EXPOSED: [&str; 5] =
    ["ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];

/// One bucket as clients see it. Times are in seconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    name: String,
    /// What it can hold, in which time.
    quota: u64,
    window: u64,
    /// What is left, and for how long that must do.
    left: u64,
    time: u64,
    pub(super) refused: bool,
}

impl Item {
    fn of_rate(name: &str, rate: Rate, taken: Taken) -> Self {
        let left = taken.remaining;
        let time = match taken.allowed() {
            false => taken.wait,
            true => {
                // When there is one more than now, and how long the rate takes to give what there is.
                let next = taken.resets.saturating_sub(rate.refill(rate.burst().saturating_sub(left + 1)));
                next.max(rate.refill(left))
            }
        };
        Self {
            name: name.to_owned(),
            quota: rate.burst(),
            window: seconds(rate.refill(rate.burst())),
            left: if taken.allowed() { left } else { 0 },
            time: seconds(time),
            refused: !taken.allowed(),
        }
    }

    fn of_quota(name: &str, quota: Quota, taken: Taken) -> Self {
        let time = if taken.allowed() { taken.resets } else { taken.wait };
        Self {
            name: format!("{name}-quota"),
            quota: quota.most(),
            window: seconds(quota.window()),
            left: taken.remaining,
            time: seconds(time),
            refused: !taken.allowed(),
        }
    }

    /// Its name, as a problem lists it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// When to ask again, in seconds.
    pub(super) fn time(&self) -> u64 {
        self.time
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000).max(1)
}

/// The buckets of the rules that apply, in their order.
pub(super) fn items(applied: &[Applied<'_>]) -> Vec<Item> {
    let of = |applied: &Applied<'_>| {
        let (limit, name) = (&applied.by.limit, &applied.by.rule.name);
        let drawn = applied.drawn.as_ref().ok();
        let rate = limit.rate.zip(drawn.and_then(|drawn| drawn.rate));
        let quota = limit.quota.zip(drawn.and_then(|drawn| drawn.quota));
        let rate = rate.map(|(rate, taken)| Item::of_rate(name, rate, taken));
        rate.into_iter().chain(quota.map(|(quota, taken)| Item::of_quota(name, quota, taken))).collect::<Vec<_>>()
    };
    applied.iter().flat_map(of).collect()
}

/// Writes them into the head of an answer.
pub(super) fn write(items: &[Item], headers: &mut HeaderMap) {
    let Some(tightest) = items.iter().min_by_key(|item| (!item.refused, item.left * 1000 / item.quota)) else { return };
    let (mut policy, mut limit) = (String::new(), String::new());
    for item in items {
        let comma = if policy.is_empty() { "" } else { ", " };
        // A name of a rule needs no escaping in a string of RFC 9651. Writing into a string cannot fail.
        let _ = write!(policy, "{comma}\"{}\";q={};w={}", item.name, item.quota, item.window);
        let _ = write!(limit, "{comma}\"{}\";r={};t={}", item.name, item.left, item.time);
    }
    for (name, text) in [(&POLICY, policy), (&LIMIT, limit)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name.clone(), value);
        }
    }
    for (name, number) in OLD.iter().zip([tightest.quota, tightest.left, tightest.time]) {
        headers.insert(name.clone(), HeaderValue::from(number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::{
        bucket::Buckets,
        limits::{Measure, Name, Take},
    };

    #[test]
    fn whoever_spreads_what_is_left_over_the_time_is_never_refused() {
        for (tokens, per, burst) in [(10, 1000, 10), (10, 1000, 100), (1, 7000, 3), (100, 1000, 5), (60, 60_000, 60)] {
            let rate = Rate::new(tokens, Duration::from_millis(per), burst).unwrap();
            let buckets = Buckets::default();
            let take = Take { name: Name::of(&["t"]), of: Measure::Rate(rate), cost: 1, ahead: 0, patience: 0 };
            for now in 0..200 {
                let taken = buckets.take(&take, now * 37);
                let item = Item::of_rate("api", rate, taken);
                // r / t is not above tokens / per.
                assert!(item.left * per <= item.time * 1000 * tokens, "{item:?} of {rate:?}");
                assert!(item.left <= item.quota && item.time >= 1);
                if item.refused {
                    assert!(buckets.take(&take, now * 37 + item.time as i64 * 1000).allowed(), "{item:?} of {rate:?}");
                    break;
                }
            }
        }
    }

    #[test]
    fn the_fields_are_those_of_the_draft_to_the_letter() {
        let rate = Rate::new(10, Duration::from_secs(1), 20).unwrap();
        let quota = Quota::new(1_000, Duration::from_secs(86_400)).unwrap();
        let left = |given, remaining, wait, resets| Taken { given, wait, remaining, resets };
        let items = [
            Item::of_rate("api", rate, left(1, 4, 0, 1_600)),
            Item::of_quota("api", quota, left(1, 900, 0, 3_599_001)),
        ];
        let mut headers = HeaderMap::new();
        write(&items, &mut headers);
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap();
        assert_eq!(text("ratelimit-policy"), "\"api\";q=20;w=2, \"api-quota\";q=1000;w=86400");
        assert_eq!(text("ratelimit"), "\"api\";r=4;t=1, \"api-quota\";r=900;t=3600");
        assert_eq!([text("ratelimit-limit"), text("ratelimit-remaining"), text("ratelimit-reset")], ["20", "4", "1"]);

        let refused = [Item::of_rate("api", rate, left(0, 0, 1_001, 2_100))];
        write(&refused, &mut headers);
        let limit = headers.get("ratelimit").unwrap();
        assert_eq!(
            (limit, refused[0].time(), refused[0].name()),
            ("\"api\";r=0;t=2".try_into().as_ref().unwrap(), 2, "api")
        );
    }
}
