//! G1 kept: a `202` is sent only once the message is durable; from then it ends as exactly one of
//! completed, failed, dead-lettered, cancelled.

use crate::{
    crash::{self, Plan},
    support::{Random, Server},
};

/// Two hundred kills; `GREENROOM_TEST_KILLS` and `GREENROOM_TEST_SEED` change and repeat it.
#[test]
fn two_hundred_kills_lose_nothing_and_repeat_nothing() {
    let kills = std::env::var("GREENROOM_TEST_KILLS").map_or(200, |text| text.parse().expect("a number"));
    let seed = Random::seed_from("GREENROOM_TEST_SEED");
    crash::run(&Plan { seed, kills, clients: 24, orders_at_once: 8 });
}

/// Whatever ends, ends in one way, and says so from then on, also in another life.
#[test]
fn an_end_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let body = serde_json::json!(
        {"customer": "ann", "currency": "EUR", "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}]}
    );
    let placed = client.post("/orders", &body).expect(202).json();
    let order = placed["order"].as_str().unwrap();
    let wrong = client.post(&format!("/orders/{order}/payments"), &serde_json::json!({"amount": 1})).expect(202).json();
    let requests = [placed["request"].as_str().unwrap(), wrong["request"].as_str().unwrap()];
    let before = requests.map(|request| client.ended(request));
    assert_eq!((&before[0]["status"], &before[1]["status"]), (&"completed".into(), &"failed".into()));
    server.kill();
    let client = Server::start(dir.path());
    let after = requests.map(|request| client.client().ended(request));
    assert_eq!(before, after);
}
