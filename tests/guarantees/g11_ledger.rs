//! G11 ledger: accepted = completed + failed + dead-lettered + cancelled + in flight, at every
//! moment, provable by `greenroom audit`; what does not add up is found and named.

use std::{path::Path, thread};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{
    Client, Server,
    server::{audit, greenroom},
};

fn place(client: &Client) -> Value {
    let lines = json!([{"sku": "tea", "quantity": 2, "unit_price": 450}]);
    client.post("/orders", &json!({"customer": "ann", "currency": "EUR", "lines": lines})).expect(202).json()
}

#[test]
fn it_balances_at_every_moment_of_a_busy_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let base = server.base();
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let client = Client::new(base);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let order = place(&client)["order"].as_str().unwrap().to_owned();
                    for amount in [1, 900] {
                        client.post(&format!("/orders/{order}/payments"), &json!({"amount": amount})).expect(202);
                    }
                    client.post(&format!("/orders/{order}/cancellation"), &json!({})).expect(202);
                }
            });
        }
        let seen: Vec<u64> = (0..20)
            .map(|_| {
                let (code, books) = audit(dir.path());
                assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
                let of = |name: &str| books[name].as_u64().unwrap();
                let ended = of("completed") + of("failed") + of("dead") + of("cancelled");
                assert_eq!(of("accepted"), ended + of("in_flight"));
                of("accepted")
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        seen
    });
    assert!(seen.is_sorted() && seen[19] > seen[0], "it was busy: {seen:?}");
    let metrics = server.client().get("/metrics").expect(200).text;
    assert!(metrics.contains("accepted"), "{metrics}");
}

/// The id of a request tells where its message is: number (48 bits) and partition (12 bits).
fn position(request: &str) -> i64 {
    let hex = request.replace('-', "");
    let number = i64::from_str_radix(&hex[..12], 16).unwrap();
    (i64::from_str_radix(&hex[12..16], 16).unwrap() & 0x0fff) << 48 | number
}

/// What `audit` says of a copy of the store after `tamper`.
fn after(data: &Path, tamper: impl FnOnce(&Connection) -> usize) -> Value {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let db = Connection::open(copy.path().join("greenroom.db")).unwrap();
    assert_eq!(tamper(&db), 1, "one row is tampered with");
    drop(db);
    let (code, books) = audit(copy.path());
    assert_eq!((code, &books["balanced"]), (Some(1), &false.into()), "{books}");
    let human = greenroom(&["audit", "--data", copy.path().to_str().unwrap()]);
    assert_eq!(human.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&human.stdout).contains("Not balanced"));
    books
}

#[test]
fn what_is_missing_or_double_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::support::server::Setup::on(dir.path()).embedded().start();
    let client = server.client();
    let promise = place(&client);
    let (placed, order) = (promise["request"].as_str().unwrap(), promise["order"].as_str().unwrap());
    let payment = json!({"amount": 900, "fail_times": 20});
    let promise = client.post(&format!("/orders/{order}/payments"), &payment).expect(202).json();
    let dead = promise["request"].as_str().unwrap();
    assert_eq!(client.ended(dead)["status"], "dead-lettered");
    let promise = client.post(&format!("/orders/{order}/payments"), &json!({"amount": 900})).expect(202).json();
    assert_eq!(client.ended(promise["request"].as_str().unwrap())["status"], "completed");
    assert!(server.terminate().success());
    let (code, books) = audit(dir.path());
    assert_eq!((code, &books["in_flight"], &books["dead"]), (Some(0), &1.into(), &1.into()), "{books}");

    let names = |books: &Value, request: &str| books["mismatches"].to_string().contains(request);
    let run = |sql: String| move |db: &Connection| db.execute(&sql, []).unwrap();
    let result = after(dir.path(), run(format!("DELETE FROM results WHERE position = {}", position(placed))));
    assert!(names(&result, placed), "{result}");
    let letter = after(dir.path(), run(format!("DELETE FROM dead WHERE position = {}", position(dead))));
    assert!(names(&letter, dead), "{letter}");
    // The one that waits is the timer to ship.
    let timer = after(dir.path(), run("DELETE FROM deferred".into()));
    assert!(timer["mismatches"][0]["what"].as_str().unwrap().contains("0 messages wait"), "{timer}");
    assert_eq!(timer["mismatches"][0]["messages"].as_array().unwrap().len(), 1);
    let copied = after(
        dir.path(),
        run(format!(
            "INSERT INTO mailbox SELECT position, attempts, envelope FROM dead WHERE position = {}",
            position(dead)
        )),
    );
    assert!(names(&copied, dead) && copied.to_string().contains("two places"), "{copied}");
    let at = position(placed) >> 48;
    let count = after(dir.path(), run(format!("UPDATE ledger SET completed = completed + 1 WHERE partition = {at}")));
    assert_eq!(count["mismatches"][0]["partition"], at, "{count}");
}
