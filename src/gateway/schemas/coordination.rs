//! What batches, pauses and locks answer with.

use super::*;

/// A member of a batch that did not complete.
#[derive(ToSchema)]
pub(crate) struct FailedView {
    /// Its actor, `kind/key`.
    to: String,
    /// Its request.
    #[schema(format = "uuid")]
    request: String,
    /// How it ended: `failed`, `cancelled`, `dead_lettered`.
    status: String,
    /// The code of its error.
    #[schema(nullable = false)]
    code: Option<String>,
    /// The beginning of its message.
    #[schema(nullable = false)]
    message: Option<String>,
}

/// How far a batch is.
#[derive(ToSchema)]
pub(crate) struct BatchView {
    /// Its id.
    batch: String,
    /// Its name.
    name: String,
    /// `open`, `running`, `cancelling` or `done`.
    status: String,
    /// How many members it has.
    #[schema(minimum = 0)]
    total: i64,
    /// How many have not ended.
    #[schema(minimum = 0)]
    waiting: i64,
    /// How many completed.
    #[schema(minimum = 0)]
    completed: i64,
    /// How many failed.
    #[schema(minimum = 0)]
    failed: i64,
    /// How many are dead letters.
    #[schema(minimum = 0)]
    dead_lettered: i64,
    /// How many were cancelled.
    #[schema(minimum = 0)]
    cancelled: i64,
    /// Some of those that did not complete.
    failures: Vec<FailedView>,
    /// When it was made, in milliseconds since the Unix epoch.
    made_at: i64,
    /// When all had ended, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    ended_at: Option<i64>,
}

/// A kind or a key that is paused.
#[derive(ToSchema)]
pub(crate) struct PauseView {
    kind: String,
    /// Only this key of it; absent when the whole kind is.
    #[schema(nullable = false)]
    key: Option<String>,
    /// Since when, in milliseconds since the Unix epoch.
    since: i64,
}

/// All that is paused.
#[derive(ToSchema)]
pub(crate) struct PausedView {
    items: Vec<PauseView>,
}

/// Whether it was otherwise before.
#[derive(ToSchema)]
pub(crate) struct ChangedView {
    changed: bool,
}

/// What became of the wish to cancel everything.
#[derive(ToSchema)]
pub(crate) struct SweptView {
    /// How many are cancelled.
    #[schema(minimum = 0)]
    cancelled: u64,
    /// How many had begun, or were asked for by others, and are told to end.
    #[schema(minimum = 0)]
    asked: u64,
    /// Whether more of them may be left: ask again.
    more: bool,
}

/// A lock, as whoever takes it sees it.
#[derive(ToSchema)]
pub(crate) struct LockView {
    /// Its name.
    lock: String,
    /// Whoever takes it.
    id: String,
    /// The fencing token, when it is taken: each holder has a higher one than all before.
    #[schema(nullable = false)]
    token: Option<u64>,
    /// The value of `Fencing-Token` for what is posted under the lock, when it is taken.
    #[schema(nullable = false)]
    fencing_token: Option<String>,
    /// How many are before whoever asks, when it waits.
    #[schema(nullable = false)]
    before: Option<u64>,
}

/// A lock that somebody has.
#[derive(ToSchema)]
pub(crate) struct HeldView {
    /// Its name.
    lock: String,
    /// The fencing token of whoever has it.
    token: i64,
    /// Who has it.
    id: String,
    /// Since when, in milliseconds since the Unix epoch.
    since: i64,
    /// How long it is good for without being renewed; absent for a command.
    #[schema(nullable = false)]
    lease_ms: Option<i64>,
    /// The actor of the command that has it.
    #[schema(nullable = false)]
    actor: Option<String>,
    /// The request of the command that has it.
    #[schema(nullable = false, format = "uuid")]
    request: Option<String>,
    /// The node where it was taken; absent for a command.
    #[schema(nullable = false)]
    node: Option<i64>,
    /// How many wait.
    waiting: u64,
}

/// A page of locks that somebody has.
#[derive(ToSchema)]
pub(crate) struct LocksView {
    items: Vec<HeldView>,
    /// Where the next page starts; absent on the last.
    #[schema(nullable = false)]
    cursor: Option<String>,
}
