//! A shop publishes what happens, and whoever wants to know subscribes: billing today, stats tomorrow.
//! Neither knows of the other, and the shop knows of none.
//!
//! An event leaves with the commit of the order, and each group gets it once, as an ordinary command. A group
//! that comes later gets what happened before it was there.

use std::collections::BTreeMap;

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Placed {
    customer: String,
    total: u64,
}

/// The one constant that shop and subscribers share.
const ORDERS: Topic<Placed> = Topic::new("orders");

struct Shop;

impl Actor for Shop {
    const KIND: &'static str = "shop";
    type State = u64;
    type Command = Placed;
    type Reply = u64;

    async fn handle(&self, orders: &mut u64, order: Placed, cx: &Context<Self>) -> Result<u64> {
        *orders += 1;
        cx.publish(ORDERS, &order.customer, &order);
        Ok(*orders)
    }
}

struct Billing {
    seen: mpsc::UnboundedSender<(String, u64)>,
}

impl Actor for Billing {
    const KIND: &'static str = "billing";
    type State = u64;
    type Command = u64;
    type Reply = ();

    async fn handle(&self, owed: &mut u64, total: u64, cx: &Context<Self>) -> Result<()> {
        *owed += total;
        // Only this example looks in from outside; actors never need to.
        Ok(self.seen.send((cx.key().to_owned(), *owed))?)
    }
}

struct Stats {
    seen: mpsc::UnboundedSender<(u64, u64)>,
}

impl Actor for Stats {
    const KIND: &'static str = "stats";
    type State = (u64, u64);
    type Command = u64;
    type Reply = ();

    async fn handle(&self, (orders, sum): &mut (u64, u64), total: u64, _: &Context<Self>) -> Result<()> {
        (*orders, *sum) = (*orders + 1, *sum + total);
        Ok(self.seen.send((*orders, *sum))?)
    }
}

/// Billing has an actor for each customer.
fn billing(seen: mpsc::UnboundedSender<(String, u64)>) -> Feature {
    Feature::new(Billing { seen }).subscribe(ORDERS, "billing", |event, to| {
        to.tell(Billing::at(&*event.value.customer), event.value.total);
    })
}

/// Stats has one for all.
fn stats(seen: mpsc::UnboundedSender<(u64, u64)>) -> Feature {
    Feature::new(Stats { seen }).subscribe(ORDERS, "stats", |event, to| to.tell(Stats::at("orders"), event.value.total))
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (billed, mut bills) = mpsc::unbounded_channel();
    let today = App::embedded(data.path()).feature(Feature::new(Shop)).feature(billing(billed.clone()));
    today.run_until(|node| async move {
        for (customer, total) in [("ann", 100), ("bob", 40), ("ann", 20)] {
            node.tell(Shop::at("main"), Placed { customer: customer.into(), total }).await?;
        }
        let mut owes = BTreeMap::new();
        for _ in 0..3 {
            let (customer, owed) = bills.recv().await.ok_or_else(|| Error::new("billing is gone"))?;
            owes.insert(customer, owed);
        }
        println!("billing: ann owes {}, bob owes {}", owes["ann"], owes["bob"]);
        Ok(())
    })?;
    // Another build, with a feature that did not exist when the orders were placed.
    let (counted, mut counts) = mpsc::unbounded_channel();
    let tomorrow =
        App::embedded(data.path()).feature(Feature::new(Shop)).feature(billing(billed)).feature(stats(counted));
    tomorrow.run_until(|_| async move {
        while let Some((orders, sum)) = counts.recv().await {
            if orders == 3 {
                println!("stats came late: {orders} orders, {sum} in all");
                break;
            }
        }
        Ok(())
    })
}
