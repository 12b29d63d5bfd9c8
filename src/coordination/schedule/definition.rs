//! A schedule as it is written, and the definition that is stored of it.
//!
//! Invariant: a [`Definition`] that exists was checked: its slots can be asked for, its numbers are in bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{LONGEST, Spec, bad, date, is_zero};
use crate::{address::Address, error::Result};

/// Slots remembered of a schedule that a feature declares.
pub(super) const HISTORY: usize = 20;
/// The most slots that are remembered, and the most that wait or are made up.
pub(super) const MOST_HISTORY: usize = 200;
pub(super) const MOST_WAITING: usize = 1_000;
/// The largest command, in bytes: it is kept with every schedule.
const COMMAND: usize = 64 << 10;
/// How late a slot may be under [`Missed::Skip`], in milliseconds.
const ON_TIME: i64 = 60_000;

/// What happens with slots whose time passed while nobody could take them (no node ran, or the store was
/// away).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// The newest one runs, late; the others do not.
    #[default]
    #[serde(rename = "o")]
    Once,
    /// Each of them runs, oldest first and one after the other; of more than `most` (1 to 1000) the newest.
    #[serde(rename = "a")]
    All {
        /// How many.
        #[serde(rename = "m")]
        most: u32,
    },
    /// None of them runs: only a slot that is at most a minute late (or as [`Schedule::within`] says) does.
    #[serde(rename = "s")]
    Skip,
}

/// What happens when a slot comes while what an earlier one began has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlap {
    /// It does not run.
    #[default]
    #[serde(rename = "s")]
    Skip,
    /// It waits for it to end; at most 1000 do.
    #[serde(rename = "q")]
    Queue,
    /// The earlier one is withdrawn if its handler has not begun, or asked to end if it waits for something;
    /// the slot runs when it has ended.
    #[serde(rename = "c")]
    Cancel,
    /// It runs all the same. Then nothing has to be told to the schedule when a run ends, which makes this
    /// the cheapest.
    #[serde(rename = "a")]
    Allow,
}

/// When something is to be told to an actor, again and again or once.
///
/// ```
/// use greenroom::{Missed, Overlap, Schedule};
/// use std::time::Duration;
///
/// let nightly = Schedule::cron("0 3 * * *").zone("Europe/Berlin").jitter(Duration::from_secs(300));
/// let often = Schedule::every(Duration::from_secs(30)).overlap(Overlap::Queue).missed(Missed::Skip);
/// let reminder = Schedule::date("2026-12-24T18:00").zone("Europe/Berlin");
/// # let _ = (nightly, often, reminder);
/// ```
///
/// A mistake in it is told by whoever takes it: a node that declares it does not start, an actor's command
/// fails.
#[derive(Clone, Debug)]
pub struct Schedule {
    at: Times,
    zone: Option<String>,
    jitter: Duration,
    missed: Missed,
    within: Option<Duration>,
    overlap: Overlap,
    history: Option<usize>,
}

#[derive(Clone, Debug)]
enum Times {
    Cron(String),
    Every(Duration, i64),
    Once(i64),
    Date(String),
}

impl From<&str> for Schedule {
    /// A [cron expression](Schedule::cron).
    fn from(cron: &str) -> Self {
        Self::cron(cron)
    }
}

