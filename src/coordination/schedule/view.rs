//! A schedule as operators see it, over HTTP and on the command line.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    course::{By, Course, Outcome, Past},
    definition::{Definition, Missed, Overlap},
    slots::fires,
    spec::{Spec, When},
};

/// How many of the next slots are shown.
const NEXT: usize = 5;

/// A schedule. Times are milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When its slots are.
    pub when: WhenView,
    /// Who is told, `kind/key`.
    pub to: String,
    /// What.
    pub command: Box<RawValue>,
    /// How it stands.
    pub status: Standing,
    /// Who made it: `feature` or `actor`.
    pub origin: &'static str,
    /// When the next slot fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<i64>,
    /// The slot whose run has not ended, where runs must not overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<i64>,
    /// How many slots wait for it to end.
    pub waiting: usize,
    /// How many slots began, ever.
    pub taken: i64,
    /// How many were left out, ever: missed, or while another ran.
    pub left_out: i64,
    /// What was not shown in a list.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
}

/// When slots are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenView {
    /// A cron expression in a zone.
    Cron {
        /// The expression.
        expression: String,
        /// The zone.
        zone: String,
    },
    /// An interval.
    Every {
        /// Between two slots, in milliseconds.
        period_ms: i64,
        /// The first one.
        from: i64,
    },
    /// Once.
    Once {
        /// When.
        at: i64,
    },
}

/// How a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its next slot comes.
    Active,
    /// It takes no slots until it is resumed.
    Paused,
    /// It has no slots any more.
    Over,
    /// No node declares it any more.
    Orphaned,
}

/// What is shown of one schedule besides what lists show.
#[derive(Debug, Serialize)]
pub struct More {
    /// What happens with slots whose time passed while nobody could take them: `once`, `all` or `skip`.
    pub missed: &'static str,
    /// How many of them run, if all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_most: Option<u32>,
    /// How late a slot may be and still run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<i64>,
    /// What happens when a slot comes while another runs: `skip`, `queue`, `cancel` or `allow`.
    pub overlap: &'static str,
    /// How much later than its slot it fires, at most, in milliseconds.
    pub jitter_ms: i64,
    /// When the next slots fire.
    pub next: Vec<i64>,
    /// The last slots, newest first.
    pub history: Vec<PastView>,
}

/// What became of a slot, or of several in a row.
#[derive(Debug, Serialize)]
pub struct PastView {
    /// The slot; the last one of several.
    pub slot: i64,
    /// Whether somebody wanted it, instead of the clock.
    pub wanted: bool,
    /// What became of it: `begun`, `completed`, `failed`, `dead_lettered`, `cancelled`, `missed`, `skipped`.
    pub outcome: &'static str,
    /// How many slots were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<i64>,
    /// When its command was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<i64>,
    /// How long it took from then until it ended, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
    /// Attempts it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
}

/// What is shown of a schedule, in full or as in a list.
pub(super) fn view(name: String, course: &Course, full: bool) -> ScheduleView {
    let Definition { when: spec, to, command, jitter, missed, within, overlap, .. } = &course.definition;
    let when = spec.read().ok();
    let next = when.iter().flat_map(|when| upcoming(course, when, &name, *jitter));
    let next: Vec<i64> = next.take(if full { NEXT } else { 1 }).collect();
    let more = full.then(|| More {
        missed: match missed {
            Missed::Once => "once",
            Missed::All { .. } => "all",
            Missed::Skip => "skip",
        },
        missed_most: match missed {
            Missed::All { most } => Some(*most),
            _ => None,
        },
        within_ms: (*within).or(Some(course.definition.lateness()).filter(|late| *late < i64::MAX)),
        overlap: match overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Cancel => "cancel",
            Overlap::Allow => "allow",
        },
        jitter_ms: *jitter,
        next: next.clone(),
        history: course.history.iter().rev().map(past).collect(),
    });
    ScheduleView {
        when: match spec {
            Spec::Cron { text, zone } => {
                WhenView::Cron { expression: text.clone(), zone: zone.as_deref().unwrap_or("UTC").to_owned() }
            }
            Spec::Every { period, from } => WhenView::Every { period_ms: *period, from: *from },
            Spec::Once(at) => WhenView::Once { at: *at },
        },
        name,
        to: to.clone(),
        // It was JSON when it was defined.
        command: RawValue::from_string(command.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        status: match (course.by, course.paused, course.next) {
            (By::Orphan, ..) => Standing::Orphaned,
            (_, true, _) => Standing::Paused,
            (_, _, None) => Standing::Over,
            _ => Standing::Active,
        },
        origin: if course.by == By::Actor { "actor" } else { "feature" },
        next_at: next.first().copied(),
        running: course.running.map(|run| run.slot),
        waiting: course.waiting.len(),
        taken: course.taken,
        left_out: course.left_out,
        more,
    }
}

/// When the next slots fire, unless it is paused.
fn upcoming(course: &Course, when: &When, name: &str, jitter: i64) -> impl Iterator<Item = i64> {
    let slots = std::iter::successors(course.next.filter(|_| !course.paused), |slot| when.next(*slot));
    slots.map(move |slot| fires(name, slot, when.next(slot), jitter))
}

fn past(past: &Past) -> PastView {
    let left_out = matches!(past.outcome, Outcome::Missed | Outcome::Skipped);
    let ended = Some(past).filter(|past| past.ended > 0);
    PastView {
        slot: past.run.slot,
        wanted: past.run.wanted,
        outcome: match past.outcome {
            Outcome::Begun => "begun",
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::DeadLettered => "dead_lettered",
            Outcome::Cancelled => "cancelled",
            Outcome::Missed => "missed",
            Outcome::Skipped => "skipped",
        },
        slots: left_out.then_some(past.number),
        begun_at: Some(past.begun).filter(|at| *at > 0),
        took_ms: ended.map(|past| (past.ended - past.begun).max(0)),
        attempts: ended.map(|past| past.number),
    }
}
