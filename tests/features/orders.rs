//! Orders as a client sees them.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::{
    Client, PATIENCE, Server, eventually,
    server::{Setup, audit},
};

fn placement(customer: &str) -> Value {
    json!({"customer": customer, "currency": "EUR", "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}]})
}

/// Places an order, waits until that is done, and returns its id.
fn place(client: &Client, placement: &Value) -> String {
    let accepted = client.post("/orders", placement).expect(202).json();
    let ended = client.ended(accepted["request"].as_str().unwrap());
    assert_eq!(ended["status"], "completed", "{ended}");
    accepted["order"].as_str().unwrap().to_owned()
}

/// Waits until the order's `field` is `value`.
fn wait_for(client: &Client, order: &str, pointer: &str, value: &str) -> Value {
    eventually(&format!("{pointer} of the order to be {value}"), || {
        let view = client.get(&format!("/orders/{order}")).expect(200).json();
        (view.pointer(pointer).is_some_and(|is| is == value)).then_some(view)
    })
}

fn events(order: &Value) -> Vec<&str> {
    order["history"].as_array().unwrap().iter().filter_map(|entry| entry["event"].as_str()).collect()
}

fn stock(client: &Client, sku: &str) -> (u64, u64) {
    let view = client.get(&format!("/stock/{sku}")).expect(200).json();
    (view["available"].as_u64().unwrap(), view["taken"].as_u64().unwrap())
}

/// The lines of an event stream, those of the answer's head among them.
fn stream(client: &Client, path: &str) -> impl Iterator<Item = String> {
    let mut stream = TcpStream::connect(client.base().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    BufReader::new(stream).lines().map_while(Result::ok)
}

#[test]
fn an_order_is_followed_live_and_gone_on_with_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let order = place(&client, &placement("ann"));
    wait_for(&client, &order, "/stock/0/status", "held");
    let path = format!("/orders/{order}/live");
    client.get("/orders/00000000-0000-0000-0000-000000000000/live").expect(404);
    let id = |line: String| line.strip_prefix("id: ").map(str::to_owned);
    let happened = |line: String| {
        let json: Value = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        Some((json["event"].as_str()?.to_owned(), json["status"].as_str()?.to_owned()))
    };
    let mut first = stream(&client, &path);
    let ready = first.by_ref().find_map(id).unwrap();
    client.done(&format!("/orders/{order}/notes"), &json!({ "text": "ring twice" }));
    assert_eq!(first.find_map(happened), Some(("noted".into(), "placed".into())));
    drop(first);
    client.done(&format!("/orders/{order}/payments"), &json!({ "amount": 900 }));
    let seen: Vec<_> = stream(&client, &format!("{path}?after={ready}")).filter_map(happened).take(2).collect();
    assert_eq!(seen, [("noted".into(), "placed".into()), ("paid".into(), "paid".into())]);
}

#[test]
fn an_order_is_placed_and_paid_at_the_third_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();

    let accepted = client.post("/orders", &placement("ann")).expect(202);
    let promise = accepted.json();
    let request = promise["request"].as_str().unwrap();
    assert_eq!(promise["status"], "accepted");
    assert_eq!(accepted.header("location"), Some(format!("/requests/{request}").as_str()));
    assert_eq!(client.ended(request)["status"], "completed");

    let order = promise["order"].as_str().unwrap();
    assert_eq!(promise["links"]["order"], format!("/orders/{order}"));
    let paid = client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900, "fail_times": 2}));
    assert_eq!((&paid["status"], &paid["attempts"]), (&"completed".into(), &3.into()), "{paid}");
    assert_eq!(paid["result"], json!({"status": "paid", "total": 900, "currency": "EUR"}));

    let view = wait_for(&client, order, "/stock/0/status", "held");
    assert_eq!(view["order"], order);
    assert_eq!((&view["customer"], &view["status"]), (&"ann".into(), &"paid".into()));
    assert_eq!((&view["total"], &view["currency"]), (&900.into(), &"EUR".into()));
    assert_eq!(view["lines"], placement("ann")["lines"]);
    assert_eq!((&view["payments"][0]["amount"], &view["payments"][0]["attempts"]), (&900.into(), &3.into()));
    assert_eq!(events(&view)[0], "placed");

    let again = client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    assert_eq!((&again["status"], &again["error"]["code"]), (&"failed".into(), &"already_paid".into()));
    // Three requests of ours, one question to the stock and its answer, one timer to ship.
    let (code, books) = audit(dir.path());
    assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
    assert_eq!((&books["accepted"], &books["failed"], &books["in_flight"]), (&6.into(), &1.into(), &1.into()));
}

#[test]
fn a_paid_order_ships_when_its_time_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::on(dir.path()).set("orders", "ship_after", "300ms").start();
    let client = server.client();
    let order = place(&client, &placement("ann"));
    client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    let view = wait_for(&client, &order, "/status", "shipped");
    let at = |event: &str| {
        view["history"].as_array().unwrap().iter().find(|entry| entry["event"] == event).unwrap()["at"]
            .as_i64()
            .unwrap()
    };
    let armed = at("paid").max(at("stock_held"));
    assert!(at("shipped") >= armed + 300, "never early: {view}");
    let late = client.post_with(&format!("/orders/{order}/cancellation"), &json!({}), &[]).expect(202).json();
    assert_eq!(client.ended(late["request"].as_str().unwrap())["error"]["code"], "already_shipped");
}

