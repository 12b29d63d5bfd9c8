//! Topics, as OpenAPI schemas.

use serde_json::Value;
use utoipa::ToSchema;

/// All topics, by name.
#[derive(ToSchema)]
pub(crate) struct TopicPage {
    items: Vec<TopicView>,
}

/// How a topic stands.
#[derive(ToSchema)]
pub(crate) struct TopicView {
    /// Its name.
    topic: String,
    /// How many shards it has.
    shards: u16,
    /// Events that were ever published.
    events: u64,
    /// Events that are kept.
    kept: u64,
    /// Their bytes.
    bytes: u64,
    /// When the newest one came, in milliseconds since the Unix epoch.
    #[schema(nullable = false)]
    last_at: Option<i64>,
    /// Its groups, by name.
    groups: Vec<TopicGroupView>,
}

/// How a group of subscribers stands.
#[derive(ToSchema)]
pub(crate) struct TopicGroupView {
    /// Its name.
    group: String,
    /// What it does, in the shard where it does least.
    status: TopicGroupState,
    /// Events that it has not had.
    lag: u64,
    /// How long the oldest of them has been there, in milliseconds.
    lag_ms: i64,
    /// Why it does not go on.
    #[schema(nullable = false)]
    why: Option<String>,
}

/// From the best on.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum TopicGroupState {
    Live,
    CatchingUp,
    Waiting,
    Paused,
}

/// Some events of a topic.
#[derive(ToSchema)]
pub(crate) struct TopicEventsView {
    /// The events; those of one key in order.
    items: Vec<TopicEventView>,
    /// Where to go on.
    cursor: String,
    /// How many before them were gone already.
    missed: u64,
}

/// One event.
#[derive(ToSchema)]
pub(crate) struct TopicEventView {
    /// Where to go on after it.
    cursor: String,
    /// Which shard it is in.
    shard: u16,
    /// Its number there, from 1.
    sequence: u64,
    /// When the topic took it, in milliseconds since the Unix epoch.
    at: i64,
    /// What it is about.
    key: String,
    /// What was published.
    value: Value,
}
