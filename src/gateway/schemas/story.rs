//! The story of a request, as an OpenAPI schema.

use serde_json::Value;
use utoipa::ToSchema;

use super::{FailureView, RequestState};

/// All that happened to a request. Times are milliseconds since the Unix epoch.
#[derive(ToSchema)]
pub(crate) struct StoryView {
    /// Its id.
    #[schema(format = "uuid")]
    request: String,
    /// The actor, `kind/key`; not known of one that has ended.
    #[schema(nullable = false)]
    to: Option<String>,
    /// The command; not known of one that has ended.
    #[schema(required = false)]
    command: Value,
    status: RequestState,
    /// Attempts begun.
    attempts: u32,
    /// The build that began it.
    #[schema(nullable = false)]
    build: Option<String>,
    /// When it was accepted.
    #[schema(nullable = false)]
    accepted_at: Option<i64>,
    /// When the first of its journal was written.
    #[schema(nullable = false)]
    began_at: Option<i64>,
    /// When the next attempt is due.
    #[schema(nullable = false)]
    next_attempt_at: Option<i64>,
    /// When it ended.
    #[schema(nullable = false)]
    ended_at: Option<i64>,
    /// The reply, when completed.
    #[schema(required = false)]
    result: Value,
    /// The last failure.
    #[schema(nullable = false)]
    error: Option<FailureView>,
    /// What it did, in the order in which it began that.
    entries: Vec<LineView>,
    /// What it waits for now.
    waits_for: Vec<WaitView>,
    /// Whether journals of calls were left out because there are too many.
    #[schema(nullable = false)]
    truncated: Option<bool>,
}

/// One thing that a command did, or that happened to it.
#[derive(ToSchema)]
pub(crate) struct LineView {
    kind: LineKind,
    /// Of a step, a signal, a value or a change; the address asked.
    #[schema(nullable = false)]
    name: Option<String>,
    status: LineStatus,
    /// When it began.
    #[schema(nullable = false)]
    began_at: Option<i64>,
    /// When it ended.
    #[schema(nullable = false)]
    ended_at: Option<i64>,
    /// How long it took, in milliseconds.
    #[schema(nullable = false)]
    ms: Option<i64>,
    /// When it ends at the latest, or is tried again.
    #[schema(nullable = false)]
    until: Option<i64>,
    /// Attempts of a step.
    #[schema(nullable = false)]
    attempts: Option<u32>,
    /// What it answered.
    #[schema(required = false)]
    result: Value,
    /// Why it failed.
    #[schema(nullable = false)]
    failure: Option<FailureView>,
    /// Whether it takes something back.
    #[schema(nullable = false)]
    undoes: Option<bool>,
    /// The request that answered.
    #[schema(nullable = false, format = "uuid")]
    from: Option<String>,
    /// Its story, if it has a journal: again as this one.
    #[schema(nullable = false, value_type = Option<Object>)]
    calls: Option<Value>,
}

/// What a line is about: `value` is `cx.now`, `cx.random` or `cx.uuid`.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum LineKind {
    Step,
    Ask,
    Sleep,
    Signal,
    Value,
    Version,
    Cancel,
    Undo,
    Unreadable,
}

/// How far it is: `dropped` has not ended, and is not waited for any more.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum LineStatus {
    Waiting,
    Retrying,
    Done,
    Failed,
    Dropped,
}

/// Something that a command waits for.
#[derive(ToSchema)]
pub(crate) struct WaitView {
    kind: LineKind,
    /// The step, the address asked, or the signal.
    #[schema(nullable = false)]
    name: Option<String>,
    /// The id of the signal, for `POST /signals/{id}`.
    #[schema(nullable = false)]
    signal: Option<String>,
    /// Since when.
    #[schema(nullable = false)]
    since: Option<i64>,
    /// Until when, at the latest.
    #[schema(nullable = false)]
    until: Option<i64>,
}
