//! Where a schedule is on its way: what is stored of it between two slots.
//!
//! Invariant: every slot up to `last` is settled: begun, left out by a policy, or passed while the schedule
//! did not run; none after it is.

use serde::{Deserialize, Serialize};

use super::{
    definition::{Definition, is_default},
    spec::is_zero,
};

/// The state of a schedule's actor: `None` when there is no such schedule.
pub(crate) type State = Option<Course>;

/// A schedule on its way. Times are milliseconds since the Unix epoch; field names are short because a
/// million of them are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Course {
    #[serde(rename = "d")]
    pub(super) definition: Definition,
    /// Who made it.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub(super) by: By,
    /// The next slot.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<i64>,
    /// When the one timer is due that counts; any other is left over from before a change.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(super) armed: Option<i64>,
    /// The newest slot that is settled.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<i64>,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub(super) paused: bool,
    /// What runs, where runs must not overlap.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) running: Option<Run>,
    /// What waits for it to end.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) waiting: Vec<Run>,
    /// The last slots, oldest first.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<Past>,
    /// How many slots began, ever.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub(super) taken: i64,
    /// How many slots were left out, ever: missed, or while another ran.
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    pub(super) left_out: i64,
}

/// Who made a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum By {
    /// An actor or a program, at run time: it is forgotten when it has no slots any more.
    #[default]
    #[serde(rename = "a")]
    Actor,
    /// A feature declares it.
    #[serde(rename = "f")]
    Feature,
    /// A feature did; no node declares it any more.
    #[serde(rename = "o")]
    Orphan,
}

/// One run of what a schedule tells: a slot, or the moment when somebody wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    #[serde(rename = "s")]
    pub(super) slot: i64,
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub(super) wanted: bool,
}

impl Run {
    /// A number that no other run of the schedule has.
    pub(super) fn tag(self) -> u64 {
        (self.slot as u64) << 1 | u64::from(self.wanted)
    }
}

/// What became of a slot, or of several in a row that were left out for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    #[serde(flatten)]
    pub(super) run: Run,
    #[serde(rename = "o")]
    pub(super) outcome: Outcome,
    /// When its command was told.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub(super) begun: i64,
    /// When that ended.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub(super) ended: i64,
    /// Attempts it took; or how many slots, where they were left out.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub(super) number: i64,
}

/// How a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Its command was told and has not ended, or nobody is told when it does.
    #[serde(rename = "b")]
    Begun,
    #[serde(rename = "c")]
    Completed,
    #[serde(rename = "f")]
    Failed,
    #[serde(rename = "d")]
    DeadLettered,
    #[serde(rename = "x")]
    Cancelled,
    /// Nobody could take it in time.
    #[serde(rename = "m")]
    Missed,
    /// An earlier one had not ended.
    #[serde(rename = "s")]
    Skipped,
}

impl Course {
    pub(super) fn new(definition: Definition, by: By) -> Self {
        Self {
            definition,
            by,
            next: None,
            armed: None,
            last: None,
            paused: false,
            running: None,
            waiting: Vec::new(),
            history: Vec::new(),
            taken: 0,
            left_out: 0,
        }
    }

    /// Remembers, and forgets the oldest.
    pub(super) fn remember(&mut self, past: Past) {
        self.history.push(past);
        let over = self.history.len().saturating_sub(self.definition.history);
        self.history.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::spec::Spec, *};

    fn definition() -> Definition {
        let schedule = super::super::definition::Schedule::once(1_767_225_600_000);
        schedule.define("customer/ann".parse().unwrap(), "\"Remind\"".into(), 0).unwrap()
    }

    #[test]
    fn stored_names_never_change() {
        let mut course = Course::new(definition(), By::Actor);
        course.next = Some(1_767_225_600_000);
        course.armed = course.next;
        let json = |course: &Course| serde_json::to_string(course).unwrap();
        assert_eq!(
            json(&course),
            r#"{"d":{"w":{"o":1767225600000},"t":"customer/ann","c":"\"Remind\""},"n":1767225600000,"a":1767225600000}"#
        );
        course.definition.when = Spec::Once(5);
        course.definition.history = 3;
        let run = Run { slot: 7, wanted: true };
        course.by = By::Orphan;
        (course.last, course.paused, course.running) = (Some(6), true, Some(run));
        course.waiting.push(Run { slot: 8, wanted: false });
        (course.taken, course.left_out) = (1, 2);
        course.remember(Past { run, outcome: Outcome::Completed, begun: 9, ended: 10, number: 1 });
        let stored = r#"{"d":{"w":{"o":5},"t":"customer/ann","c":"\"Remind\"","h":3},"b":"o","n":1767225600000,"a":1767225600000,"l":6,"p":true,"r":{"s":7,"w":true},"q":[{"s":8}],"h":[{"s":7,"w":true,"o":"c","b":9,"e":10,"n":1}],"t":1,"m":2}"#;
        assert_eq!(json(&course), stored);
        assert_eq!(serde_json::from_str::<Course>(stored).unwrap(), course);
        let bson = bson::serialize_to_vec(&course).unwrap();
        assert_eq!(bson::deserialize_from_slice::<Course>(&bson).unwrap(), course);
    }

    #[test]
    fn a_reminder_is_small() {
        let mut course = Course::new(definition(), By::Actor);
        (course.next, course.armed) = (Some(1_767_225_600_000), Some(1_767_225_600_000));
        let bytes = crate::backend::document::encode(&Some(course), usize::MAX).unwrap().len();
        assert!(bytes <= 128, "{bytes} bytes");
    }
}
