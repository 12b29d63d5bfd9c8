//! What clients are shown, as JSON.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    model::{Entry, Order, Payment, Reservation, Status},
    validator::Line,
};

/// The promise that something will be done with an order.
#[derive(ToSchema)]
#[allow(dead_code, reason = "read by the OpenAPI document only: the gateway writes the answer")]
pub struct OrderPromise {
    /// The id of the request.
    #[schema(format = "uuid")]
    request: String,
    /// The id of the order.
    #[schema(format = "uuid")]
    order: String,
    /// How the request stands.
    #[schema(example = "accepted")]
    status: String,
    /// Where to look: `self` and `events` of the request, and the `order`.
    links: HashMap<String, String>,
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    /// Its id.
    #[schema(format = "uuid")]
    pub order: String,
    /// Who ordered.
    pub customer: String,
    /// How far it is.
    pub status: Status,
    /// The sum of its lines, in minor units.
    pub total: u64,
    /// ISO 4217.
    pub currency: String,
    /// What was ordered.
    pub lines: Vec<Line>,
    /// What it needs of the stock.
    pub stock: Vec<Reservation>,
    /// Payments that went through.
    pub payments: Vec<Payment>,
    /// What happened, oldest first.
    pub history: Vec<Entry>,
    /// When it was placed, in milliseconds since the Unix epoch.
    pub placed_at: i64,
}

impl OrderView {
    /// Of this order.
    pub fn of(id: String, order: Order) -> Self {
        let Order { customer, status, currency, total, lines, stock, payments, history, placed_at, .. } = order;
        Self { order: id, customer, status, total, currency, lines, stock, payments, history, placed_at }
    }
}

/// What is pushed of an order: something that happened to it, and how it stands since.
#[derive(Debug, Serialize, ToSchema)]
pub struct HappeningView<'a> {
    /// How far the order is.
    pub status: Status,
    /// What happened.
    #[serde(flatten)]
    pub entry: &'a Entry,
}

/// An order in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderSummary {
    /// Its id.
    #[schema(format = "uuid")]
    pub order: String,
    /// Who ordered.
    pub customer: String,
    /// How far it is.
    pub status: Status,
    /// The sum of its lines, in minor units.
    pub total: u64,
    /// ISO 4217.
    pub currency: String,
    /// When it was placed, in milliseconds since the Unix epoch.
    pub placed_at: i64,
}

impl OrderSummary {
    /// Of this order.
    pub fn of(id: String, order: Order) -> Self {
        let Order { customer, status, total, currency, placed_at, .. } = order;
        Self { order: id, customer, status, total, currency, placed_at }
    }
}

/// A page of orders.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderPage {
    /// Newest first.
    pub items: Vec<OrderSummary>,
    /// Where the next page starts; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cursor: Option<String>,
}

/// The stock of one article.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockView {
    /// Which article.
    pub sku: String,
    /// How many can still be set aside.
    pub available: u64,
    /// How many are set aside for orders, shipped or not.
    pub taken: u64,
}
