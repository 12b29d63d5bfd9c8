//! A user's sessions, for operators: looking at them and ending them.
//! Invariant: what is shown opens no session.

use actix_web::{HttpResponse, delete, get, web};
use serde_json::json;

use super::{
    admin::Admin,
    problem::{Place, Problem},
    problems::MALFORMED_PATH,
    schemas::{EndedView, SessionsView},
};
use crate::{backend::sessions::SessionName, runtime::node::Node};

/// Lists the sessions of a user, in the order they were opened.
#[utoipa::path(
    tag = "admin",
    params(("user" = String, Path, min_length = 1, max_length = 256, description = "What the product calls the user when it logs in")),
    responses((status = 200, description = "The sessions", body = SessionsView))
)]
#[get("/admin/sessions/{user}")]
pub(crate) async fn list(_: Admin, node: Node, user: web::Path<String>) -> Result<HttpResponse, Problem> {
    let items = node.sessions().list(&user).await.map_err(misnamed)?;
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

/// Revokes all sessions of a user.
#[utoipa::path(
    tag = "admin",
    params(("user" = String, Path, min_length = 1, max_length = 256, description = "What the product calls the user when it logs in")),
    responses((status = 200, description = "How many there were", body = EndedView))
)]
#[delete("/admin/sessions/{user}")]
pub(crate) async fn revoke_all(_: Admin, node: Node, user: web::Path<String>) -> Result<HttpResponse, Problem> {
    let count = node.sessions().revoke_all(&user).await.map_err(misnamed)?;
    Ok(HttpResponse::Ok().json(json!({ "count": count })))
}

/// Revokes one session of a user.
#[utoipa::path(
    tag = "admin",
    params(
        ("user" = String, Path, min_length = 1, max_length = 256, description = "What the product calls the user when it logs in"),
        ("id" = String, Path, min_length = 16, max_length = 16, description = "The session, as the list names it"),
    ),
    responses(
        (status = 200, description = "It has ended", body = EndedView),
        (status = 404, description = "The user has no such session"),
    )
)]
#[delete("/admin/sessions/{user}/{id}")]
pub(crate) async fn revoke(_: Admin, node: Node, path: web::Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (user, id) = path.into_inner();
    let none = || Problem::not_found("The user has no such session.");
    let id: SessionName = id.parse().map_err(|_| none())?;
    if !node.sessions().revoke(&user, id).await.map_err(misnamed)? {
        return Err(none());
    }
    Ok(HttpResponse::Ok().json(json!({ "count": 1 })))
}

/// What the path names may be no user at all.
fn misnamed(error: crate::Error) -> Problem {
    match error.has_code("bad_user") {
        true => Problem::of(&MALFORMED_PATH).fault(Place::Parameter("user".into()), error.to_string()),
        false => error.into(),
    }
}
