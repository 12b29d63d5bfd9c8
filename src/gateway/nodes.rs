//! Who runs what, over HTTP: the nodes that share the store, and the owner of each partition.
//! Invariant: these only tell; who owns what is decided between the nodes and the store.

use actix_web::{HttpResponse, get};
use serde_json::json;

use super::{
    admin::Admin,
    problem::Problem,
    schemas::{NodesView, PartitionsView},
};
use crate::runtime::node::Node;

/// Lists the nodes that share the store, each with the partitions it owns.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The nodes", body = NodesView)))]
#[get("/admin/nodes")]
pub(crate) async fn nodes(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "items": node.nodes().await? })))
}

/// Lists the partitions, each with its owner and its ledger.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The partitions", body = PartitionsView)))]
#[get("/admin/partitions")]
pub(crate) async fn partitions(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "items": node.partitions().await? })))
}
