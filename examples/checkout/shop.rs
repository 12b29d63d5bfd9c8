//! A checkout, written as one function that survives any crash: reserve, charge, ask the fraud model,
//! wait for an approval, pay out, notify. What it did is taken back when it cannot go on.

use std::time::Duration;

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};

use crate::vendors::Vendors;

/// Orders above this are approved by a person.
const LIMIT: u64 = 500;
/// How long that person has.
const PATIENCE: Duration = Duration::from_secs(2 * 24 * 3600);
/// What the fraud model must not reach, of 100.
const RISKY: u64 = 80;

/// One order is one key.
pub(crate) struct Checkout {
    pub(crate) vendors: Vendors,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Buy {
    pub(crate) customer: String,
    pub(crate) sku: String,
    pub(crate) amount: u64,
}

/// What a paid order remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) charge: String,
    pub(crate) payout: String,
}

impl Actor for Checkout {
    const KIND: &'static str = "checkout";
    type State = Order;
    type Command = Buy;
    type Reply = Order;

    async fn handle(&self, order: &mut Order, buy: Buy, cx: &Context<Self>) -> Result<Order> {
        let Buy { customer, sku, amount } = buy;
        let vendors = &self.vendors;

        cx.ask(Stock::at(&*sku), Shelf::Reserve).await?;
        cx.undo("reserve", async move |_: &Self, cx: &Context<Self>| {
            cx.ask(Stock::at(sku), Shelf::Release).await?;
            Ok(())
        });

        let charge = cx.run("bank.charge", |key| vendors.charge(key, &customer, amount)).await?;
        let charged = charge.clone();
        cx.undo("charge", async move |shop: &Self, cx: &Context<Self>| {
            cx.run("bank.refund", |key| shop.vendors.refund(key, &charged)).await
        });

        let risk = cx.run("model.risk", |key| vendors.risk(key, &customer)).timeout(Duration::from_secs(5)).await?;
        if risk >= RISKY {
            return Err(Error::terminal(format!("a risk of {risk} in 100")).code("fraud"));
        }

        if amount > LIMIT {
            let link = cx.signal_id("approval");
            cx.run("mail.approval", |key| vendors.ask_approval(key, cx.key(), &link)).await?;
            let approved: bool = cx.signal("approval").within(PATIENCE).await?;
            if !approved {
                return Err(Error::terminal("nobody wants to sell this").code("not_approved"));
            }
        }

        let payout = cx.run("bank.pay_out", |key| vendors.pay_out(key, amount)).await?;

        // The money has moved. A mail leaves with the commit: if it fails, it is the mailer that fails.
        cx.tell(Mailer::at(customer), format!("order {} is on its way", cx.key()));
        *order = Order { charge, payout };
        Ok(order.clone())
    }
}

/// What is on the shelf of one article.
pub(crate) struct Stock;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Shelf {
    Fill(u64),
    Reserve,
    Release,
}

impl Actor for Stock {
    const KIND: &'static str = "stock";
    type State = u64;
    type Command = Shelf;
    type Reply = u64;

    async fn handle(&self, left: &mut u64, command: Shelf, _: &Context<Self>) -> Result<u64> {
        match command {
            Shelf::Fill(number) => *left = number,
            Shelf::Reserve if *left == 0 => return Err(Error::terminal("none is left").code("sold_out")),
            Shelf::Reserve => *left -= 1,
            Shelf::Release => *left += 1,
        }
        Ok(*left)
    }
}

/// Writes to one customer.
pub(crate) struct Mailer {
    pub(crate) vendors: Vendors,
}

impl Actor for Mailer {
    const KIND: &'static str = "mailer";
    type State = ();
    type Command = String;
    type Reply = ();

    async fn handle(&self, (): &mut (), text: String, cx: &Context<Self>) -> Result<()> {
        cx.run("mail.send", |key| self.vendors.mail(key, cx.key(), &text)).await
    }
}

/// The actors of the shop.
pub(crate) fn feature(vendors: &Vendors) -> Feature {
    let vendors = vendors.clone();
    Feature::new(Checkout { vendors: vendors.clone() }).actor(Stock).actor(Mailer { vendors })
}
