//! The JSON the gateway answers with, as OpenAPI schemas. They only describe: what is described
//! is serialized elsewhere, and a test holds both against each other.

#![allow(dead_code, reason = "read by the OpenAPI document only")]

pub(crate) mod connections;
mod coordination;
mod schedule;
mod story;
mod topics;

use std::collections::HashMap;

use serde_json::Value;
use utoipa::ToSchema;

pub(crate) use connections::{ConnectionsView, DisconnectedView};
pub(crate) use coordination::{BatchView, ChangedView, LockView, LocksView, PausedView, SweptView};
#[cfg(test)]
pub(crate) use coordination::{FailedView, HeldView, PauseView};
#[cfg(test)]
pub(crate) use schedule::PastView;
pub(crate) use schedule::{SchedulePage, ScheduleView};
pub(crate) use story::StoryView;
#[cfg(test)]
pub(crate) use story::{LineView, WaitView};
#[cfg(test)]
pub(crate) use topics::{TopicEventView, TopicGroupView};
pub(crate) use topics::{TopicEventsView, TopicPage, TopicView};

/// How a request stands.
#[derive(ToSchema)]
pub(crate) struct RequestView {
    /// Its id.
    #[schema(format = "uuid")]
    request: String,
    status: RequestState,
    /// Attempts begun.
    attempts: u32,
    /// The reply, when completed.
    #[schema(required = false)]
    result: Value,
    /// The last failure.
    #[schema(nullable = false)]
    error: Option<FailureView>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    accepted_at: Option<i64>,
    /// When the next attempt is due, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    next_attempt_at: Option<i64>,
    /// When it ended, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    ended_at: Option<i64>,
}

/// One server-sent event, its fields taken apart.
#[derive(ToSchema)]
pub(crate) struct EventView {
    /// Always `status`.
    event: String,
    /// To go on after it, by `Last-Event-ID`.
    id: String,
    /// How long to wait before connecting again, in milliseconds.
    retry: u32,
    /// The request, as JSON.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// In the order of a request's life.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum RequestState {
    Accepted,
    Processing,
    Completed,
    Failed,
    DeadLettered,
    Cancelled,
}

/// One failure of one attempt.
#[derive(ToSchema)]
pub(crate) struct FailureView {
    /// Machine-readable name.
    code: String,
    /// What went wrong.
    message: String,
    /// What caused it, outermost first.
    #[schema(nullable = false)]
    causes: Option<Vec<String>>,
    /// Whether trying again was pointless.
    terminal: bool,
    /// Which attempt failed, from 1.
    attempt: u32,
    /// When, in milliseconds since the Unix epoch.
    at: i64,
}

/// The promise that something will be done, with where to look; a feature adds members and links.
#[derive(ToSchema)]
pub(crate) struct PromiseView {
    /// The id of the request.
    #[schema(format = "uuid")]
    request: String,
    status: RequestState,
    /// Where to look: `self`, `events`, and what the feature adds.
    links: HashMap<String, String>,
}

/// A signal that was taken.
#[derive(ToSchema)]
pub(crate) struct SignalView {
    /// The request that waits for it, or will.
    #[schema(format = "uuid")]
    request: String,
    /// Its name there.
    signal: String,
    /// Where to look: `self`.
    links: HashMap<String, String>,
}

/// An error answer (RFC 9457), with members of its own for some types.
#[derive(ToSchema)]
pub(crate) struct ProblemView {
    /// What kind of problem: a page explains it.
    #[schema(rename = "type", format = "uri-reference")]
    class: String,
    /// The kind in one line.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is the matter this time.
    #[schema(nullable = false)]
    detail: Option<String>,
    /// Where it happened.
    #[schema(nullable = false)]
    instance: Option<String>,
    /// Each thing that is wrong with what was sent.
    #[schema(nullable = false)]
    errors: Option<Vec<FaultView>>,
}

/// One thing that is wrong, in a field, a parameter or a header.
#[derive(ToSchema)]
pub(crate) struct FaultView {
    /// A JSON pointer into the body.
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// A parameter of the path or the query.
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// A header.
    #[schema(nullable = false)]
    header: Option<String>,
    /// What is wrong with it.
    reason: String,
}

