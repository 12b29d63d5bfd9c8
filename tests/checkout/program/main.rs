//! The program that is killed: the shop of `examples/checkout`, one order, and the order's client, who
//! repeats under the same Idempotency-Key until it has ended.
//!
//! `checkout-killed SCENARIO ORDER VENDORS [POINT NTH]`: dies the NTH time it passes POINT; otherwise it lives
//! to the end, and prints what became of everything.

#[path = "../../../examples/checkout/shop.rs"]
mod shop;
#[path = "../../../examples/checkout/vendors.rs"]
mod vendors;

use std::{path::Path, time::Duration};

use greenroom::{
    backend::Idempotency,
    config::Config,
    prelude::*,
    runtime::{
        node::Accept,
        view::{Found, State, View},
    },
    testing::{Point, kill_at},
};
use serde_json::{json, value::to_raw_value};
use shop::{Buy, Checkout, Shelf, Stock};
use vendors::Vendors;

/// How often the client looks by itself: what another node tells may be lost.
const LOOK: Duration = Duration::from_millis(50);

fn once(key: String) -> Option<Idempotency> {
    Some(Idempotency { key, fingerprint: 1, answer: "{}".into(), expires: i64::MAX })
}

async fn accept<A: Actor>(node: &Node, to: At<A>, key: String, command: A::Command) -> Result<RequestId> {
    let command = to_raw_value(&command)?;
    let accept =
        Accept { to: to.address()?, command, due: None, trace: None, idempotency: once(key), fence: None, wait: false };
    Ok(node.accept(accept).await?.request)
}

/// Follows a request to its end; it is approved when it asks for that and has left memory.
async fn ended(node: &Node, id: RequestId, order: &str, vendors: &Vendors) -> Result<View> {
    let mut changes = node.watch(id).await.ok_or_else(|| Error::new("no such request"))?;
    let mut approved = false;
    loop {
        let Found::Here(view) = node.request(id).await? else { return Err(Error::new("no such request")) };
        if view.status.ended() {
            return Ok(view);
        }
        let asks = vendors.all()?.iter().any(|call| call.what == "mail.approval");
        if asks && !approved && view.next_attempt_at.is_some() {
            let link = vendors.approval(order).await?;
            node.signal(&link.parse()?, to_raw_value(&true)?, once(format!("approve {order}"))).await?;
            approved = true;
        }
        // Whether it was told or not: it looks again.
        let _ = tokio::time::timeout(LOOK, changes.changed()).await;
    }
}

async fn play(node: Node, scenario: String, order: String, vendors: Vendors) -> Result<()> {
    let fill = accept(&node, Stock::at(&*order), format!("fill {order}"), Shelf::Fill(1)).await?;
    ended(&node, fill, &order, &vendors).await?;
    let customer = if scenario == "refused" { "mallory" } else { "bob" };
    let buy = Buy { customer: customer.into(), sku: order.clone(), amount: 900 };
    let bought = accept(&node, Checkout::at(&*order), format!("buy {order}"), buy).await?;
    let view = ended(&node, bought, &order, &vendors).await?;
    // A mail leaves with the commit; on its way to another partition it is in no ledger yet.
    let told = view.status == State::Completed;
    while (told && !vendors.all()?.iter().any(|call| call.what == "mail.send")) || node.ledger().await?.in_flight() > 0
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (stock, state) = (node.state::<Stock>(&order).await?, node.state::<Checkout>(&order).await?);
    let (audit, code) = (node.audit().await?, view.error.map(|error| error.code));
    println!(
        "{}",
        json!({
            "status": view.status, "code": code, "stock": stock, "order": state,
            "balanced": audit.balanced, "in_flight": audit.in_flight, "dead": audit.dead,
        })
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, order, file, doom @ ..] = arguments.as_slice() else {
        return Err(Error::terminal("usage: checkout-killed SCENARIO ORDER VENDORS [POINT NTH]"));
    };
    let vendors = Vendors::on(Path::new(file));
    if let [point, nth] = doom {
        let point = Point::ALL.into_iter().find(|known| format!("{known:?}") == *point);
        kill_at(point.ok_or_else(|| Error::terminal("no such point"))?, nth.parse()?);
    }
    let (scenario, order) = (scenario.clone(), order.clone());
    App::new(Config::load(None)?)
        .feature(shop::feature(&vendors))
        .run_until(|node| play(node, scenario, order, vendors))
}
