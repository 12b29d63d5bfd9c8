//! Cron expressions: which times on the wall, and which instants those are.
//!
//! An expression whose seconds, minutes or hours begin with `*` means "whenever the clocks show it": where
//! clocks go back it fires in both hours, where they go forward what never shows is left out, so that
//! "every ten minutes" is just that. Any other names times of the day, and each comes once a day: the first
//! time it shows, or at the change when it never does (several that fall into one gap are one slot). Vixie
//! cron draws the same line.
//!
//! Invariant: [`Cron::next`] is later than what it is asked for, and never skips one: its answers do not
//! depend on where one asks.

use croner::parser::{CronParser, Seconds, Year};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::zone;
use crate::error::{Error, Result};

/// The fields, and what each may hold, in the order written.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L for the last, 15W for the weekday nearest to the 15th"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT (0 and 7 are Sunday), FRI#2 for the second Friday, FRI#L for the last"),
];

const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// How many changes of the clocks one search passes; a pattern that only ever names times within a gap
/// finds nothing.
const CHANGES: usize = 256;
/// What no two offsets from UTC differ by.
const OFFSETS: SignedDuration = SignedDuration::from_hours(48);
/// The longest expression, in bytes.
const LONGEST: usize = 256;

/// An expression in a zone.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pattern: croner::Cron,
    zone: TimeZone,
    /// Whether it names times of the day.
    named: bool,
}

impl Cron {
    /// Reads five or six fields, or a name such as `@daily`. Terminal error that names the field.
    pub(crate) fn read(text: &str, zone: &TimeZone) -> Result<Self> {
        let refuse = |why: String| Error::terminal(format!("cron expression {text:?}: {why}")).code("bad_schedule");
        if text.len() > LONGEST {
            return Err(refuse(format!("expected at most {LONGEST} bytes")));
        }
        let plain = match text.trim().starts_with('@') {
            true => named(text.trim()).map_err(refuse)?,
            false => text,
        };
        let fields: Vec<&str> = plain.split_whitespace().collect();
        if !(5..=6).contains(&fields.len()) {
            let found = fields.len();
            return Err(refuse(format!(
                "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds in front, found {found}"
            )));
        }
        let pattern = parse(plain).map_err(|error| refuse(blame(&fields, &error)))?;
        let clock = &fields[..fields.len() - 3];
        let named = !clock.iter().any(|field| field.starts_with('*'));
        Ok(Self { pattern, zone: zone.clone(), named })
    }

    /// The first slot after `after`; `None` when there is none any more.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.named { self.next_named(after) } else { self.next_shown(after) }
    }

    fn next_named(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        loop {
            wall = self.wall(wall, false)?;
            // In the second of two equal hours, what it names was in the first.
            let slot = zone::first(&self.zone, wall)?;
            if slot > after {
                return Some(slot);
            }
        }
    }

    fn next_shown(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..CHANGES {
            // Until the clocks change, they go as time does.
            let offset = self.zone.to_offset(from);
            let slot = offset.to_timestamp(self.wall(offset.to_datetime(from), inclusive)?).ok()?;
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            match change.filter(|change| *change <= slot) {
                None => return Some(slot),
                // By no other offset would it come much earlier.
                Some(change) => (from, inclusive) = (change.max(slot.checked_sub(OFFSETS).ok()?), true),
            }
        }
        None
    }

    fn wall(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&from, inclusive).ok()
    }
}

fn parse(text: &str) -> Result<croner::Cron, croner::errors::CronError> {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build().parse(text)
}

fn named(name: &str) -> Result<&'static str, String> {
    let known = NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, fields)| *fields).ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(known, _)| *known).collect();
        format!("{name:?} is no name: expected one of {}", names.join(", "))
    })
}

/// Which field is wrong: each is tried alone.
fn blame(fields: &[&str], error: &croner::errors::CronError) -> String {
    let of = &FIELDS[FIELDS.len() - fields.len()..];
    for (at, (field, (name, holds))) in fields.iter().zip(of).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        if parse(&alone.join(" ")).is_err() {
            return format!(
                "the {name} is {field:?}: expected {holds}; * for all, lists (1,15), ranges (1-5), steps (*/10)"
            );
        }
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cron(text: &str, name: &str) -> Cron {
        Cron::read(text, &zone::find(name).unwrap()).unwrap()
    }

    fn slots(text: &str, name: &str, after: &str, many: usize) -> Vec<String> {
        let (cron, mut at) = (cron(text, name), after.parse().unwrap());
        let next = || {
            at = cron.next(at)?;
            Some(at.to_string())
        };
        std::iter::from_fn(next).take(many).collect()
    }

    #[test]
    fn a_bad_expression_is_refused_with_the_field_and_what_it_may_hold() {
        let utc = TimeZone::UTC;
        for (bad, why) in [
            ("0 25 * * *", "the hour is \"25\": expected 0-23"),
            ("60 * * * *", "the minute is \"60\": expected 0-59"),
            ("60 0 * * * *", "the second is \"60\""),
            ("0 0 32 * *", "the day of month is \"32\""),
            ("0 0 * FOO *", "the month is \"FOO\": expected 1-12 or JAN-DEC"),
            ("0 0 * * 9", "the day of week is \"9\""),
            ("*/0 * * * *", "the minute is \"*/0\""),
            ("5-1 * * * *", "the minute is \"5-1\""),
            ("* * * *", "found 4"),
            ("* * * * * * *", "found 7"),
            ("", "found 0"),
            ("@fortnightly", "expected one of @yearly"),
            (&"1,".repeat(200), "at most 256 bytes"),
        ] {
            let error = Cron::read(bad, &utc).unwrap_err();
            assert!(error.is_terminal() && error.to_string().contains(why), "{bad}: {error}");
        }
        for good in ["@daily", "@Weekly", "*/5 * * * *", "30 0 3 * * *", "0 9 * * MON-FRI", "0 0 L * *", "0 0 29 2 *"] {
            assert!(Cron::read(good, &utc).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_named_time_comes_once_on_the_days_the_clocks_change() {
        let spring = slots("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let autumn = slots("30 1,2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 3);
        assert_eq!(autumn, ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T00:30:00Z"]);
        let merged = slots("0,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
        assert_eq!(merged, ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"], "two in one gap are one");
    }

    #[test]
    fn every_so_often_is_every_so_often_when_the_clocks_change() {
        let hours = |after| slots("0 * * * *", "America/New_York", after, 3);
        assert_eq!(
            hours("2026-11-01T04:30:00Z"),
            ["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"]
        );
        assert_eq!(
            hours("2026-03-08T06:30:00Z"),
            ["2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z", "2026-03-08T09:00:00Z"]
        );
    }

    #[test]
    fn an_instant_between_two_seconds_is_before_the_second() {
        let cron = cron("* * * * * *", "UTC");
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(cron.next(at(1_500)), Some(at(2_000)));
        assert_eq!(cron.next(at(1_999)), Some(at(2_000)));
        assert_eq!(cron.next(at(2_000)), Some(at(3_000)));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_or_refused(text in "[@0-9A-Za-z*/,#LW?+ -]{0,40}") {
            if let Ok(cron) = Cron::read(&text, &TimeZone::UTC) {
                let next = cron.next(Timestamp::UNIX_EPOCH);
                prop_assert!(next.is_none_or(|next| next > Timestamp::UNIX_EPOCH));
            }
        }
    }
}
