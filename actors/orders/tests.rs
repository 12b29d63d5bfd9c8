//! The rules of an order, the limits of what clients send, and the names that are stored.

use garde::Validate;
use serde_json::{Value, json};

use super::{
    model::{Command, Happening, Hold, MAX_TOTAL, Order, PaymentStatus, Status},
    repository,
    service::{self, About, Effect, MAX_NOTES},
    validator::{Filter, Noting, Paying, Placement},
};

fn about(attempt: u32) -> About {
    About { now: 1_000, attempt, idempotency_key: "order-3-9".into() }
}

fn tea() -> Value {
    json!({"customer": "ann", "currency": "EUR", "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}]})
}

fn placement(json: Value) -> Placement {
    serde_json::from_value(json).unwrap()
}

fn pay(amount: u64, fail_times: u32) -> Command {
    Command::Pay(Paying { amount, fail_times })
}

fn held(sku: &str) -> Command {
    Command::StockHeld { sku: sku.into() }
}

fn refused(sku: &str) -> Command {
    Command::StockRefused { sku: sku.into() }
}

/// Applies commands that must all be accepted, and returns what followed from the last.
fn play(state: &mut Option<Order>, commands: impl IntoIterator<Item = Command>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for command in commands {
        effects = service::handle(state, command, &about(1)).unwrap().1;
    }
    effects
}

fn placed() -> Option<Order> {
    let mut state = None;
    let effects = play(&mut state, [Command::Place(placement(tea()))]);
    assert_eq!(effects, [Effect::Reserve("tea".into(), 2)]);
    state
}

fn code(state: &mut Option<Order>, command: Command) -> String {
    let before = state.clone();
    let error = service::handle(state, command, &about(1)).unwrap_err();
    assert!(error.is_terminal());
    assert_eq!(*state, before, "a refused command changes nothing");
    error.failure(1, 0).code
}

fn status(state: &Option<Order>) -> Status {
    state.as_ref().unwrap().status
}

#[test]
fn a_payment_fails_as_often_as_told_and_then_pays_once() {
    let mut state = placed();
    play(&mut state, [held("tea")]);
    for attempt in 1..=2 {
        let error = service::handle(&mut state, pay(900, 2), &about(attempt)).unwrap_err();
        assert!(!error.is_terminal());
        assert_eq!(status(&state), Status::Placed);
    }
    let (reply, effects) = service::handle(&mut state, pay(900, 2), &about(3)).unwrap();
    assert_eq!((reply.status, reply.total), (Status::Paid, 900));
    assert_eq!(effects, [Effect::ShipLater]);
    assert_eq!(state.as_ref().unwrap().payments[0].attempts, 3);
    assert_eq!(code(&mut state, pay(900, 0)), "already_paid");
    assert_eq!(state.unwrap().payments.len(), 1);
}

#[test]
fn a_payment_does_not_wait_for_the_stock_but_shipping_does() {
    let mut state = placed();
    assert_eq!(play(&mut state, [pay(900, 0)]), []);
    assert_eq!(status(&state), Status::Paid);
    play(&mut state, [Command::Ship]);
    assert_eq!(status(&state), Status::Paid, "not without its stock");
    assert_eq!(play(&mut state, [held("tea")]), [Effect::ShipLater]);
    play(&mut state, [Command::Ship]);
    assert_eq!(status(&state), Status::Shipped);
    assert_eq!(code(&mut state, Command::Cancel), "already_shipped");
}

#[test]
fn lack_of_stock_rejects_the_order_releases_the_rest_and_refunds() {
    let mut state = None;
    let lines = json!([
        {"sku": "tea", "quantity": 2, "unit_price": 100}, {"sku": "cup", "quantity": 1, "unit_price": 700},
        {"sku": "tea", "quantity": 3, "unit_price": 100}, {"sku": "pot", "quantity": 1, "unit_price": 0},
    ]);
    let effects =
        play(&mut state, [Command::Place(placement(json!({"customer": "ann", "currency": "EUR", "lines": lines})))]);
    let reserve = |sku: &str, quantity| Effect::Reserve(sku.into(), quantity);
    assert_eq!(effects, [reserve("tea", 5), reserve("cup", 1), reserve("pot", 1)], "one question an article");
    play(&mut state, [held("tea"), pay(1200, 0)]);
    assert_eq!(play(&mut state, [refused("cup")]), [Effect::Release("tea".into(), 5)]);
    assert_eq!(status(&state), Status::Rejected);
    assert_eq!(state.as_ref().unwrap().payments[0].status, PaymentStatus::Refunded);
    assert_eq!(play(&mut state, [held("pot")]), [Effect::Release("pot".into(), 1)], "late, so given back at once");
    assert_eq!(play(&mut state, [held("pot"), refused("pot")]), [], "an answer counts once");
    assert_eq!(code(&mut state, pay(1200, 0)), "order_rejected");
    assert_eq!(code(&mut state, Command::Cancel), "order_rejected");
}

#[test]
fn a_cancelled_order_gives_everything_back_and_never_ships() {
    let mut state = placed();
    play(&mut state, [held("tea"), pay(900, 0)]);
    assert_eq!(play(&mut state, [Command::Cancel]), [Effect::Release("tea".into(), 2)]);
    play(&mut state, [Command::Ship]);
    let order = state.clone().unwrap();
    assert_eq!((order.status, order.stock[0].status), (Status::Cancelled, Hold::Released));
    let events: Vec<_> = order.history.iter().map(|entry| entry.event).collect();
    use Happening::*;
    assert_eq!(events, [Placed, StockHeld, Paid, Cancelled, Refunded]);
    assert_eq!(code(&mut state, pay(900, 0)), "order_cancelled");
    assert_eq!(code(&mut state, Command::Cancel), "order_cancelled");
}

#[test]
fn refusals_have_a_code_and_change_nothing() {
    assert_eq!(code(&mut None, pay(900, 0)), "unknown_order");
    assert_eq!(code(&mut None, held("tea")), "unknown_order");
    let mut state = placed();
    assert_eq!(code(&mut state, Command::Place(placement(tea()))), "already_placed");
    assert_eq!(code(&mut state, pay(899, 20)), "wrong_amount");
    let note = |n: usize| Command::Note(Noting { text: n.to_string() });
    play(&mut state, (0..MAX_NOTES).map(note));
    assert_eq!(code(&mut state, note(MAX_NOTES)), "too_many_notes");
}

#[test]
fn a_total_that_json_cannot_hold_is_refused() {
    let mut lines = placement(tea()).lines;
    (lines[0].quantity, lines[0].unit_price) = (1, MAX_TOTAL);
    assert_eq!(service::total(&lines).unwrap(), MAX_TOTAL);
    lines.push(lines[0].clone());
    assert!(service::total(&lines).is_err());
    (lines[0].quantity, lines[0].unit_price) = (u32::MAX, u64::MAX);
    assert!(service::total(&lines).unwrap_err().is_terminal());
}

/// Whatever comes in whatever order: paid at most once, money and stock all accounted for.
#[test]
fn no_sequence_of_commands_breaks_the_books() {
    for seed in 0..3_000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let mut lines = tea();
        lines["lines"].as_array_mut().unwrap().push(json!({"sku": "cup", "quantity": 1, "unit_price": 100}));
        let (mut state, mut asked, mut given_back, mut answered) = (None, 0, 0, Vec::new());
        for _ in 0..30 {
            let command = match next(9) {
                0..=1 => Command::Place(placement(lines.clone())),
                2..=3 if !answered.contains(&"tea") => {
                    answered.push("tea");
                    held("tea")
                }
                4 if !answered.contains(&"cup") => {
                    answered.push("cup");
                    if next(2) == 0 { held("cup") } else { refused("cup") }
                }
                5 => pay(1000, 0),
                6 => pay(1, 0),
                7 => Command::Ship,
                _ => Command::Cancel,
            };
            if state.is_none() {
                answered.clear();
            }
            for effect in service::handle(&mut state, command, &about(1)).map_or(Vec::new(), |(_, effects)| effects) {
                match effect {
                    Effect::Reserve(_, quantity) => asked += quantity,
                    Effect::Release(_, quantity) => given_back += quantity,
                    Effect::ShipLater => {}
                }
            }
        }
        let Some(order) = state else { continue };
        let of = |wanted| order.stock.iter().filter(|s| s.status == wanted).map(|s| s.quantity).sum::<u64>();
        assert_eq!(asked, 3, "seed {seed}: stock is asked for once");
        assert_eq!(given_back, of(Hold::Released), "seed {seed}: given back once");
        assert!(order.payments.len() <= 1, "seed {seed}");
        let paid = order.payments.first().is_some_and(|p| p.status == PaymentStatus::Paid);
        match order.status {
            Status::Placed => assert!(order.payments.is_empty(), "seed {seed}"),
            Status::Paid => assert!(paid, "seed {seed}"),
            Status::Shipped => assert!(paid && of(Hold::Held) == 3, "seed {seed}"),
            Status::Cancelled | Status::Rejected => assert!(!paid && of(Hold::Held) == 0, "seed {seed}"),
        }
    }
}

#[test]
fn limits_are_checked_and_named() {
    let with = |pointer: &str, value: Value| {
        let mut body = tea();
        *body.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value::<Placement>(body).unwrap().validate().map_err(|report| report.to_string())
    };
    assert!(with("/customer", json!("ann")).is_ok());
    for (pointer, wrong, path) in [
        ("/customer", json!(""), "customer"),
        ("/customer", json!("é".repeat(65)), "customer"),
        ("/customer", json!("a\u{0}b"), "customer"),
        ("/currency", json!("eur"), "currency"),
        ("/currency", json!("XXQ"), "currency"),
        ("/lines", json!([]), "lines"),
        ("/lines", Value::Array(vec![tea()["lines"][0].clone(); 101]), "lines"),
        ("/lines/0/sku", json!("a b"), "lines[0].sku"),
        ("/lines/0/sku", json!("../x"), "lines[0].sku"),
        ("/lines/0/sku", json!("x".repeat(65)), "lines[0].sku"),
        ("/lines/0/quantity", json!(0), "lines[0].quantity"),
        ("/lines/0/quantity", json!(10_001), "lines[0].quantity"),
        ("/lines/0/unit_price", json!(100_000_001), "lines[0].unit_price"),
    ] {
        let report = with(pointer, wrong.clone()).unwrap_err();
        assert!(report.starts_with(path), "{pointer} {wrong}: {report}");
    }
    assert!(with("/customer", json!("é".repeat(64))).is_ok());
    assert!(with("/lines/0/unit_price", json!(0)).is_ok());
    for wrong in [json!({"amount": -1}), json!({"amount": 1.5}), json!({"amount": 1, "x": 1}), json!({})] {
        assert!(serde_json::from_value::<Paying>(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(Paying { amount: 1, fail_times: 21 }.validate().is_err());
    assert!(Noting { text: String::new() }.validate().is_err());
}

#[test]
fn stored_names_never_change() {
    use greenroom::Actor;
    assert_eq!(super::Orders::KIND, "order");
    let json = |command: &Command| serde_json::to_string(command).unwrap();
    assert_eq!(
        json(&Command::Place(placement(tea()))),
        r#"{"place":{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":2,"unit_price":450}]}}"#
    );
    assert_eq!(json(&pay(900, 2)), r#"{"pay":{"amount":900,"fail_times":2}}"#);
    assert_eq!(json(&held("tea")), r#"{"stock_held":{"sku":"tea"}}"#);
    assert_eq!(json(&refused("tea")), r#"{"stock_refused":{"sku":"tea"}}"#);
    assert_eq!(json(&Command::Note(Noting { text: "hi".into() })), r#"{"note":{"text":"hi"}}"#);
    assert_eq!((json(&Command::Ship), json(&Command::Cancel)), (r#""ship""#.into(), r#""cancel""#.into()));
    assert_eq!(json(&Command::Follow), r#""follow""#);
    let mut state = placed();
    play(&mut state, [held("tea"), pay(900, 0), Command::Note(Noting { text: "hi".into() })]);
    assert_eq!(
        serde_json::to_value(&state).unwrap(),
        json!({
            "customer": "ann", "status": "paid", "currency": "EUR", "total": 900, "placed_at": 1000,
            "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}],
            "stock": [{"sku": "tea", "quantity": 2, "status": "held"}],
            "payments": [{"reference": "pay-order-3-9", "amount": 900, "status": "paid", "attempts": 1, "at": 1000}],
            "history": [
                {"at": 1000, "event": "placed"}, {"at": 1000, "event": "stock_held", "about": "tea"},
                {"at": 1000, "event": "paid"}, {"at": 1000, "event": "noted", "about": "hi"},
            ],
        })
    );
    for status in [Status::Placed, Status::Paid, Status::Shipped, Status::Cancelled, Status::Rejected] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
}

#[test]
fn every_filter_has_its_index() {
    for (customer, status) in
        [(None, None), (Some("ann"), None), (None, Some(Status::Paid)), (Some("ann"), Some(Status::Paid))]
    {
        let filter = Filter { customer: customer.map(str::to_owned), status, ..Filter::default() };
        repository::query(filter).check("order", &repository::indexes()).unwrap();
    }
}
