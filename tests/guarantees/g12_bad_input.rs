//! G12 bad input: malformed input gets an RFC 9457 problem with the field and the reason, and
//! enqueues nothing; undecodable stored bytes go to dead letters, never away.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Answer, Random, Server, eventually, server::audit};

const ORDER: &str = "/orders/00000000-0000-4000-8000-000000000000";

fn accepted(data: &Path) -> u64 {
    let (code, books) = audit(data);
    assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
    books["accepted"].as_u64().unwrap()
}

#[track_caller]
fn is_problem(answer: &Answer, status: u16, place: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(["type", "title"].iter().all(|member| problem[member].is_string()), "{problem}");
    let told = match place {
        "" => problem["title"].as_str().is_some_and(|title| title.len() > 8),
        place => problem["errors"].as_array().is_some_and(|errors| {
            let at = |e: &Value| ["pointer", "parameter", "header"].iter().any(|kind| e[kind] == place);
            errors.iter().any(|e| at(e) && e["reason"].as_str().is_some_and(|reason| reason.len() > 3))
        }),
    };
    assert!(told, "expected {place:?} to be named in {problem}");
}

#[test]
fn whatever_is_wrong_is_named_and_nothing_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let client = server.client();
    let post =
        |path: &str, headers: &[(&str, &str)], body: &[u8]| client.send("POST", path, headers, Some(body)).unwrap();
    let json_type = [("content-type", "application/json")];

    for (body, status, place) in [
        (&b""[..], 400, ""),
        (b"{", 400, ""),
        (b"{\"customer\":\"ann\",}", 400, ""),
        (b"\xff\xfe\x00garbage", 400, ""),
        (b"{\"customer\":\"a\xffb\"}", 400, ""),
        (b"null", 422, ""),
        (b"[]", 422, ""),
        (br#"{"customer":"ann"}"#, 422, "/currency"),
        (br#"{"customer":7,"currency":"EUR","lines":[]}"#, 422, "/customer"),
        (br#"{"customer":"ann","currency":"EUR","lines":[],"total":1}"#, 422, "/total"),
        (br#"{"customer":"","currency":"EUR","lines":[{"sku":"tea","quantity":1,"unit_price":1}]}"#, 422, "/customer"),
        (
            br#"{"customer":"ann","currency":"EURO","lines":[{"sku":"tea","quantity":1,"unit_price":1}]}"#,
            422,
            "/currency",
        ),
        (br#"{"customer":"ann","currency":"EUR","lines":[]}"#, 422, "/lines"),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":0,"unit_price":1}]}"#,
            422,
            "/lines/0/quantity",
        ),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":-1,"unit_price":1}]}"#,
            422,
            "/lines/0/quantity",
        ),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":1.5,"unit_price":1}]}"#,
            422,
            "/lines/0/quantity",
        ),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":1,"unit_price":1e30}]}"#,
            422,
            "/lines/0/unit_price",
        ),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"t e a","quantity":1,"unit_price":1}]}"#,
            422,
            "/lines/0/sku",
        ),
        (
            br#"{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":1,"unit_price":1,"x":1}]}"#,
            422,
            "/lines/0/x",
        ),
    ] {
        is_problem(&post("/orders", &json_type, body), status, place);
    }
    let deep = [&b"{\"customer\":"[..], &[b'['; 100_000]].concat();
    is_problem(&post("/orders", &json_type, &deep), 422, "/customer");
    is_problem(&post("/orders", &json_type, &vec![b' '; 2 << 20]), 413, "");
    is_problem(&post("/orders", &[("content-type", "text/plain")], b"{}"), 415, "");
    is_problem(&post("/orders", &[("content-type", "application/json"), ("content-encoding", "gzip")], b"{}"), 415, "");

    let paid = |headers: &[(&str, &str)], body: &[u8]| post(&format!("{ORDER}/payments"), headers, body);
    is_problem(&paid(&json_type, br#"{"amount":-1}"#), 422, "/amount");
    is_problem(&paid(&json_type, br#"{"amount":18446744073709551616}"#), 422, "/amount");
    is_problem(&paid(&json_type, br#"{"amount":1,"fail_times":21}"#), 422, "/fail_times");
    let good = br#"{"amount":1}"#;
    for key in ["", &"k".repeat(256), "with space"] {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        is_problem(&paid(&headers, good), 400, "Idempotency-Key");
    }

    for path in
        ["/orders/7/payments", "/orders/..%2f/payments", "/orders/AAAAAAAA-0000-4000-8000-000000000000/payments"]
    {
        is_problem(&post(path, &json_type, good), 400, "order");
    }
    for (path, status, place) in [
        ("/orders/7", 400, "order"),
        ("/orders?limit=0", 400, "limit"),
        ("/orders?limit=x", 400, "limit"),
        ("/orders?status=lost", 400, "status"),
        ("/orders?colour=red", 400, "colour"),
        ("/orders?cursor=nonsense", 400, "cursor"),
        ("/stock/a%20b", 400, "sku"),
        ("/requests/7", 404, ""),
        ("/nowhere", 404, ""),
    ] {
        is_problem(&client.get(path), status, place);
    }
    let wrong_method = client.send("PUT", "/orders", &json_type, Some(b"{}")).unwrap();
    is_problem(&wrong_method, 405, "");
    assert!(wrong_method.header("allow").is_some_and(|allow| allow.contains("POST")));
    assert_eq!(accepted(dir.path()), 0);
}

#[test]
fn garbage_on_the_wire_enqueues_nothing_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let address = server.base().strip_prefix("http://").unwrap();
    let mut random = Random::seeded(Random::seed_from("GREENROOM_TEST_SEED"));
    for round in 0..200 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut garbage: Vec<u8> = (0..random.below(2_000)).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            let head =
                "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
            garbage.splice(..0, head.bytes());
        }
        // It may hang up on us in the middle; that is its right.
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    server.client().get("/readyz").expect(200);
    assert_eq!(accepted(dir.path()), 0);
}

/// The timer to ship of a paid order, changed on the disk by `sql` and due at once.
fn with_broken_timer(sql: &str, check: impl Fn(&Value)) {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::support::server::Setup::on(dir.path()).embedded().start();
    let client = server.client();
    let lines = json!([{"sku": "tea", "quantity": 2, "unit_price": 450}]);
    let placed =
        client.post("/orders", &json!({"customer": "ann", "currency": "EUR", "lines": lines})).expect(202).json();
    let order = placed["order"].as_str().unwrap();
    client.done(&format!("/orders/{order}/payments"), &json!({"amount": 900}));
    eventually("the timer to be set", || (audit(dir.path()).1["in_flight"] == 1).then_some(()));
    let path = format!("/orders/{order}");
    eventually("the stock to be held", || {
        (client.get(&path).expect(200).json()["stock"][0]["status"] == "held").then_some(())
    });
    assert!(server.terminate().success());
    let db = Connection::open(dir.path().join("greenroom.db")).unwrap();
    assert_eq!(db.execute(&format!("UPDATE deferred SET due = 1, {sql}"), []).unwrap(), 1);
    drop(db);

    let server = crate::support::server::Setup::on(dir.path()).embedded().start();
    let client = server.client();
    let letters = || client.get("/admin/dead-letters").expect(200).json()["items"].as_array().unwrap().clone();
    let letter = eventually("a dead letter", || letters().first().cloned());
    assert_eq!(letter["failures"][0]["code"], "undecodable", "{letter}");
    check(&letter);
    // Tried again it is as unreadable as before, and still not lost.
    let id = letter["id"].as_str().unwrap();
    client.post(&format!("/admin/dead-letters/{id}/redrive"), &json!({})).expect(200);
    eventually("it to be back", || letters().first().cloned());
    // The actor itself goes on.
    let note = client.done(&format!("/orders/{order}/notes"), &json!({"text": "still here"}));
    assert_eq!(note["status"], "completed");
    let (code, books) = audit(dir.path());
    assert_eq!((code, &books["balanced"], &books["dead"]), (Some(0), &true.into(), &1.into()), "{books}");
}

#[test]
fn stored_bytes_that_are_no_message_go_to_the_dead_letters() {
    with_broken_timer("envelope = x'00ff7b22'", |letter| assert!(letter["raw"].is_string(), "{letter}"));
}

#[test]
fn a_stored_command_that_the_actor_does_not_know_goes_to_the_dead_letters() {
    with_broken_timer("envelope = CAST(replace(CAST(envelope AS TEXT), '\"ship\"', '\"fly\"') AS BLOB)", |letter| {
        assert_eq!(letter["command"], "fly", "{letter}");
        assert!(letter["failures"][0]["causes"].to_string().contains("fly"), "{letter}");
    });
}
