//! Schedules over HTTP: list, show, pause, resume, run, delete.
//! Invariant: what is done to a schedule is done when the answer says so.

use actix_web::{HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;

use super::{
    admin::Admin,
    extract::ValidQuery,
    problem::Problem,
    schemas::{SchedulePage, ScheduleView as Described},
};
use crate::{
    coordination::schedule::{ScheduleView, Steer},
    error::Error,
    runtime::node::Node,
};

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Only those whose names begin with this.
    #[garde(length(bytes, min = 1, max = 512))]
    #[param(min_length = 1)]
    prefix: Option<String>,
    /// How many at most, 50 when not said.
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Goes on after the page that gave this cursor.
    #[garde(skip)]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Page {
    items: Vec<ScheduleView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists schedules in the order of their names.
#[utoipa::path(tag = "admin", params(Listing), responses((status = 200, description = "A page", body = SchedulePage)))]
#[get("/admin/schedules")]
pub(crate) async fn list(_: Admin, node: Node, query: ValidQuery<Listing>) -> Result<HttpResponse, Problem> {
    let Listing { prefix, limit, cursor } = query.0;
    let (items, cursor) = node.schedules(&prefix.unwrap_or_default(), cursor, limit.unwrap_or(50)).await?;
    Ok(HttpResponse::Ok().json(Page { items, cursor }))
}

/// Shows one schedule with its last slots and its next ones.
#[utoipa::path(
    tag = "admin",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The schedule", body = Described))
)]
#[get("/admin/schedules/{name}")]
pub(crate) async fn show(_: Admin, node: Node, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = node.scheduled(&name).await.map_err(|error| refused(&name, error))?;
    Ok(HttpResponse::Ok().json(view.ok_or_else(|| unknown(&name))?))
}

/// Pauses a schedule, resumes it, or runs it now. Answers with how it stands then.
#[utoipa::path(
    tag = "admin",
    params(
        ("name" = String, Path, description = "Its name"),
        ("verb" = String, Path, pattern = "^(pause|resume|run)$", description = "What to do: `pause`, `resume` or `run`"),
    ),
    responses(
        (status = 200, description = "It is done", body = Described),
        (status = 409, description = "It cannot run now, because runs must not overlap"),
    )
)]
#[post("/admin/schedules/{name}/{verb}")]
pub(crate) async fn steer(_: Admin, node: Node, path: web::Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (name, verb) = path.into_inner();
    let steer = match verb.as_str() {
        "pause" => Steer::Pause,
        "resume" => Steer::Resume,
        "run" => Steer::Run,
        _ => return Err(Problem::not_found("What can be done to a schedule is: pause, resume, run.")),
    };
    node.steer_schedule(&name, steer).await.map_err(|error| refused(&name, error))?;
    let view = node.scheduled(&name).await?.ok_or_else(|| unknown(&name))?;
    Ok(HttpResponse::Ok().json(view))
}

/// Deletes a schedule. One that a feature declares is there again when a node starts.
#[utoipa::path(
    tag = "admin",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is gone", body = serde_json::Value))
)]
#[delete("/admin/schedules/{name}")]
pub(crate) async fn delete(_: Admin, node: Node, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    node.steer_schedule(&name, Steer::Delete).await.map_err(|error| refused(&name, error))?;
    Ok(HttpResponse::Ok().json(json!({ "deleted": *name })))
}

fn refused(name: &str, error: Error) -> Problem {
    if error.has_code("unknown_schedule") {
        return unknown(name);
    }
    if error.has_code("still_running") {
        return Problem::conflict(error.to_string());
    }
    error.into()
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("There is no schedule {name:?}."))
}
