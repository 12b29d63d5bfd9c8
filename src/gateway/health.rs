//! Whether the process lives, whether it can accept, and its numbers.
//! Invariant: `/readyz` fails from the first moment of a drain, before intake stops (G8).

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, http::header};
use serde_json::json;

use super::{problem::Problem, problems::NOT_READY, shared::Shared};
use crate::runtime::node::Node;

/// How long the store may take to show that it can write.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the process lives.
#[utoipa::path(tag = "about", responses((status = 200, description = "It does", body = Object)))]
#[get("/livez")]
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({ "status": "alive" }))
}

/// Whether this node can durably accept right now.
#[utoipa::path(
    tag = "about",
    responses(
        (status = 200, description = "It can", body = Object),
        (status = 503, description = "It cannot: the detail says why"),
    )
)]
#[get("/readyz")]
pub(crate) async fn ready(req: HttpRequest) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(&req)?;
    let not_ready = |why: String| Problem::of(&NOT_READY).detail(why).retry_after(Duration::from_secs(1));
    if shared.is_retiring() {
        return Err(not_ready("The node is draining.".to_owned()));
    }
    match tokio::time::timeout(PATIENCE, shared.node.ready()).await {
        Ok(Ok(())) => {
            Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({ "status": "ready" })))
        }
        Ok(Err(error)) => Err(not_ready(error.to_string())),
        Err(_) => Err(not_ready(format!("The store did not answer within {} seconds.", PATIENCE.as_secs()))),
    }
}

/// Every number, as OpenMetrics text.
#[utoipa::path(
    tag = "about",
    responses((status = 200, description = "The numbers", body = String, content_type = "application/openmetrics-text"))
)]
#[get("/metrics")]
pub(crate) async fn metrics(node: Node) -> HttpResponse {
    let read = async { Ok::<_, crate::Error>((node.ledger().await?, node.oldest().await?)) };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok((ledger, oldest))) => {
            node.metrics().ledger(&ledger);
            node.metrics().mailbox_oldest(oldest);
        }
        Ok(Err(error)) => tracing::warn!(reason = %error, "the ledger cannot be read for a scrape"),
        Err(_) => tracing::warn!("the ledger was not read in time for a scrape"),
    }
    match tokio::time::timeout(PATIENCE, node.topics()).await {
        Ok(Ok(topics)) => node.metrics().topic_lags(&topics),
        Ok(Err(error)) => tracing::warn!(reason = %error, "the topics cannot be read for a scrape"),
        Err(_) => tracing::warn!("the topics were not read in time for a scrape"),
    }
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(node.metrics().encode())
}
