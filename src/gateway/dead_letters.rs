//! Dead letters over HTTP: list, show, redrive, discard.
//! Invariant: an operation on many says which it means; an empty body never means all.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{json, value::RawValue};
use utoipa::{IntoParams, ToSchema};

use super::{
    admin::Admin,
    extract::{Valid, ValidQuery},
    problem::{Place, Problem},
    problems::MALFORMED_QUERY,
    requests::parse,
    schemas::{CountView, DeadLetterPage, DeadLetterView},
    shared::Shared,
};
use crate::{
    backend::{Dead, DeadFilter},
    envelope::Position,
    error::Failure,
    request::RequestId,
    runtime::node::Node,
    trace::Trace,
};

/// How many one operation on many touches before it says that more are left.
const MOST: usize = 10_000;
const BATCH: usize = 500;

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Of this kind only.
    #[garde(length(min = 1, max = 64))]
    #[param(min_length = 1, max_length = 64)]
    kind: Option<String>,
    /// Of this key only.
    #[garde(length(bytes, min = 1, max = 512))]
    #[param(min_length = 1)]
    key: Option<String>,
    /// How many at most, 50 when not said.
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Goes on after the page that gave this cursor.
    #[garde(skip)]
    cursor: Option<String>,
}

/// Which dead letters: these, or all that match, or all.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    /// These.
    #[garde(length(max = 1000))]
    #[serde(default, deserialize_with = "given")]
    #[schema(max_items = 1000, nullable = false)]
    ids: Option<Vec<String>>,
    /// All of this kind.
    #[garde(length(min = 1, max = 64))]
    #[serde(default, deserialize_with = "given")]
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    kind: Option<String>,
    /// All of this key.
    #[garde(length(bytes, min = 1, max = 512))]
    #[serde(default, deserialize_with = "given")]
    #[schema(min_length = 1, nullable = false)]
    key: Option<String>,
    /// All there are.
    #[garde(skip)]
    #[serde(default)]
    all: bool,
}

/// A member that is there has a value: `null` says nothing, and must not mean "all others".
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<Option<T>, D::Error> {
    T::deserialize(json).map(Some)
}

/// Lists dead letters, oldest position first.
#[utoipa::path(tag = "admin", params(Listing), responses((status = 200, description = "A page", body = DeadLetterPage)))]
#[get("/admin/dead-letters")]
pub(crate) async fn list(_: Admin, node: Node, query: ValidQuery<Listing>) -> Result<HttpResponse, Problem> {
    let Listing { kind, key, limit, cursor } = query.0;
    let after = match cursor {
        None => None,
        Some(cursor) => Some(position(&node, &cursor).await?.ok_or_else(|| {
            let place = Place::Parameter("cursor".to_owned());
            Problem::of(&MALFORMED_QUERY).fault(place, "no cursor that was given out")
        })?),
    };
    let limit = limit.unwrap_or(50);
    let filter = DeadFilter { kind, key, position: None };
    // One more than asked for tells whether there is a next page.
    let mut dead = node.dead(filter, after, limit + 1).await?;
    let more = dead.len() > limit;
    dead.truncate(limit);
    let items: Vec<Letter> = dead.into_iter().map(|dead| Letter::of(&node, dead)).collect();
    let cursor = items.last().filter(|_| more).map(|last| last.id);
    Ok(HttpResponse::Ok().json(Page { items, cursor }))
}

/// Shows one dead letter.
#[utoipa::path(
    tag = "admin",
    params(("id" = String, Path, format = "uuid", description = "Its id")),
    responses((status = 200, description = "The dead letter", body = DeadLetterView))
)]
#[get("/admin/dead-letters/{id}")]
pub(crate) async fn show(_: Admin, node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let position = known(&node, &id).await?;
    let filter = DeadFilter { position: Some(position), ..DeadFilter::default() };
    let dead = node.dead(filter, None, 1).await?.pop().ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(Letter::of(&node, dead)))
}

/// Puts one dead letter back to be tried anew.
#[utoipa::path(
    tag = "admin",
    params(("id" = String, Path, format = "uuid", description = "Its id")),
    responses((status = 200, description = "It is back", body = CountView))
)]
#[post("/admin/dead-letters/{id}/redrive")]
pub(crate) async fn redrive(_: Admin, node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let position = known(&node, &id).await?;
    one(node.redrive(vec![position]).await?)
}

