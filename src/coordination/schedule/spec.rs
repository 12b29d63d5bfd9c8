//! When a schedule's slots are: what is stored of it, and what it means.
//!
//! Invariant: a [`Spec`] that was once read is read the same by every later build.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{cron::Cron, zone};
use crate::error::{Error, Result};

/// The shortest time between two slots that are said as an interval, in milliseconds.
const SHORTEST: i64 = 1_000;
/// The longest, and the longest of all other times in a definition: about a hundred years.
pub(super) const LONGEST: i64 = 100 * 366 * 86_400_000;

/// As stored and sent; field names are short because a million of them are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spec {
    /// A cron expression in a time zone.
    #[serde(rename = "c")]
    Cron {
        /// The expression.
        #[serde(rename = "x")]
        text: String,
        /// The name of the zone; UTC when not said.
        #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// At a time, and then again and again.
    #[serde(rename = "e")]
    Every {
        /// The time between two slots, in milliseconds.
        #[serde(rename = "n")]
        period: i64,
        /// The first slot, in milliseconds since the Unix epoch.
        #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
        from: i64,
    },
    /// Once, in milliseconds since the Unix epoch.
    #[serde(rename = "o")]
    Once(i64),
}

pub(super) fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A [`Spec`] that was read, and can be asked. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(crate) enum When {
    Cron(Box<Cron>),
    Every { period: i64, from: i64 },
    Once(i64),
}

impl Spec {
    /// Reads it. Terminal error (`bad_schedule`) that says what is wrong and what was expected.
    pub(crate) fn read(&self) -> Result<When> {
        match self {
            Self::Cron { text, zone } => {
                let zone = zone.as_deref().map_or(Ok(TimeZone::UTC), zone::find)?;
                Ok(When::Cron(Box::new(Cron::read(text, &zone)?)))
            }
            Self::Every { period, from } if (SHORTEST..=LONGEST).contains(period) => {
                Ok(When::Every { period: *period, from: *from })
            }
            Self::Every { period, .. } => Err(bad(format!(
                "an interval of {period} ms: expected {SHORTEST} ms to {LONGEST} ms (a hundred years)"
            ))),
            Self::Once(at) => Ok(When::Once(*at)),
        }
    }
}

impl When {
    /// The first slot after `after`; `None` when there is none any more.
    pub(crate) fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Cron(cron) => {
                let next = cron.next(Timestamp::from_millisecond(after).ok()?)?;
                Some(next.as_millisecond())
            }
            Self::Every { from, .. } if after < *from => Some(*from),
            Self::Every { period, from } => {
                let passed = after.checked_sub(*from)?.checked_div(*period)?;
                passed.checked_add(1)?.checked_mul(*period)?.checked_add(*from)
            }
            Self::Once(at) => (*at > after).then_some(*at),
        }
    }

    /// Whether it has one slot only.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self, Self::Once(_))
    }
}

/// What a date means in a zone: `2026-12-24T18:00` on its clocks there (as for cron, the first such time, or
/// when the clocks go over it), or an instant such as `2026-12-24T18:00Z`. Terminal error when it is neither.
pub(super) fn date(text: &str, zone: Option<&str>) -> Result<i64> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    let zone = zone.map_or(Ok(TimeZone::UTC), zone::find)?;
    let wall: DateTime = text.parse().map_err(|error| {
        bad(format!("date {text:?}: expected one such as 2026-12-24T18:00, or 2026-12-24T18:00Z: {error}"))
    })?;
    let at = zone::first(&zone, wall).ok_or_else(|| bad(format!("date {text:?}: beyond the calendar")))?;
    Ok(at.as_millisecond())
}

pub(super) fn bad(why: String) -> Error {
    Error::terminal(why).code("bad_schedule")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_never_change() {
        let cron = |zone: Option<&str>| Spec::Cron { text: "0 3 * * *".into(), zone: zone.map(str::to_owned) };
        for (spec, stored) in [
            (cron(None), r#"{"c":{"x":"0 3 * * *"}}"#),
            (cron(Some("Europe/Berlin")), r#"{"c":{"x":"0 3 * * *","z":"Europe/Berlin"}}"#),
            (Spec::Every { period: 60_000, from: 0 }, r#"{"e":{"n":60000}}"#),
            (Spec::Every { period: 60_000, from: 5 }, r#"{"e":{"n":60000,"f":5}}"#),
            (Spec::Once(1_767_225_600_000), r#"{"o":1767225600000}"#),
        ] {
            assert_eq!(serde_json::to_string(&spec).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Spec>(stored).unwrap(), spec);
        }
    }

    #[test]
    fn intervals_begin_with_their_first_slot() {
        let when = Spec::Every { period: 1_000, from: 500 }.read().unwrap();
        let next = [-9_000, 499, 500, 501, 1_499, 1_500].map(|after| when.next(after).unwrap());
        assert_eq!(next, [500, 500, 1_500, 1_500, 1_500, 2_500]);
        assert_eq!(when.next(i64::MAX), None);
        assert!(Spec::Every { period: 999, from: 0 }.read().unwrap_err().to_string().contains("expected 1000 ms"));
    }

    #[test]
    fn a_date_is_on_the_clocks_of_its_zone() {
        let at = |text, zone| Timestamp::from_millisecond(date(text, zone).unwrap()).unwrap().to_string();
        assert_eq!(at("2026-12-24T18:00", None), "2026-12-24T18:00:00Z");
        assert_eq!(at("2026-12-24 18:00", Some("Europe/Berlin")), "2026-12-24T17:00:00Z");
        assert_eq!(at("2026-12-24", Some("Asia/Tokyo")), "2026-12-23T15:00:00Z");
        assert_eq!(at("2026-12-24T18:00Z", Some("Asia/Tokyo")), "2026-12-24T18:00:00Z");
        let error = date("tomorrow", None).unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("expected one such as"), "{error}");
    }
}