#[test]
fn a_cancelled_order_is_refunded_and_its_stock_released() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let order = place(&client, &placement("ann"));
    client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    wait_for(&client, &order, "/stock/0/status", "held");
    assert_eq!(stock(&client, "tea"), (999_998, 2));
    let cancelled = client.done(&format!("/orders/{order}/cancellation"), &json!({}));
    assert_eq!(cancelled["result"]["status"], "cancelled");
    let view = client.get(&format!("/orders/{order}")).expect(200).json();
    assert_eq!((&view["status"], &view["payments"][0]["status"]), (&"cancelled".into(), &"refunded".into()));
    eventually("the stock to be back", || (stock(&client, "tea") == (1_000_000, 0)).then_some(()));
}

#[test]
fn an_order_without_enough_stock_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::on(dir.path()).set("orders", "initial_stock", "5").start();
    let client = server.client();
    let three = json!({"customer": "ann", "currency": "EUR", "lines": [
        {"sku": "cup", "quantity": 1, "unit_price": 100}, {"sku": "tea", "quantity": 3, "unit_price": 100}]});
    let first = place(&client, &three);
    wait_for(&client, &first, "/stock/1/status", "held");
    let second = place(&client, &three);
    let view = wait_for(&client, &second, "/status", "rejected");
    assert!(events(&view).contains(&"stock_refused"), "{view}");
    let paid = client.done(&format!("/orders/{second}/payments"), &json!({"amount": 400}));
    assert_eq!(paid["error"]["code"], "order_rejected");
    eventually("what it held to be back", || {
        (stock(&client, "cup") == (4, 1) && stock(&client, "tea") == (2, 3)).then_some(())
    });
}

#[test]
fn orders_are_listed_by_customer_and_status_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let anns: Vec<String> = (0..5).map(|_| place(&client, &placement("ann"))).collect();
    let bobs = place(&client, &placement("bob & co"));
    for order in &anns[..3] {
        client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    }
    let pages = |query: &str| {
        let mut found = Vec::new();
        let mut sizes = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("/orders?{query}{cursor}")).expect(200).json();
            let items = page["items"].as_array().unwrap();
            sizes.push(items.len());
            found.extend(items.iter().map(|item| item["order"].as_str().unwrap().to_owned()));
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (found, sizes),
            }
        }
    };
    let sorted = |mut orders: Vec<String>| {
        orders.sort();
        orders
    };
    let (paid, sizes) = pages("customer=ann&status=paid&limit=2");
    assert_eq!(sorted(paid), sorted(anns[..3].to_vec()));
    assert_eq!(sizes[0], 2);
    assert_eq!(sorted(pages("customer=ann&limit=1").0), sorted(anns.clone()));
    assert_eq!(pages("customer=bob%20%26%20co").0, [bobs]);
    assert_eq!(pages("status=placed&limit=50").0.len(), 3);
    assert_eq!(pages("").0.len(), 6);
    assert_eq!(pages("customer=nobody").0.len(), 0);
    let all = client.get("/orders").expect(200).json();
    let times: Vec<i64> = all["items"].as_array().unwrap().iter().map(|i| i["placed_at"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
}

#[test]
fn a_repeat_under_one_key_is_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let key = [("idempotency-key", "cart-7")];
    let first = client.post_with("/orders", &placement("ann"), &key).expect(202);
    let again = client.post_with("/orders", &placement("ann"), &key).expect(202);
    assert_eq!(first.text, again.text);
    client.post_with("/orders", &placement("bob"), &key).expect(422);
    client.ended(first.json()["request"].as_str().unwrap());
    assert_eq!(client.get("/orders").expect(200).json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn refused_payments_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let order = place(&client, &placement("ann"));
    let pay = |order: &str, amount: u64| client.done(&format!("/orders/{order}/payments"), &json!({"amount": amount}));
    let wrong = pay(&order, 899);
    assert_eq!((&wrong["status"], &wrong["attempts"]), (&"failed".into(), &1.into()));
    assert_eq!(wrong["error"]["code"], "wrong_amount");
    let nobody = "00000000-0000-4000-8000-000000000000";
    assert_eq!(pay(nobody, 900)["error"]["code"], "unknown_order");
    client.get(&format!("/orders/{nobody}")).expect(404);
}

#[test]
fn a_payment_in_progress_survives_a_kill_and_pays_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let order = place(&client, &placement("ann"));
    let body = json!({"amount": 900, "fail_times": 4});
    let accepted = client.post(&format!("/orders/{order}/payments"), &body).expect(202).json();
    let request = accepted["request"].as_str().unwrap();
    eventually("the first attempt to fail", || {
        let view = client.get(&format!("/requests/{request}")).expect(200).json();
        (view["status"] == "processing" && view["error"].is_object()).then_some(())
    });
    server.kill();
    let server = Server::start(dir.path());
    let client = server.client();
    assert_eq!(client.ended(request)["status"], "completed");
    let view = client.get(&format!("/orders/{order}")).expect(200).json();
    assert_eq!((&view["status"], view["payments"].as_array().unwrap().len()), (&"paid".into(), 1));
}

#[test]
fn a_payment_that_fails_too_often_is_a_dead_letter_and_the_order_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let order = place(&client, &placement("ann"));
    let dead = client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900, "fail_times": 20}));
    assert_eq!((&dead["status"], &dead["attempts"]), (&"dead-lettered".into(), &8.into()), "{dead}");
    let paid = client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    assert_eq!(paid["status"], "completed");
}
