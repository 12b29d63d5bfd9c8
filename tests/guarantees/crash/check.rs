//! What was promised against what became of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use serde_json::Value;

use super::{
    Plan,
    history::Event,
    script::{self, End, SKUS, Step},
    setup,
};
use crate::support::{Client, eventually, server::audit};

/// One order as the clients remember it.
struct Told {
    id: String,
    steps: Vec<Step>,
    /// The request of each promised step, in order.
    requests: Vec<String>,
}

impl Told {
    fn placement(&self) -> &Value {
        self.steps[0].body.as_ref().expect("a placement has a body")
    }

    /// Steps that were promised.
    fn promised(&self) -> &[Step] {
        &self.steps[..self.requests.len()]
    }

    /// Quantity of each article.
    fn quantities(&self) -> BTreeMap<&str, u64> {
        let mut quantities = BTreeMap::new();
        for line in self.placement()["lines"].as_array().expect("lines") {
            *quantities.entry(line["sku"].as_str().expect("a sku")).or_default() +=
                line["quantity"].as_u64().expect("a quantity");
        }
        quantities
    }

    fn took_effect(&self, path: &str) -> bool {
        self.promised().iter().any(|step| step.path == path && step.end == End::Completed)
    }

    fn status(&self) -> &'static str {
        match (self.took_effect("/payments"), self.took_effect("/cancellation")) {
            (true, _) => "shipped",
            (_, true) => "cancelled",
            _ => "placed",
        }
    }
}

/// Starts the last life, waits for the end of everything, and compares.
pub(super) fn everything(plan: &Plan, data: &Path, history: &[Event]) {
    let orders = told(plan, history);
    let server = setup(data).start();
    let client = server.client();
    for order in orders.values() {
        requests_ended_as_predicted(order, &client);
        order_is_as_predicted(order, &client);
    }
    stock_is_as_predicted(&orders, &client);
    assert!(server.terminate().success(), "it drains in order");
    ledger_is_as_predicted(&orders, data);
    let requests: usize = orders.values().map(|order| order.requests.len()).sum();
    println!("{} orders, {requests} promises: every one kept, once, in order", orders.len());
}

/// Reads the history: every step that was sent was promised in the end, each order's in order,
/// no two under one name.
fn told(plan: &Plan, history: &[Event]) -> HashMap<u64, Told> {
    let mut orders: HashMap<u64, Told> = HashMap::new();
    let mut sent = 0_usize;
    let mut names = HashSet::new();
    for event in history {
        match event {
            Event::Sent { .. } => sent += 1,
            Event::Promised { order, step, request, id } => {
                let steps = || script::steps(plan.seed, *order);
                let told = orders.entry(*order).or_insert_with(|| Told {
                    id: id.clone(),
                    steps: steps(),
                    requests: Vec::new(),
                });
                assert_eq!(*step, told.requests.len(), "order {order}: the clients told it in order");
                assert!(names.insert(request.clone()), "request {request} was promised for two things");
                told.requests.push(request.clone());
            }
        }
    }
    assert_eq!(sent, names.len(), "a client left something half-told");
    let ids: HashSet<&String> = orders.values().map(|told| &told.id).collect();
    assert_eq!(ids.len(), orders.len(), "two orders got one name");
    orders
}

fn requests_ended_as_predicted(order: &Told, client: &Client) {
    for (step, request) in order.promised().iter().zip(&order.requests) {
        let view = client.ended(request);
        let (status, code) = (view["status"].as_str().unwrap_or_default(), view["error"]["code"].as_str());
        let as_predicted = match step.end {
            End::Completed => status == "completed",
            End::Failed(expected) => status == "failed" && code == Some(expected),
            End::DeadLettered => status == "dead-lettered" && code == Some("payment_unavailable"),
        };
        assert!(as_predicted, "order {} {}: expected {:?}, got {view}", order.id, step.path, step.end);
    }
}

fn order_is_as_predicted(order: &Told, client: &Client) {
    let is = eventually(&format!("order {} to be {}", order.id, order.status()), || {
        let is = client.get(&format!("/orders/{}", order.id)).expect(200).json();
        (is["status"] == order.status()).then_some(is)
    });
    let events = |event: &str| -> Vec<&Value> {
        is["history"].as_array().expect("a history").iter().filter(|entry| entry["event"] == event).collect()
    };
    let notes: Vec<&str> = events("noted").iter().filter_map(|entry| entry["about"].as_str()).collect();
    let told: Vec<&str> = order
        .promised()
        .iter()
        .filter(|step| step.path == "/notes")
        .filter_map(|step| step.body.as_ref()?["text"].as_str())
        .collect();
    assert_eq!(notes, told, "order {}: each note once, in the order it was accepted", order.id);
    for (event, expected) in [
        ("placed", 1),
        ("paid", usize::from(order.took_effect("/payments"))),
        ("shipped", usize::from(order.took_effect("/payments"))),
        ("cancelled", usize::from(order.took_effect("/cancellation"))),
        ("refunded", 0),
        ("stock_refused", 0),
        ("rejected", 0),
    ] {
        assert_eq!(events(event).len(), expected, "order {}: {event}: {is}", order.id);
    }
    let payments = is["payments"].as_array().expect("payments");
    assert_eq!(payments.len(), usize::from(order.took_effect("/payments")), "order {}: {is}", order.id);
    assert!(payments.iter().all(|payment| payment["amount"] == is["total"] && payment["status"] == "paid"));
    assert_eq!(is["lines"], order.placement()["lines"]);
    assert_eq!(is["customer"], order.placement()["customer"]);
}

/// What is gone from the shelves is what uncancelled orders hold.
fn stock_is_as_predicted(orders: &HashMap<u64, Told>, client: &Client) {
    for sku in SKUS {
        let held: u64 = orders
            .values()
            .filter(|order| order.status() != "cancelled")
            .filter_map(|order| order.quantities().get(sku).copied())
            .sum();
        eventually(&format!("{held} {sku} to be held"), || {
            let shelf = client.get(&format!("/stock/{sku}")).expect(200).json();
            (shelf["taken"] == held).then_some(())
        });
    }
}

/// Every message is in the ledger once: the clients' own, and those that actors sent because of
/// them.
fn ledger_is_as_predicted(orders: &HashMap<u64, Told>, data: &Path) {
    let [mut accepted, mut failed, mut dead] = [0_u64; 3];
    for order in orders.values() {
        for step in order.promised() {
            accepted += 1;
            match step.end {
                End::Completed => {}
                End::Failed(_) => failed += 1,
                End::DeadLettered => dead += 1,
            }
        }
        // Each article is asked for and answered; released when cancelled. A paid order ships.
        let skus = order.quantities().len() as u64;
        accepted += 2 * skus;
        accepted += if order.took_effect("/cancellation") { skus } else { 0 };
        accepted += u64::from(order.took_effect("/payments"));
    }
    let (code, books) = audit(data);
    assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
    for (name, expected) in [
        ("accepted", accepted),
        ("completed", accepted - failed - dead),
        ("failed", failed),
        ("dead", dead),
        ("cancelled", 0),
        ("in_flight", 0),
    ] {
        assert_eq!(books[name], expected, "{name}: {books}");
    }
}