/// A message that was given up.
#[derive(ToSchema)]
pub(crate) struct DeadLetterView {
    /// Its id: also that of the request.
    #[schema(format = "uuid")]
    id: String,
    /// The receiving actor, `kind/key`; absent when the message cannot be read.
    #[schema(nullable = false)]
    to: Option<String>,
    /// The command; absent when the message cannot be read.
    #[schema(required = false)]
    command: Value,
    /// The bytes of a message that cannot be read.
    #[schema(nullable = false)]
    raw: Option<String>,
    /// Attempts begun.
    attempts: u32,
    /// Every recorded failure, oldest first.
    failures: Vec<FailureView>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    accepted_at: Option<i64>,
    /// When it was given up, in milliseconds since the Unix epoch.
    died_at: i64,
    /// The trace it belongs to, as a `traceparent`.
    #[schema(nullable = false)]
    trace: Option<String>,
    /// The id of the message whose handler sent it.
    #[schema(nullable = false, format = "uuid")]
    cause: Option<String>,
}

/// A page of dead letters.
#[derive(ToSchema)]
pub(crate) struct DeadLetterPage {
    items: Vec<DeadLetterView>,
    /// Where the next page starts; absent on the last.
    #[schema(nullable = false)]
    cursor: Option<String>,
}

/// How many dead letters an operation met.
#[derive(ToSchema)]
pub(crate) struct CountView {
    /// How many.
    #[schema(minimum = 0)]
    count: u64,
    /// Whether more of them may be left: ask again.
    more: bool,
}

/// The ledger: `accepted` is the sum of the others.
#[derive(ToSchema)]
pub(crate) struct LedgerView {
    accepted: u64,
    completed: u64,
    failed: u64,
    dead: u64,
    cancelled: u64,
    /// Accepted, and lost by a server that had not synced them.
    lost: u64,
    in_flight: i64,
}

/// A process that shares the store.
#[derive(ToSchema)]
pub(crate) struct NodeView {
    /// Its number: never used before and never again.
    id: u64,
    /// Whether it is the one that answers.
    me: bool,
    /// The URL of its gateway; null when it has none.
    #[schema(required = true)]
    listen: Option<String>,
    /// Its process id.
    pid: u32,
    /// Its build.
    version: String,
    /// When it joined, in milliseconds since the Unix epoch, by its own clock.
    since: i64,
    /// The partitions it owns.
    partitions: Vec<u16>,
}

/// All nodes.
#[derive(ToSchema)]
pub(crate) struct NodesView {
    items: Vec<NodeView>,
}

/// A partition, its owner, and its part of the ledger.
#[derive(ToSchema)]
pub(crate) struct PartitionView {
    /// Its number.
    partition: u16,
    /// The node that owns it; null when nobody does.
    #[schema(required = true)]
    node: Option<u64>,
    /// Which owner in its history that is.
    epoch: u64,
    /// Messages in it that have not ended.
    in_flight: i64,
    /// Bytes waiting in its mailbox.
    bytes: u64,
    accepted: u64,
    completed: u64,
    failed: u64,
    dead: u64,
    cancelled: u64,
    /// Accepted, and lost by a server that had not synced them.
    lost: u64,
}

/// All partitions, by number.
#[derive(ToSchema)]
pub(crate) struct PartitionsView {
    items: Vec<PartitionView>,
}

/// A session of a user.
#[derive(ToSchema)]
pub(crate) struct SessionView {
    /// What it is called; it opens nothing.
    id: String,
    /// When it was opened, in milliseconds since the Unix epoch.
    created: i64,
    /// When it was used last, within a tenth of `session.idle`, in milliseconds since the Unix epoch.
    seen: i64,
    /// When it ends unless it is used, in milliseconds since the Unix epoch.
    until: i64,
    /// What the client says of itself.
    agent: String,
}

/// The sessions of a user.
#[derive(ToSchema)]
pub(crate) struct SessionsView {
    items: Vec<SessionView>,
}

/// How many were ended.
#[derive(ToSchema)]
pub(crate) struct EndedView {
    /// How many.
    #[schema(minimum = 0)]
    count: u64,
}

/// The ledger held against what is there.
#[derive(ToSchema)]
pub(crate) struct AuditView {
    accepted: u64,
    completed: u64,
    failed: u64,
    dead: u64,
    cancelled: u64,
    /// Accepted, and lost by a server that had not synced them.
    lost: u64,
    in_flight: u64,
    /// Whether everything adds up.
    balanced: bool,
    /// What does not.
    mismatches: Vec<MismatchView>,
}

/// Something that does not add up.
#[derive(ToSchema)]
pub(crate) struct MismatchView {
    /// In which partition.
    partition: u16,
    /// What was found and what was expected.
    what: String,
    /// The messages it is about, as far as they can be named.
    messages: Vec<String>,
}
