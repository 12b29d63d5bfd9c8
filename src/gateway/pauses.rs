//! Pausing over HTTP: what is paused, pausing and resuming a kind or a key, and cancelling all that waits of one.
//! Invariant: each says of which kind; none means everything.

use actix_web::{HttpResponse, get, post};
use garde::Validate;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    admin::Admin,
    extract::Valid,
    problem::Problem,
    schemas::{ChangedView, PausedView, SweptView},
};
use crate::{address::Address, runtime::node::Node};

/// How many one wish to cancel ends before it says that more are left.
const MOST: usize = 10_000;

/// A kind of actors, or one of them.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// The kind.
    #[garde(length(min = 1, max = 64))]
    #[schema(min_length = 1, max_length = 64)]
    kind: String,
    /// Only this key of it.
    #[garde(length(bytes, min = 1, max = 512))]
    #[serde(default, deserialize_with = "given")]
    #[schema(min_length = 1, nullable = false)]
    key: Option<String>,
}

/// A member that is there has a value: `null` says nothing, and must not mean the whole kind.
fn given<'de, D: Deserializer<'de>>(json: D) -> Result<Option<String>, D::Error> {
    String::deserialize(json).map(Some)
}

impl Which {
    /// Whether there can be such an actor here.
    fn check(&self, node: &Node) -> Result<(), Problem> {
        if !node.kinds().contains(&self.kind.as_str()) {
            let reason = format!("there is no kind {:?}: expected one of {}", self.kind, node.kinds().join(", "));
            return Err(Problem::invalid("/kind", reason));
        }
        self.check_key()
    }

    fn check_key(&self) -> Result<(), Problem> {
        let Some(key) = &self.key else { return Ok(()) };
        let checked = Address::new("any", key).map(drop);
        checked.map_err(|error| Problem::invalid("/key", error.to_string()))
    }
}

/// Lists what is paused, in order of kind and key.
#[utoipa::path(tag = "admin", responses((status = 200, description = "What is paused", body = PausedView)))]
#[get("/admin/paused")]
pub(crate) async fn list(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "items": node.paused().await? })))
}

/// Pauses a kind of actors, or one: what it is told is accepted and waits.
#[utoipa::path(tag = "admin", request_body = Which, responses((status = 200, description = "It is paused", body = ChangedView)))]
#[post("/admin/pause")]
pub(crate) async fn pause(_: Admin, node: Node, which: Valid<Which>) -> Result<HttpResponse, Problem> {
    which.0.check(&node)?;
    changed(node.pause(&which.0.kind, which.0.key.as_deref()).await?)
}

/// Resumes what was paused.
#[utoipa::path(tag = "admin", request_body = Which, responses((status = 200, description = "It is not paused", body = ChangedView)))]
#[post("/admin/resume")]
pub(crate) async fn resume(_: Admin, node: Node, which: Valid<Which>) -> Result<HttpResponse, Problem> {
    // Of a kind that is no more something may still be paused.
    which.0.check_key()?;
    changed(node.resume(&which.0.kind, which.0.key.as_deref()).await?)
}

/// Cancels everything of a kind, or of one key, that waits and has not begun; what has begun and waits for
/// something is told to end.
#[utoipa::path(tag = "admin", request_body = Which, responses((status = 200, description = "How many", body = SweptView)))]
#[post("/admin/cancel")]
pub(crate) async fn cancel(_: Admin, node: Node, which: Valid<Which>) -> Result<HttpResponse, Problem> {
    which.0.check(&node)?;
    Ok(HttpResponse::Ok().json(node.cancel_some(&which.0.kind, which.0.key.as_deref(), MOST).await?))
}

fn changed(changed: bool) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "changed": changed })))
}
