//! The limits of a node, over HTTP.

use actix_web::{HttpResponse, get};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    gateway::{admin::Admin, problem::Problem},
    runtime::node::Node,
};

/// Lists the limits of the node that answers: what each says, what became of those who asked it here, and
/// who is at its end. Buckets are shared by all nodes; counts are those of this one.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The limits", body = LimitsView)))]
#[get("/admin/limits")]
pub(crate) async fn list(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    let limits = node.limits();
    Ok(HttpResponse::Ok().json(json!({ "items": limits.list(), "store_answers": limits.store_answers() })))
}

/// All limits of a node.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct LimitsView {
    items: Vec<LimitView>,
    /// Whether the store gave an answer when it was asked last.
    store_answers: bool,
}

/// A limit as one node knows it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct LimitView {
    /// By its own name, `kind:…`, `key:…` or `http:…`.
    name: String,
    /// Tokens per time, such as `10/1s`; null without a rate.
    #[schema(required = true)]
    rate: Option<String>,
    /// The most that can be used at once; null without a rate.
    #[schema(required = true)]
    burst: Option<u64>,
    /// The most in a window, such as `10000/1d`; null without a quota.
    #[schema(required = true)]
    quota: Option<String>,
    /// How many at the same time; null without such a limit.
    #[schema(required = true)]
    at_once: Option<u32>,
    /// What holds while the store cannot answer: `local` or `refuse`.
    unavailable: String,
    /// How often it gave something here since the start.
    allowed: u64,
    /// How often it refused.
    refused: u64,
    /// How often somebody had to wait.
    waited: u64,
    /// How often the store did not answer.
    unanswered: u64,
    /// Permits that are held here.
    held: u64,
    /// Who waits here for a permit.
    waiting: u64,
    /// Who is at its end: at most 32, those refused most first.
    low: Vec<LowView>,
}

/// Somebody at the end of a limit.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct LowView {
    /// A key, `tenant …`, `user …` or `ip …`; empty where the limit is the same for all.
    who: String,
    /// How often it was refused here; an estimate from above when very many are refused.
    refused: u64,
    /// What was left for it when last seen low.
    remaining: u64,
    /// Of how much.
    of: u64,
    /// When that was, in milliseconds since the Unix epoch.
    seen: i64,
}
