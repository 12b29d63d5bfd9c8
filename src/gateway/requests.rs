//! What became of an accepted request: look, wait, watch, cancel.
//! Invariant: an id that was never given out is 404, one whose result is forgotten is 410.

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header::{self, HeaderValue},
    web,
};

use super::{
    accepted,
    admin::Admin,
    events,
    follow::settle,
    prefer,
    problem::Problem,
    problems::{EXPIRED, LOST, NOT_CANCELLED},
    schemas::{EventView, RequestView, StoryView},
    shared::Shared,
};
use crate::{
    request::RequestId,
    runtime::{
        node::{Cancel, Node},
        story::Recorded,
        view::{Found, State, View},
    },
};

/// How a request stands.
#[utoipa::path(
    tag = "requests",
    params(
        ("id" = String, Path, format = "uuid", description = "The `request` of an answer"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: waits up to N seconds for the end",
            example = "wait=1"),
    ),
    responses(
        (status = 200, description = "How it stands", content((RequestView = "application/json"), (EventView = "text/event-stream"))),
        (status = 204, description = "To a reconnecting event source: it has seen the end"),
        (status = 404, description = "There was never such a request"),
        (status = 410, description = "It ended longer ago than results are kept, or was lost"),
    )
)]
#[get("/requests/{id}")]
pub(crate) async fn show(req: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(&req)?;
    let id = parse(&id)?;
    if events::wanted(req.headers()) {
        return events::open(&req, id).await;
    }
    let wait = prefer::wait(req.headers(), shared.settings.max_wait);
    let settled = match wait {
        Some(wait) => settle(shared, id, None, wait).await,
        None => None,
    };
    let view = match settled {
        Some(view) => view,
        None => find(&shared.node, id).await?,
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Some(wait) = wait {
        response.insert_header(prefer::applied(wait));
    }
    if !view.status.ended() {
        response.insert_header((header::RETRY_AFTER, HeaderValue::from(look_again(&view, shared.node.clock().now()))));
    }
    Ok(response.json(view))
}

/// Every change of a request until it ends, as server-sent events.
#[utoipa::path(
    tag = "requests",
    params(
        ("id" = String, Path, format = "uuid", description = "The `request` of an answer"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event seen, sent by a reconnecting event source"),
    ),
    responses(
        (status = 200, description = "Events named `status` with the request as data", body = EventView, content_type = "text/event-stream"),
        (status = 204, description = "The last event seen was the end: there are no more"),
        (status = 404, description = "There was never such a request"),
        (status = 410, description = "It ended longer ago than results are kept, or was lost"),
    )
)]
#[get("/requests/{id}/events")]
pub(crate) async fn follow(req: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    events::open(&req, parse(&id)?).await
}

/// The whole story of a request: what it did, what it waits for, and the commands it asked.
///
/// For operators: it holds what steps answered and leads to the requests of other actors. Values of the
/// type `Secret` are not in it. What a handler has begun and not written yet is not told.
#[utoipa::path(
    tag = "requests",
    params(("id" = String, Path, format = "uuid", description = "The `request` of an answer")),
    responses(
        (status = 200, description = "Its story; without entries when it has no journal", body = StoryView),
        (status = 404, description = "There was never such a request"),
        (status = 410, description = "It ended longer ago than results are kept, or was lost"),
    )
)]
#[get("/requests/{id}/journal")]
pub(crate) async fn journal(_: Admin, node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let recorded = node.journal(parse(&id)?).await;
    match recorded.map_err(|error| Problem::unavailable("reading a journal", &error))? {
        Recorded::Here(story) => Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(story)),
        Recorded::Expired => Err(Problem::of(&EXPIRED)),
        Recorded::Lost => Err(Problem::of(&LOST)),
        Recorded::Unknown => Err(unknown()),
    }
}

/// Cancels a request of which no attempt has begun, or tells one that waits for something to end.
///
/// One that is told to end undoes what it did before it is cancelled.
#[utoipa::path(
    tag = "requests",
    params(("id" = String, Path, format = "uuid", description = "The `request` of an answer")),
    responses(
        (status = 200, description = "It is cancelled", body = RequestView),
        (status = 202, description = "It waits for something and is told to end; this is how it stood", body = RequestView,
            headers(("Location" = String, description = "Where to look: `/requests/{id}`"))),
        (status = 404, description = "There was never such a request"),
        (status = 409, description = "It is running without a journal, or has ended"),
        (status = 410, description = "It ended longer ago than results are kept, or was lost"),
    )
)]
#[delete("/requests/{id}")]
pub(crate) async fn cancel(node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = parse(&id)?;
    match node.cancel(id).await.map_err(|error| Problem::unavailable("cancelling", &error))? {
        Cancel::Cancelled => {
            // What is stored says when; that it is cancelled is certain already.
            let view = find(&node, id).await.ok().filter(|view| view.status == State::Cancelled);
            let view = view.unwrap_or_else(|| View::new(id, State::Cancelled));
            Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(view))
        }
        Cancel::Asked => {
            // That it was told is certain; how it stands may not be known just now.
            let view = find(&node, id).await.unwrap_or_else(|_| View::new(id, State::Processing));
            let mut response = HttpResponse::Accepted();
            response.insert_header((header::CACHE_CONTROL, "no-store"));
            Ok(response.insert_header((header::LOCATION, format!("/requests/{id}"))).json(view))
        }
        Cancel::Refused(found) => {
            let view = here(found)?;
            Err(Problem::of(&NOT_CANCELLED).with_all(accepted::members(&view)))
        }
    }
}

/// The request of that id, or the problem that says why there is none.
pub(super) async fn find(node: &Node, id: RequestId) -> Result<View, Problem> {
    here(node.request(id).await.map_err(|error| Problem::unavailable("looking for a request", &error))?)
}

pub(super) fn here(found: Found) -> Result<View, Problem> {
    match found {
        Found::Here(view) => Ok(view),
        Found::Expired => Err(Problem::of(&EXPIRED)),
        Found::Lost => Err(Problem::of(&LOST)),
        Found::Unknown => Err(unknown()),
    }
}

/// A path that cannot be an id names nothing: 404, as any other unknown id.
pub(super) fn parse(id: &str) -> Result<RequestId, Problem> {
    id.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("There was never a request of that id.")
}

/// In how many seconds looking again is worth while.
fn look_again(view: &View, now: i64) -> u64 {
    let next = view.next_attempt_at.map_or(0, |due| due.saturating_sub(now).max(0) as u64);
    next.div_ceil(1000).clamp(1, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_the_next_attempt() {
        let view = |next_attempt_at| View {
            request: "00000000-0001-8000-8000-000000000000".parse().unwrap(),
            status: State::Processing,
            attempts: 1,
            result: None,
            error: None,
            accepted_at: None,
            next_attempt_at,
            ended_at: None,
        };
        let hints = [None, Some(900), Some(3_500), Some(i64::MAX)].map(|next| look_again(&view(next), 1_000));
        assert_eq!(hints, [1, 1, 3, 60]);
    }
}