impl Schedule {
    /// By a cron expression: `minute hour day-of-month month day-of-week`, with seconds in front if there are
    /// six fields, or `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`. In UTC, or the [zone](Self::zone).
    ///
    /// Where the clocks of the zone change, a time that is named (`30 2 * * *`) comes once a day: the first
    /// time it shows, or when the clocks go over it. One whose second, minute or hour is `*` or `*/n` comes
    /// whenever the clocks show it, so `*/10 * * * *` is every ten minutes all day.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::at(Times::Cron(expression.into()))
    }

    /// Every `period` (at least a second, whole milliseconds), counted from the Unix epoch, or as
    /// [`Schedule::starting`] says. The same instants on every node, whatever the clocks on the wall do.
    pub fn every(period: Duration) -> Self {
        Self::at(Times::Every(period, 0))
    }

    /// Once, at a time in milliseconds since the Unix epoch.
    pub fn once(time: i64) -> Self {
        Self::at(Times::Once(time))
    }

    /// Once, at a date on the clocks of the [zone](Self::zone) (`2026-12-24T18:00`), or an instant
    /// (`2026-12-24T18:00Z`).
    pub fn date(date: impl Into<String>) -> Self {
        Self::at(Times::Date(date.into()))
    }

    fn at(at: Times) -> Self {
        Self {
            at,
            zone: None,
            jitter: Duration::ZERO,
            missed: Missed::default(),
            within: None,
            overlap: Overlap::default(),
            history: None,
        }
    }

    /// The time zone of the expression or date, by its IANA name; UTC when not said.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// The first slot of an [interval](Self::every), in milliseconds since the Unix epoch.
    pub fn starting(mut self, time: i64) -> Self {
        if let Times::Every(_, from) = &mut self.at {
            *from = time;
        }
        self
    }

    /// Spreads what would happen everywhere at once: each slot fires up to so much later (always before the
    /// next), the same for the same slot, different for schedules of other names.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// What happens with slots whose time passed while nobody could take them.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// A slot that is later than this does not run any more.
    pub fn within(mut self, late: Duration) -> Self {
        self.within = Some(late);
        self
    }

    /// What happens when a slot comes while what an earlier one began has not ended.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// How many of the last slots are remembered with their outcome, at most 200: 20 for a schedule that is
    /// declared, none for one that is made at run time, when not said.
    pub fn history(mut self, slots: usize) -> Self {
        self.history = Some(slots);
        self
    }

    /// The definition of it, with `command` (JSON) for `to`. Terminal error (`bad_schedule`) that says what
    /// is wrong.
    pub(crate) fn define(self, to: Address, command: String, history: usize) -> Result<Definition> {
        let Self { at, zone, jitter, missed, within, overlap, history: asked } = self;
        let when = match at {
            Times::Cron(text) => Spec::Cron { text, zone },
            Times::Every(period, from) => Spec::Every { period: millis(period, "interval")?, from },
            Times::Once(time) => Spec::Once(time),
            Times::Date(text) => Spec::Once(date(&text, zone.as_deref())?),
        };
        if let (Spec::Cron { text, .. }, None) = (&when, when.read()?.next(0)) {
            return Err(bad(format!("cron expression {text:?} never comes: expected a date that some year has")));
        }
        if let Missed::All { most } = missed
            && !(1..=MOST_WAITING).contains(&(most as usize))
        {
            return Err(bad(format!("Missed::All with most {most}: expected 1 to {MOST_WAITING}")));
        }
        if command.len() > COMMAND {
            return Err(bad(format!("a command of {} bytes: expected at most {COMMAND}", command.len())));
        }
        let history = asked.unwrap_or(history);
        if history > MOST_HISTORY {
            return Err(bad(format!("a history of {history} slots: expected at most {MOST_HISTORY}")));
        }
        Ok(Definition {
            when,
            to: to.to_string(),
            command,
            jitter: millis(jitter, "jitter")?,
            missed,
            within: within.map(|late| millis(late, "lateness")).transpose()?,
            overlap,
            history,
        })
    }
}

fn millis(time: Duration, what: &str) -> Result<i64> {
    let millis = i64::try_from(time.as_millis()).ok().filter(|millis| *millis <= LONGEST);
    millis.ok_or_else(|| bad(format!("a {what} of {time:?}: expected at most a hundred years")))
}

