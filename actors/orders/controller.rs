//! HTTP in, command or answer out. Whatever arrives here is valid.

use actix_web::{HttpResponse, get, post, web};
use greenroom::{
    gateway::{Intake, Live, Place, Problem, Valid, ValidPath, ValidQuery, problems},
    prelude::*,
};
use serde_json::json;

use super::{
    Orders, channel,
    model::Command,
    repository,
    validator::{Filter, Noting, OrderId, Paying, Placement, Sku},
    views::{OrderPage, OrderPromise, OrderSummary, OrderView, StockView},
};

/// Places an order.
///
/// Its stock is reserved once it is placed; without enough of it the order is rejected.
#[utoipa::path(
    tag = "orders",
    operation_id = "place_order",
    request_body = Placement,
    responses((status = 202, description = "Accepted: the order will be placed", body = OrderPromise))
)]
#[post("/orders")]
pub(super) async fn place(intake: Intake, placement: Valid<Placement>) -> Result<HttpResponse, Problem> {
    let order = OrderId::new(intake.id());
    tell(&intake, order, Command::Place(placement.0)).await
}

/// Pays an order.
///
/// The payment provider can be told to fail some times first. An order is paid once, by its exact
/// total; the request fails with `wrong_amount`, `already_paid`, `order_cancelled`,
/// `order_rejected` or `unknown_order` otherwise.
#[utoipa::path(
    tag = "orders",
    operation_id = "pay_order",
    params(OrderId),
    request_body = Paying,
    responses((status = 202, description = "Accepted: the order will be paid", body = OrderPromise))
)]
#[post("/orders/{order}/payments")]
pub(super) async fn pay(
    intake: Intake,
    order: ValidPath<OrderId>,
    paying: Valid<Paying>,
) -> Result<HttpResponse, Problem> {
    tell(&intake, order.0, Command::Pay(paying.0)).await
}

/// Writes a note into the order's history.
#[utoipa::path(
    tag = "orders",
    operation_id = "note_order",
    params(OrderId),
    request_body = Noting,
    responses((status = 202, description = "Accepted: the note will be written", body = OrderPromise))
)]
#[post("/orders/{order}/notes")]
pub(super) async fn note(
    intake: Intake,
    order: ValidPath<OrderId>,
    noting: Valid<Noting>,
) -> Result<HttpResponse, Problem> {
    tell(&intake, order.0, Command::Note(noting.0)).await
}

/// Cancels an order that has not shipped: releases its stock and refunds it.
#[utoipa::path(
    tag = "orders",
    operation_id = "cancel_order",
    params(OrderId),
    responses((status = 202, description = "Accepted: the order will be cancelled", body = OrderPromise))
)]
#[post("/orders/{order}/cancellation")]
pub(super) async fn cancel(intake: Intake, order: ValidPath<OrderId>) -> Result<HttpResponse, Problem> {
    tell(&intake, order.0, Command::Cancel).await
}

async fn tell(intake: &Intake, OrderId { order }: OrderId, command: Command) -> Result<HttpResponse, Problem> {
    let href = format!("/orders/{order}");
    intake.accept(Orders::at(order.as_str()), command).link("order", href).answer(json!({ "order": order })).await
}

/// One order.
#[utoipa::path(
    tag = "orders",
    operation_id = "show_order",
    params(OrderId),
    responses(
        (status = 200, description = "The order", body = OrderView),
        (status = 404, description = "There is no such order, or it is not placed yet"),
    )
)]
#[get("/orders/{order}")]
pub(super) async fn show(node: Node, order: ValidPath<OrderId>) -> Result<web::Json<OrderView>, Problem> {
    let OrderId { order: id } = order.0;
    let order = repository::find(&node, &id).await?;
    let order = order.ok_or_else(|| Problem::not_found("There is no such order, or it is not placed yet."))?;
    Ok(web::Json(OrderView::of(id, order)))
}

/// Follows an order: an event `happened` for each thing that happens to it from now on.
///
/// As a WebSocket if the client asks for one, else as server-sent events. A client that comes back goes on
/// where it was, by `Last-Event-ID` or `?after=`. Look at the order after the first `ready`, and nothing
/// is missed in between.
#[utoipa::path(
    tag = "orders",
    operation_id = "follow_order",
    params(OrderId, ("after" = Option<String>, Query, description = "Go on after the event of this id")),
    responses(
        (status = 200, description = "Events", body = String, content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket that carries the same"),
        (status = 404, description = "There is no such order, or it is not placed yet"),
    )
)]
#[get("/orders/{order}/live")]
pub(super) async fn live(
    live: Live,
    node: Node,
    order: ValidPath<OrderId>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let OrderId { order: id } = order.0;
    let order = repository::find(&node, &id).await?;
    let order = order.ok_or_else(|| Problem::not_found("There is no such order, or it is not placed yet."))?;
    if !order.followed {
        // Before the connection is ready, so that it misses nothing.
        node.ask(Orders::at(id.as_str()), Command::Follow).await?;
    }
    live.open(&channel(&id), payload).await
}

/// Orders by customer and status, newest first.
#[utoipa::path(
    tag = "orders",
    operation_id = "list_orders",
    params(Filter),
    responses((status = 200, description = "A page of orders", body = OrderPage))
)]
#[get("/orders")]
pub(super) async fn list(node: Node, filter: ValidQuery<Filter>) -> Result<web::Json<OrderPage>, Problem> {
    let page = repository::list(&node, filter.0).await.map_err(|error| match error.is_terminal() {
        // The filters have their indexes, so only a cursor can be wrong.
        true => Problem::of(&problems::MALFORMED_QUERY).fault(Place::Parameter("cursor".into()), error.to_string()),
        false => error.into(),
    })?;
    let items = page.items.into_iter().filter_map(|(id, order)| Some(OrderSummary::of(id, order?))).collect();
    Ok(web::Json(OrderPage { items, cursor: page.cursor }))
}

/// How many of every article there are at first.
pub(super) struct InitialStock(pub(super) u64);

/// The stock of one article.
#[utoipa::path(
    tag = "orders",
    operation_id = "show_stock",
    params(Sku),
    responses((status = 200, description = "The stock", body = StockView))
)]
#[get("/stock/{sku}")]
pub(super) async fn stock(
    node: Node,
    sku: ValidPath<Sku>,
    initial: web::Data<InitialStock>,
) -> Result<web::Json<StockView>, Problem> {
    let Sku { sku } = sku.0;
    let shelf = repository::shelf(&node, &sku).await?;
    Ok(web::Json(StockView { available: shelf.available(initial.0), taken: shelf.taken, sku }))
}
