//! Who is connected live, over HTTP, and closing such connections. Invariant: what is listed is bounded,
//! and nodes that did not answer are named.

use actix_web::{HttpResponse, delete, get};
use garde::Validate;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    admin::Admin,
    extract::ValidQuery,
    problem::Problem,
    schemas::{ConnectionsView, DisconnectedView},
};
use crate::runtime::node::Node;

/// Which connections.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Of this channel: its connections themselves.
    #[garde(length(min = 1, max = 512))]
    #[param(min_length = 1, max_length = 512)]
    channel: Option<String>,
}

/// Lists live connections: how many each node has, and the channels with most.
#[utoipa::path(
    tag = "admin",
    operation_id = "connections",
    params(Which),
    responses((status = 200, description = "The connections", body = ConnectionsView))
)]
#[get("/admin/connections")]
pub(crate) async fn list(_: Admin, node: Node, which: ValidQuery<Which>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(node.connections(which.channel.as_deref()).await?))
}

/// Which connections to close.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closing {
    /// Of this channel.
    #[garde(length(min = 1, max = 512))]
    #[param(min_length = 1, max_length = 512)]
    channel: String,
    /// Only the one with this id.
    #[garde(length(min = 1, max = 20))]
    #[param(min_length = 1, max_length = 20)]
    connection: Option<String>,
}

/// Closes the live connections of a channel, or one of them.
#[utoipa::path(
    tag = "admin",
    operation_id = "disconnect",
    params(Closing),
    responses((status = 200, description = "How many were closed", body = DisconnectedView))
)]
#[delete("/admin/connections")]
pub(crate) async fn close(_: Admin, node: Node, closing: ValidQuery<Closing>) -> Result<HttpResponse, Problem> {
    let closed = node.disconnect(&closing.channel, closing.connection.as_deref()).await?;
    Ok(HttpResponse::Ok().json(json!({ "closed": closed })))
}