/// What is stored of a schedule. Field names are short because a million of them are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    #[serde(rename = "w")]
    pub(super) when: Spec,
    /// Who is told, as `kind/key`.
    #[serde(rename = "t")]
    pub(super) to: String,
    /// What, as JSON.
    #[serde(rename = "c")]
    pub(super) command: String,
    /// In milliseconds, as the other times here.
    #[serde(rename = "j", default, skip_serializing_if = "is_zero")]
    pub(super) jitter: i64,
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub(super) missed: Missed,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(super) within: Option<i64>,
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub(super) overlap: Overlap,
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub(super) history: usize,
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Definition {
    /// Whether the schedule has to be told how each run ended.
    pub(super) fn follows(&self) -> bool {
        let overlaps = self.overlap != Overlap::Allow && !matches!(self.when, Spec::Once(_));
        self.history > 0 || overlaps
    }

    /// How late a slot may be and still run, in milliseconds.
    pub(super) fn lateness(&self) -> i64 {
        match (self.within, self.missed) {
            (Some(within), _) => within,
            (None, Missed::Skip) => ON_TIME,
            (None, _) => i64::MAX,
        }
    }

    /// How many slots may run that are due at once.
    pub(super) fn most(&self) -> usize {
        match self.missed {
            Missed::All { most } => (most as usize).clamp(1, MOST_WAITING),
            Missed::Once | Missed::Skip => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn define(schedule: Schedule) -> Result<Definition> {
        schedule.define("bill/house".parse().unwrap(), "\"Reconcile\"".into(), 0)
    }

    #[test]
    fn stored_names_never_change() {
        let least = define(Schedule::once(1_767_225_600_000)).unwrap();
        let all = define(
            Schedule::cron("0 3 * * *")
                .zone("Europe/Berlin")
                .jitter(Duration::from_secs(60))
                .missed(Missed::All { most: 5 })
                .within(Duration::from_secs(3_600))
                .overlap(Overlap::Cancel)
                .history(20),
        )
        .unwrap();
        for (definition, stored) in [
            (least, r#"{"w":{"o":1767225600000},"t":"bill/house","c":"\"Reconcile\""}"#),
            (
                all,
                r#"{"w":{"c":{"x":"0 3 * * *","z":"Europe/Berlin"}},"t":"bill/house","c":"\"Reconcile\"","j":60000,"m":{"a":{"m":5}},"i":3600000,"o":"c","h":20}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&definition).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Definition>(stored).unwrap(), definition);
            // States are BSON.
            let bson = bson::serialize_to_vec(&definition).unwrap();
            assert_eq!(bson::deserialize_from_slice::<Definition>(&bson).unwrap(), definition);
        }
        let [skip, queue, allow] =
            [Overlap::Skip, Overlap::Queue, Overlap::Allow].map(|o| serde_json::to_string(&o).unwrap());
        assert_eq!([&*skip, &*queue, &*allow], [r#""s""#, r#""q""#, r#""a""#]);
        let missed = [Missed::Once, Missed::Skip].map(|missed| serde_json::to_string(&missed).unwrap());
        assert_eq!(missed, [r#""o""#, r#""s""#]);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_bounds() {
        let hour = || Schedule::cron("0 * * * *");
        for (bad, why) in [
            (Schedule::cron("0 99 * * *"), "the hour is \"99\""),
            (Schedule::cron("0 0 30 2 *"), "never comes"),
            (hour().zone("Mars/Olympus"), "there is no time zone \"Mars/Olympus\""),
            (Schedule::every(Duration::from_millis(10)), "expected 1000 ms"),
            (hour().missed(Missed::All { most: 0 }), "expected 1 to 1000"),
            (hour().history(201), "expected at most 200"),
            (hour().jitter(Duration::MAX), "at most a hundred years"),
            (Schedule::date("some day"), "expected one such as"),
        ] {
            let error = define(bad).unwrap_err();
            assert!(
                error.is_terminal() && error.has_code("bad_schedule") && error.to_string().contains(why),
                "{error}"
            );
        }
        let error = hour().define("a/b".parse().unwrap(), "x".repeat(COMMAND + 1), 0).unwrap_err();
        assert!(error.to_string().contains("expected at most 65536"), "{error}");
    }
}