/// Gives one dead letter up for good: it ends as cancelled.
#[utoipa::path(
    tag = "admin",
    params(("id" = String, Path, format = "uuid", description = "Its id")),
    responses((status = 200, description = "It is gone", body = CountView))
)]
#[delete("/admin/dead-letters/{id}")]
pub(crate) async fn discard(_: Admin, node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let position = known(&node, &id).await?;
    one(node.discard(vec![position]).await?)
}

/// Puts many dead letters back to be tried anew.
#[utoipa::path(tag = "admin", request_body = Selection, responses((status = 200, description = "How many are back", body = CountView)))]
#[post("/admin/dead-letters/redrive")]
pub(crate) async fn redrive_many(_: Admin, req: HttpRequest, which: Valid<Selection>) -> Result<HttpResponse, Problem> {
    let node = &Shared::of(&req)?.node;
    each(node, which.0, |positions| node.redrive(positions)).await
}

/// Gives many dead letters up for good.
#[utoipa::path(tag = "admin", request_body = Selection, responses((status = 200, description = "How many are gone", body = CountView)))]
#[post("/admin/dead-letters/discard")]
pub(crate) async fn discard_many(_: Admin, req: HttpRequest, which: Valid<Selection>) -> Result<HttpResponse, Problem> {
    let node = &Shared::of(&req)?.node;
    each(node, which.0, |positions| node.discard(positions)).await
}

/// Does `what` with every dead letter selected, a batch at a time.
async fn each<F>(node: &Node, which: Selection, what: impl Fn(Vec<Position>) -> F) -> Result<HttpResponse, Problem>
where
    F: Future<Output = crate::Result<usize>>,
{
    let Selection { ids, kind, key, all } = which;
    let filtered = kind.is_some() || key.is_some();
    if u8::from(ids.is_some()) + u8::from(filtered) + u8::from(all) != 1 {
        return Err(Problem::invalid("", "expected exactly one of: ids, kind and/or key, all = true"));
    }
    if let Some(ids) = ids {
        // An id that is none, or of no dead letter any more, counts as none.
        let mut positions: Vec<Position> = Vec::with_capacity(ids.len());
        for id in &ids {
            positions.extend(position(node, id).await?);
        }
        let count = if positions.is_empty() { 0 } else { what(positions).await? };
        return Ok(counted(count, false));
    }
    let filter = DeadFilter { kind, key, position: None };
    let (mut count, mut after) = (0, None);
    while count < MOST {
        let batch: Vec<Position> =
            node.dead(filter.clone(), after, BATCH).await?.into_iter().map(|dead| dead.position).collect();
        // A redriven one may have died again by now: going on after it ends in any case.
        let Some(last) = batch.last().copied() else { return Ok(counted(count, false)) };
        after = Some(last);
        count += what(batch).await?;
    }
    Ok(counted(count, true))
}

fn counted(count: usize, more: bool) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "count": count, "more": more }))
}

fn one(count: usize) -> Result<HttpResponse, Problem> {
    if count == 0 { Err(unknown()) } else { Ok(counted(count, false)) }
}

async fn position(node: &Node, id: &str) -> crate::Result<Option<Position>> {
    match id.parse() {
        Ok(id) => node.position(id).await,
        Err(_) => Ok(None),
    }
}

async fn known(node: &Node, id: &str) -> Result<Position, Problem> {
    let id = parse(id).map_err(|_| unknown())?;
    node.position(id).await?.ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::not_found("There is no dead letter of that id.")
}

#[derive(Serialize)]
struct Page {
    items: Vec<Letter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<RequestId>,
}

/// A dead letter as an operator sees it.
#[derive(Serialize)]
struct Letter {
    id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    attempts: u32,
    failures: Vec<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at: Option<i64>,
    died_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<RequestId>,
}

impl Letter {
    fn of(node: &Node, dead: Dead) -> Self {
        let Dead { position, envelope, raw, attempts, failures, died } = dead;
        let (to, command, accepted_at, trace, cause) = match envelope {
            Some(e) => (Some(e.to.to_string()), Some(e.command), Some(e.accepted), e.trace, e.cause),
            None => (None, None, None, None, None),
        };
        let cause = cause.map(|cause| node.id(cause));
        Self { id: node.id(position), to, command, raw, attempts, failures, accepted_at, died_at: died, trace, cause }
    }
}
