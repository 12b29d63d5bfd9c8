//! Batches over HTTP: many commands in one request, how far they are, and calling them off.
//! Invariant: of a batch with a member that its actor does not understand nothing is accepted, and a repeat
//! under the same `Idempotency-Key` is the same batch.

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header::{self, HeaderValue},
    post, web,
};
use garde::Validate;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

use super::{
    admin::Admin,
    extract::Valid,
    intake::Intake,
    prefer,
    problem::{Place, Problem},
    problems::{INVALID, KEY_REUSED},
    schemas::BatchView,
    shared::Shared,
};
use crate::{address::Address, coordination::batch::view, runtime::node::Node};

/// Faults that are named; more are only counted.
const FAULTS: usize = 20;

/// Many commands to send as one.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sending {
    /// What it is called, for whoever looks at it.
    #[garde(length(max = 128))]
    #[serde(default)]
    #[schema(max_length = 128)]
    name: String,
    /// The commands.
    #[garde(length(min = 1, max = 10_000))]
    #[schema(min_items = 1, max_items = 10_000)]
    members: Vec<Member>,
}

/// One command of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// The receiving actor: `kind/key`.
    #[schema(min_length = 3, max_length = 600, example = "order/o-7")]
    to: String,
    /// The command, as its actor reads it.
    #[schema(value_type = Value)]
    command: Box<RawValue>,
}

/// Sends many commands as one: all of them, or none if one is not understood.
#[utoipa::path(
    tag = "admin",
    request_body = Sending,
    responses((status = 202, description = "Accepted", headers(("Location" = String, description = "Where it is looked at"))))
)]
#[post("/admin/batches")]
pub(crate) async fn send(_: Admin, intake: Intake, sending: Valid<Sending>) -> Result<HttpResponse, Problem> {
    let Sending { name, members } = sending.0;
    let (node, id) = (intake.node(), intake.id());
    let mut draft = node.draft_batch(&id, &name);
    let (mut problem, mut faults) = (Problem::of(&INVALID), 0);
    for (n, member) in members.into_iter().enumerate() {
        match understood(node, &member) {
            Ok(to) => draft.add_json(to, member.command),
            Err((field, why)) => {
                faults += 1;
                if faults <= FAULTS {
                    problem = problem.fault(Place::Pointer(format!("/members/{n}/{field}")), why);
                }
            }
        }
    }
    if faults > 0 {
        let named = faults.min(FAULTS);
        return Err(problem.detail(format!("{faults} members cannot be sent, {named} of them are named.")));
    }
    let retention = intake.retention();
    draft.send_once(retention).await.map_err(|error| match error.has_code("batch_mismatch") {
        true => Problem::of(&KEY_REUSED),
        false => Problem::unavailable("accepting a batch", &error),
    })?;
    let href = format!("/batches/{id}");
    let answer = json!({ "batch": id, "status": "accepted", "links": { "self": href } });
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, href)).json(answer))
}

/// Which actor a member is for, if that understands it.
fn understood(node: &Node, member: &Member) -> Result<Address, (&'static str, String)> {
    let to: Address = member.to.parse().map_err(|error: crate::Error| ("to", error.to_string()))?;
    let known = node.kinds().contains(&to.kind());
    match node.check(&to, member.command.get()) {
        Ok(()) if known => Ok(to),
        Ok(()) => Err(("to", format!("{} is none of the product's kinds", to.kind()))),
        Err(error) => Err((if known { "command" } else { "to" }, error.to_string())),
    }
}

/// How far a batch is.
#[utoipa::path(
    tag = "requests",
    params(
        ("id" = String, Path, description = "The `batch` of an answer"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: waits up to N seconds for the end", example = "wait=1"),
    ),
    responses(
        (status = 200, description = "How it stands", body = BatchView),
        (status = 404, description = "There is no such batch, or it ended longer ago than results are kept"),
    )
)]
#[get("/batches/{id}")]
pub(crate) async fn show(req: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(&req)?;
    let (node, id) = (&shared.node, named(&id)?);
    let wait = prefer::wait(req.headers(), shared.settings.max_wait);
    let waited = match wait {
        Some(wait) => node.clock().limit(wait, node.batch_done(id)).await.transpose()?.flatten(),
        None => None,
    };
    let view = match waited {
        Some(view) => view,
        None => node.batch(id).await?.ok_or_else(unknown)?,
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Some(wait) = wait {
        response.insert_header(prefer::applied(wait));
    }
    if view.status != view::Progress::Done {
        response.insert_header((header::RETRY_AFTER, HeaderValue::from_static("1")));
    }
    Ok(response.json(view))
}

/// Cancels what has not begun of a batch, and tells what waits to end.
#[utoipa::path(
    tag = "requests",
    params(("id" = String, Path, description = "The `batch` of an answer")),
    responses(
        (status = 202, description = "It is being cancelled; what runs ends by itself", body = BatchView),
        (status = 404, description = "There is no such batch, or it ended longer ago than results are kept"),
    )
)]
#[delete("/batches/{id}")]
pub(crate) async fn cancel(node: Node, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = named(&id)?;
    if !node.cancel_batch(id).await? {
        return Err(unknown());
    }
    let view = node.batch(id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Accepted().json(view))
}

/// What may be the id of a batch: anything else is none, and no key of an actor.
fn named(id: &str) -> Result<&str, Problem> {
    uuid::Uuid::try_parse(id).map(|_| id).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("There is no such batch, or it ended longer ago than results are kept.")
}
