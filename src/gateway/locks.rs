//! Locks over HTTP, for programs that are none of Greenroom's nodes: take, renew, let go, and see who has
//! which.
//!
//! Invariant: what lets go of a lock says whose, or says that it does not care.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, delete, get, http::header, post, put, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    admin::Admin,
    extract::{Valid, ValidQuery},
    fencing, prefer,
    problem::{Place, Problem},
    problems::{LOCK_HELD, LOCK_LOST, MALFORMED_PATH, MALFORMED_QUERY},
    schemas::{LockView, LocksView},
    shared::Shared,
};
use crate::{
    actor::Actor,
    backend::Fence,
    coordination::lock::{
        FULL, Lock,
        claimer::{Claimer, Got},
        guard::LEASE,
        list::held,
    },
    error::Error,
    runtime::node::Node,
};

/// Who takes a lock, and for how long.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taking {
    /// Whoever takes it, by a name that nobody else uses: a repeat with the same one goes on where the first
    /// was, and renews. A new one is made up when none is given.
    #[garde(inner(length(bytes, min = 1, max = 128)))]
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    id: Option<String>,
    /// How long the lock, or the place in its queue, is good for without being renewed; 15,000 when not said.
    #[garde(inner(range(min = 500, max = 3_600_000)))]
    #[serde(default)]
    #[schema(minimum = 500, maximum = 3_600_000)]
    lease_ms: Option<u64>,
    /// Whether to stand in the queue when somebody else has it; yes when not said.
    #[garde(skip)]
    #[serde(default)]
    queue: Option<bool>,
}

/// Who renews a lock, or a place in its queue.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keeping {
    /// Whoever took it.
    #[garde(length(bytes, min = 1, max = 128))]
    #[schema(min_length = 1, max_length = 128)]
    id: String,
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Leaving {
    /// Whoever took it.
    #[garde(length(bytes, min = 1, max = 128))]
    #[param(min_length = 1, max_length = 128)]
    id: Option<String>,
    /// Takes it away from whoever has it.
    #[garde(skip)]
    force: Option<bool>,
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// How many at most, 50 when not said.
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Goes on after the page that gave this cursor.
    #[garde(skip)]
    cursor: Option<String>,
}

/// Takes a lock, or a place in its queue.
///
/// Renew at each third of the lease; whoever does not hear that it was renewed for the whole lease, counted
/// from when it asked, has the lock no more. Give `fencing_token` as `Fencing-Token` with whatever is posted
/// under the lock.
#[utoipa::path(
    tag = "admin",
    params(
        ("name" = String, Path, min_length = 1, max_length = 512, description = "The lock's name"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: waits up to N seconds for its turn", example = "wait=1"),
    ),
    request_body = Taking,
    responses(
        (status = 200, description = "It is taken", body = LockView),
        (status = 202, description = "Somebody else has it; the place in the queue is kept for the lease", body = LockView),
        (status = 409, description = "Somebody else has it, and no place was wanted or there is none"),
    )
)]
#[post("/admin/locks/{name}")]
pub(crate) async fn take(
    _: Admin,
    req: HttpRequest,
    name: web::Path<String>,
    taking: Valid<Taking>,
) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(&req)?;
    let Taking { id, lease_ms, queue } = taking.0;
    let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let claimer = claimer(&shared.node, &name, id, lease_ms)?;
    let wait = prefer::wait(req.headers(), shared.settings.max_wait);
    let mut got = claimer.claim(queue == Some(false)).await.map_err(refused)?;
    if let (Got::Waits { .. }, Some(wait)) = (got, wait) {
        got = turn(shared, &claimer, wait).await.unwrap_or(Ok(got)).map_err(refused)?;
    }
    let mut response = answer(&claimer, got)?;
    if let Some(wait) = wait {
        let (name, value) = prefer::applied(wait);
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Waits for its turn; `None` when that does not come in time.
async fn turn(shared: &Arc<Shared>, claimer: &Claimer, limit: Duration) -> Option<crate::Result<Got>> {
    tokio::select! {
        biased;
        got = claimer.wait() => Some(got),
        () = tokio::time::sleep(limit) => None,
        () = shared.retired() => None,
    }
}

/// Renews a lock, or a place in its queue.
#[utoipa::path(
    tag = "admin",
    params(("name" = String, Path, min_length = 1, max_length = 512, description = "The lock's name")),
    request_body = Keeping,
    responses(
        (status = 200, description = "It is held for another lease", body = LockView),
        (status = 202, description = "Somebody else has it still; the place is kept for another lease", body = LockView),
        (status = 409, description = "It was lost: whoever asks has neither the lock nor a place"),
    )
)]
#[put("/admin/locks/{name}")]
pub(crate) async fn renew(
    _: Admin,
    node: Node,
    name: web::Path<String>,
    keeping: Valid<Keeping>,
) -> Result<HttpResponse, Problem> {
    let claimer = claimer(&node, &name, keeping.0.id, None)?;
    let got = claimer.renew().await.map_err(refused)?;
    answer(&claimer, got)
}

