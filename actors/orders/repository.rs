//! Reading orders and stock back: by key, and by the declared indexes. Writing is the commit's.

use greenroom::prelude::*;

use super::{
    Orders,
    model::{Order, Status},
    stock::{Shelf, Stock},
    validator::Filter,
};

/// What [`list`] filters and sorts by. `customer`, `status` and `placed_at` are fields of the
/// state and never change their names.
pub(super) fn indexes() -> Vec<Index> {
    vec![
        Index::on(["customer", "status", "placed_at"]),
        Index::on(["customer", "placed_at"]),
        Index::on(["status", "placed_at"]),
        Index::on(["placed_at"]),
    ]
}

/// One order, if it was ever placed.
pub(super) async fn find(node: &Node, order: &str) -> Result<Option<Order>> {
    Ok(node.state::<Orders>(order).await?.flatten())
}

/// Orders, newest first.
pub(super) async fn list(node: &Node, filter: Filter) -> Result<Page<Option<Order>>> {
    node.query::<Orders>(query(filter)).await
}

/// The shelf of one article, as it is at first if nothing ever happened to it.
pub(super) async fn shelf(node: &Node, sku: &str) -> Result<Shelf> {
    Ok(node.state::<Stock>(sku).await?.unwrap_or_default())
}

/// The question that `filter` asks.
pub(super) fn query(filter: Filter) -> Query {
    let Filter { customer, status, limit, cursor } = filter;
    let mut query = Query::new().newest_by("placed_at").limit(limit.map_or(50, usize::from));
    if let Some(customer) = customer {
        query = query.eq("customer", customer);
    }
    if let Some(status) = status {
        query = query.eq("status", Status::name(status));
    }
    match cursor {
        Some(cursor) => query.after(cursor),
        None => query,
    }
}
