//! Orders: place, reserve stock, pay, ship later, cancel. Everything about them is in this folder.
//!
//! ```text
//! router → validator → controller ─► mailbox ─► Orders ─► service (the rules, pure)
//!                          │                       │ ▲
//!                          └─ repository (reads)   ▼ │ reserve, held, refused, release
//!                                                 Stock
//! ```

mod controller;
mod currency;
pub mod model;
mod payment;
mod repository;
mod router;
mod service;
pub mod stock;
pub mod validator;

#[cfg(test)]
mod tests;

use std::time::Duration;

use greenroom::prelude::*;
use service::{About, Effect};

/// What can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long after its payment an order ships.
    pub ship_after: Duration,
    /// How many of every article there are at first.
    pub initial_stock: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ship_after: Duration::from_secs(3600), initial_stock: 1_000_000 }
    }
}

/// The feature: both actors and their routes.
pub fn feature(settings: Settings) -> Feature {
    let Settings { ship_after, initial_stock } = settings;
    Feature::new(Orders { ship_after })
        .actor(stock::Stock { initial: initial_stock })
        .routes(router::routes(initial_stock))
}

/// The actors of kind `order`; the key is the order's id.
pub struct Orders {
    /// How long after its payment an order ships.
    pub ship_after: Duration,
}

impl Actor for Orders {
    const KIND: &'static str = "order";
    type State = Option<model::Order>;
    type Command = model::Command;
    type Reply = model::Reply;

    async fn handle(
        &self,
        order: &mut Option<model::Order>,
        command: model::Command,
        cx: &Context<Self>,
    ) -> Result<model::Reply> {
        let about = About { now: cx.now(), attempt: cx.attempt(), idempotency_key: cx.idempotency_key() };
        let (reply, effects) = service::handle(order, command, &about)?;
        for effect in effects {
            match effect {
                Effect::Reserve(sku, quantity) => {
                    let order = cx.key().to_owned();
                    cx.tell(stock::Stock::at(sku), stock::Command::Reserve { order, quantity });
                }
                Effect::Release(sku, quantity) => {
                    cx.tell(stock::Stock::at(sku), stock::Command::Release { quantity });
                }
                Effect::ShipLater => cx.tell(cx.me(), model::Command::Ship).after(self.ship_after),
            }
        }
        Ok(reply)
    }

    /// Payments fail and recover in a moment more often than not, so the first waits are short.
    fn retry(&self) -> Retry {
        Retry::times(8).backoff(Duration::from_millis(100), Duration::from_secs(1))
    }

    fn indexes() -> Vec<Index> {
        repository::indexes()
    }
}