/// Lets a lock go, or takes it away.
///
/// The next one has it at once. Whoever it was taken away from finds out when it renews.
#[utoipa::path(
    tag = "admin",
    params(
        ("name" = String, Path, min_length = 1, max_length = 512, description = "The lock's name"),
        Leaving,
    ),
    responses(
        (status = 204, description = "Whoever it was has it no more"),
        (status = 409, description = "It was lost before, or nobody had it"),
    )
)]
#[delete("/admin/locks/{name}")]
pub(crate) async fn release(
    _: Admin,
    node: Node,
    name: web::Path<String>,
    leaving: ValidQuery<Leaving>,
) -> Result<HttpResponse, Problem> {
    let had = match leaving.0 {
        Leaving { id: Some(id), force: None | Some(false) } => {
            claimer(&node, &name, id, None)?.release().await.map_err(refused)?
        }
        Leaving { id: None, force: Some(true) } => {
            nameable(&name)?;
            if !node.break_lock(&name).await? {
                return Err(Problem::of(&LOCK_LOST).detail("Nobody has it."));
            }
            true
        }
        _ => {
            let place = Place::Parameter("id".to_owned());
            return Err(Problem::of(&MALFORMED_QUERY).fault(place, "expected exactly one of: id, force=true"));
        }
    };
    if had { Ok(HttpResponse::NoContent().finish()) } else { Err(Problem::of(&LOCK_LOST)) }
}

/// Lists the locks that somebody has.
#[utoipa::path(tag = "admin", params(Listing), responses((status = 200, description = "A page, by name", body = LocksView)))]
#[get("/admin/locks")]
pub(crate) async fn list(_: Admin, node: Node, query: ValidQuery<Listing>) -> Result<HttpResponse, Problem> {
    let Listing { limit, cursor } = query.0;
    let (items, cursor) = held(&*node.shared.backend, limit.unwrap_or(50), cursor).await?;
    let mut page = json!({ "items": items });
    if let Some(cursor) = cursor {
        page["cursor"] = json!(cursor);
    }
    Ok(HttpResponse::Ok().json(page))
}

fn nameable(name: &str) -> Result<(), Problem> {
    let named = Lock::at(name).address().map(drop);
    named.map_err(|error| Problem::of(&MALFORMED_PATH).fault(Place::Parameter("name".to_owned()), error.to_string()))
}

fn claimer(node: &Node, name: &str, id: String, lease_ms: Option<u64>) -> Result<Claimer, Problem> {
    nameable(name)?;
    Ok(Claimer::new(node, name, id, lease_ms.map_or(LEASE, Duration::from_millis))?)
}

fn refused(error: Error) -> Problem {
    match error.has_code(FULL) {
        true => Problem::of(&LOCK_HELD).detail(error.to_string()).retry_after(Duration::from_secs(5)),
        false => Problem::from(error),
    }
}

/// A lock as whoever takes it sees it.
#[derive(Serialize)]
struct Taken<'a> {
    lock: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
}

fn answer(claimer: &Claimer, got: Got) -> Result<HttpResponse, Problem> {
    let (lock, id) = (&*claimer.name, &*claimer.by);
    let taken = Taken { lock, id, token: None, fencing_token: None, before: None };
    let no_store = (header::CACHE_CONTROL, "no-store");
    match got {
        Got::Held { token, .. } => {
            let fencing_token = Some(fencing::write(&Fence { lock: lock.to_owned(), token }));
            let taken = Taken { token: Some(token), fencing_token, ..taken };
            Ok(HttpResponse::Ok().insert_header(no_store).json(taken))
        }
        Got::Waits { before } => {
            Ok(HttpResponse::Accepted().insert_header(no_store).json(Taken { before: Some(before), ..taken }))
        }
        Got::Busy => Err(Problem::of(&LOCK_HELD).retry_after(Duration::from_secs(1))),
        Got::Lost => Err(Problem::of(&LOCK_LOST)),
    }
}
