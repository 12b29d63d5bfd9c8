//! What one order is told, and how each telling must end. Decided by the seed alone, and known to
//! the client before it sends anything: the prediction owes nothing to what the server says.

use serde_json::{Value, json};

use crate::support::Random;

/// Articles there are; all have plenty.
pub(super) const SKUS: [&str; 7] = ["tea", "cup", "pot", "jam", "bun", "oat", "fig"];

/// One telling.
pub(super) struct Step {
    /// Below `/orders/{order}`; empty to place it.
    pub(super) path: &'static str,
    /// The body, if any.
    pub(super) body: Option<Value>,
    /// How it must end.
    pub(super) end: End,
}

/// How a telling must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    /// With this code.
    Failed(&'static str),
    DeadLettered,
}

/// All tellings of one order, in order.
pub(super) fn steps(seed: u64, order: u64) -> Vec<Step> {
    let mut random = Random::seeded(seed ^ order.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let lines: Vec<Value> = (0..=random.below(3))
        .map(|_| {
            let sku = SKUS[random.below(SKUS.len() as u64) as usize];
            json!({"sku": sku, "quantity": 1 + random.below(3), "unit_price": 1 + random.below(500)})
        })
        .collect();
    let total: u64 =
        lines.iter().map(|line| line["quantity"].as_u64().unwrap() * line["unit_price"].as_u64().unwrap()).sum();
    let customer = format!("customer-{}", order % 50);
    let mut steps = vec![step("", json!({"customer": customer, "currency": "EUR", "lines": lines}), End::Completed)];
    let (mut paid, mut cancelled, mut notes) = (false, false, 0);
    for _ in 0..5 + random.below(20) {
        let pay = |amount: u64, fail_times: u64, end| {
            step("/payments", json!({"amount": amount, "fail_times": fail_times}), end)
        };
        steps.push(match random.below(100) {
            0..3 if !paid && !cancelled => pay(total, 20, End::DeadLettered),
            0..10 if !paid && !cancelled => pay(total + 1, 0, End::Failed("wrong_amount")),
            0..25 => {
                let end = match (paid, cancelled) {
                    (true, _) => End::Failed("already_paid"),
                    (_, true) => End::Failed("order_cancelled"),
                    _ => End::Completed,
                };
                paid |= !cancelled;
                pay(total, random.below(4), end)
            }
            // A paid order may ship at any moment, so only what is unpaid has a certain end.
            25..30 if !paid => {
                let end = if cancelled { End::Failed("order_cancelled") } else { End::Completed };
                cancelled = true;
                Step { path: "/cancellation", body: None, end }
            }
            _ => {
                notes += 1;
                step("/notes", json!({"text": notes.to_string()}), End::Completed)
            }
        });
    }
    steps
}

fn step(path: &'static str, body: Value, end: End) -> Step {
    Step { path, body: Some(body), end }
}
