//! Topics over HTTP: how they and their groups stand, steering a group, reading events.
//! Invariant: an operation that repeats events says from when; an empty body never means all.

use actix_web::{HttpRequest, HttpResponse, delete, get, http::header, post};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    admin::Admin,
    events,
    extract::{Valid, ValidPath, ValidQuery},
    problem::{Place, Problem},
    problems::MALFORMED_QUERY,
    schemas::{TopicEventsView, TopicPage, TopicView},
    topic_events,
};
use crate::{
    coordination::topic::{
        Steer,
        read::{Cursor, Events},
        view,
    },
    runtime::node::Node,
};

/// Lists topics, by name, with their groups.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The topics", body = TopicPage)))]
#[get("/admin/topics")]
pub(crate) async fn list(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Items { items: node.topics().await? }))
}

#[derive(Serialize)]
struct Items {
    items: Vec<view::TopicView>,
}

/// Shows one topic with its groups.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "Its name")),
    responses((status = 200, description = "The topic", body = TopicView))
)]
#[get("/admin/topics/{topic}")]
pub(crate) async fn show(_: Admin, node: Node, topic: ValidPath<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(node.topic(&topic).await?.ok_or_else(unknown)?))
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Reading {
    /// After the event of this cursor, or `now`; from the oldest event that is kept when not said.
    #[garde(length(min = 1, max = 1400))]
    #[param(min_length = 1, max_length = 1400, example = "0")]
    after: Option<String>,
    /// How many at most, 100 when not said.
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Reads the events of a topic, a page at a time, or as server-sent events as they come.
///
/// Nobody remembers who reads: where to go on is in the `cursor`, or in the `id` of an event, which an event
/// source sends as `Last-Event-ID`. Events of one key are in order.
#[utoipa::path(
    tag = "admin",
    params(
        ("topic" = String, Path, description = "Its name"),
        Reading,
        ("Last-Event-ID" = Option<String>, Header, description = "The last event seen, sent by a reconnecting event source"),
    ),
    responses((status = 200, description = "Events", content((TopicEventsView = "application/json"), (String = "text/event-stream"))))
)]
#[get("/admin/topics/{topic}/events")]
pub(crate) async fn read(
    _: Admin,
    req: HttpRequest,
    node: Node,
    topic: ValidPath<String>,
    query: ValidQuery<Reading>,
) -> Result<HttpResponse, Problem> {
    let Reading { after, limit } = query.0;
    let streams = events::wanted(req.headers());
    let seen = req.headers().get("last-event-id").filter(|_| streams);
    let (place, after) = match seen {
        Some(seen) => (Place::Header("Last-Event-ID".to_owned()), Some(seen.to_str().unwrap_or("?").to_owned())),
        None => (Place::Parameter("after".to_owned()), after),
    };
    let cursor = match after.as_deref() {
        None => Cursor::default(),
        Some("now") => node.events_now(&topic).await?,
        Some(text) => {
            text.parse().map_err(|error: crate::Error| Problem::of(&MALFORMED_QUERY).fault(place, error.to_string()))?
        }
    };
    if streams {
        return topic_events::open(&req, topic.0, cursor).await;
    }
    let events: Events = node.events(&topic, &cursor, limit.unwrap_or(100)).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(events))
}

/// Pauses a group: what comes is kept for it.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "How the topic stands now", body = TopicView))
)]
#[post("/admin/topics/{topic}/groups/{group}/pause")]
pub(crate) async fn pause(_: Admin, node: Node, of: ValidPath<(String, String)>) -> Result<HttpResponse, Problem> {
    steer(&node, &of.0, Steer::Pause).await
}

/// Lets a group go on where it was.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "How the topic stands now", body = TopicView))
)]
#[post("/admin/topics/{topic}/groups/{group}/resume")]
pub(crate) async fn resume(_: Admin, node: Node, of: ValidPath<(String, String)>) -> Result<HttpResponse, Problem> {
    steer(&node, &of.0, Steer::Resume).await
}

/// Lets a group go on with what comes now: it does not get what it has not had.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "How the topic stands now", body = TopicView))
)]
#[post("/admin/topics/{topic}/groups/{group}/skip")]
pub(crate) async fn skip(_: Admin, node: Node, of: ValidPath<(String, String)>) -> Result<HttpResponse, Problem> {
    steer(&node, &of.0, Steer::Skip).await
}

/// From when a group gets events again: one of the two.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// Since this time, in milliseconds since the Unix epoch.
    #[garde(range(min = 0))]
    #[schema(minimum = 0, nullable = false)]
    since: Option<i64>,
    /// All that are kept.
    #[garde(skip)]
    #[serde(default)]
    all: bool,
}

/// Gives a group events once more that it has had.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("group" = String, Path, description = "The group")),
    request_body = Replay,
    responses((status = 200, description = "How the topic stands now", body = TopicView))
)]
#[post("/admin/topics/{topic}/groups/{group}/replay")]
pub(crate) async fn replay(
    _: Admin,
    node: Node,
    of: ValidPath<(String, String)>,
    from: Valid<Replay>,
) -> Result<HttpResponse, Problem> {
    let Replay { since, all } = from.0;
    if since.is_some() == all {
        return Err(Problem::invalid("", "expected exactly one of: since, all = true"));
    }
    steer(&node, &of.0, Steer::Replay { since }).await
}

/// Forgets a group that no build declares any more.
#[utoipa::path(
    tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "How the topic stands now", body = TopicView))
)]
#[delete("/admin/topics/{topic}/groups/{group}")]
pub(crate) async fn forget(_: Admin, node: Node, of: ValidPath<(String, String)>) -> Result<HttpResponse, Problem> {
    steer(&node, &of.0, Steer::Forget).await
}

async fn steer(node: &Node, (topic, group): &(String, String), how: Steer) -> Result<HttpResponse, Problem> {
    match node.steer_topic(topic, group, how).await {
        Err(error) if error.has_code("unknown_group") => Err(Problem::not_found("There is no group of that name.")),
        done => done.map_err(Problem::from),
    }?;
    Ok(HttpResponse::Ok().json(node.topic(topic).await?.ok_or_else(unknown)?))
}

pub(super) fn unknown() -> Problem {
    Problem::not_found("There is no topic of that name.")
}
