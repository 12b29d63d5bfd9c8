//! Schedules, described.

use serde_json::Value;
use utoipa::ToSchema;

/// A schedule. A list leaves out what is not required.
#[derive(ToSchema)]
pub(crate) struct ScheduleView {
    /// Its name.
    name: String,
    /// When its slots are: `cron` (`expression`, `zone`), `every` (`period_ms`, `from`) or `once` (`at`).
    when: Value,
    /// Who is told, `kind/key`.
    to: String,
    /// What.
    #[schema(required = true)]
    command: Value,
    /// How it stands: `active`, `paused`, `over` or `orphaned` (no node declares it any more).
    status: String,
    /// Who made it: `feature` or `actor`.
    origin: String,
    /// When the next slot fires, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    next_at: Option<i64>,
    /// The slot whose run has not ended, where runs must not overlap.
    #[schema(nullable = false)]
    running: Option<i64>,
    /// How many slots wait for it to end.
    waiting: u32,
    /// How many slots began, ever.
    taken: i64,
    /// How many were left out, ever: missed, or while another ran.
    left_out: i64,
    /// What happens with slots whose time passed while nobody could take them: `once`, `all` or `skip`.
    #[schema(nullable = false)]
    missed: Option<String>,
    /// How many of them run, if all do.
    #[schema(nullable = false)]
    missed_most: Option<u32>,
    /// How late a slot may be and still run, in milliseconds.
    #[schema(nullable = false)]
    within_ms: Option<i64>,
    /// What happens when a slot comes while another runs: `skip`, `queue`, `cancel` or `allow`.
    #[schema(nullable = false)]
    overlap: Option<String>,
    /// How much later than its slot it fires, at most, in milliseconds.
    #[schema(nullable = false)]
    jitter_ms: Option<i64>,
    /// When the next slots fire.
    #[schema(nullable = false)]
    next: Option<Vec<i64>>,
    /// The last slots, newest first.
    #[schema(nullable = false)]
    history: Option<Vec<PastView>>,
}

/// What became of a slot, or of several in a row.
#[derive(ToSchema)]
pub(crate) struct PastView {
    /// The slot; the last one of several.
    slot: i64,
    /// Whether somebody wanted it, instead of the clock.
    wanted: bool,
    /// `begun`, `completed`, `failed`, `dead_lettered`, `cancelled`, `missed` or `skipped`.
    outcome: String,
    /// How many slots were left out.
    #[schema(nullable = false)]
    slots: Option<i64>,
    /// When its command was told, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    begun_at: Option<i64>,
    /// How long it took from then until it ended, in milliseconds.
    #[schema(nullable = false)]
    took_ms: Option<i64>,
    /// Attempts it took.
    #[schema(nullable = false)]
    attempts: Option<i64>,
}

/// A page of schedules.
#[derive(ToSchema)]
pub(crate) struct SchedulePage {
    items: Vec<ScheduleView>,
    /// Where the next page starts; absent on the last.
    #[schema(nullable = false)]
    cursor: Option<String>,
}
