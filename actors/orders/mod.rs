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
pub mod views;

#[cfg(test)]
mod tests;

use std::time::Duration;

use greenroom::{config::Config, prelude::*};
use serde::Deserialize;
use service::{About, Effect};

/// The section `[orders]` of the configuration, with its defaults.
pub const DEFAULTS: &str = include_str!("config.toml");

/// What can be configured, as [`DEFAULTS`] explains it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Settings {
    #[serde(deserialize_with = "greenroom::config::duration")]
    ship_after: Duration,
    initial_stock: u32,
}

/// The feature: both actors and their routes.
pub fn feature(config: &Config) -> Result<Feature> {
    let Settings { ship_after, initial_stock } = config.section("orders")?;
    let initial = u64::from(initial_stock);
    Ok(Feature::new(Orders { ship_after }).actor(stock::Stock { initial }).routes(router::routes(initial)))
}

/// The channel that tells what happens to an order.
pub(crate) fn channel(order: &str) -> String {
    format!("order-{order}")
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
        let known = order.as_ref().map_or(0, |order| order.history.len());
        let (reply, effects) = service::handle(order, command, &about)?;
        // An order that nobody follows costs nothing more.
        if let Some(order) = order.as_ref().filter(|order| order.followed) {
            for entry in &order.history[known..] {
                cx.push(&channel(cx.key()), "happened", &views::HappeningView { status: order.status, entry });
            }
        }
        for effect in effects {
            match effect {
                Effect::Reserve(sku, quantity) => {
                    let order = cx.key().to_owned();
                    cx.tell(stock::Stock::at(sku), stock::Command::Reserve { order, quantity });
                }
                Effect::Release(sku, quantity) => {
                    cx.tell(stock::Stock::at(sku), stock::Command::Release { quantity });
                }
                Effect::ShipLater => {
                    cx.tell(cx.me(), model::Command::Ship).after(self.ship_after);
                }
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
