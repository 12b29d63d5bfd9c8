//! G10 bounded: memory is bounded; a full mailbox answers 429 with `Retry-After`, and nothing
//! accepted is ever trimmed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use greenroom::{prelude::*, testing::World};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    server::{Setup, audit},
};

const CLIENTS: usize = 16;
const NOTES: usize = 60;

/// One flood of notes, each as large as they may be, into a mailbox that holds eight of them.
#[test]
fn a_flood_is_answered_429_and_everything_accepted_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::on(dir.path()).set("store", "partitions", "1").set("store", "mailbox_bytes", "32KiB").start();
    let client = server.client();
    let placement =
        json!({"customer": "ann", "currency": "EUR", "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}]});
    let orders: Vec<String> = (0..CLIENTS)
        .map(|_| {
            let accepted = client.post("/orders", &placement).expect(202).json();
            assert_eq!(client.ended(accepted["request"].as_str().unwrap())["status"], "completed");
            accepted["order"].as_str().unwrap().to_owned()
        })
        .collect();
    let memory = server.memory();
    let refused = AtomicU64::new(0);
    let accepted: BTreeMap<&String, Vec<String>> = thread::scope(|scope| {
        let flood = |order| {
            let (client, refused) = (server.client(), &refused);
            move || {
                let mut told = Vec::new();
                let deadline = std::time::Instant::now() + PATIENCE;
                while told.len() < NOTES {
                    let text = format!("{} {}", told.len(), "𝄞".repeat(990));
                    let answer = client.post(&format!("/orders/{order}/notes"), &json!({ "text": text }));
                    match answer.status {
                        202 => told.push(text),
                        429 => {
                            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                            assert!(wait >= 1);
                            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {}", answer.text),
                    }
                    assert!(std::time::Instant::now() < deadline, "only {} notes accepted in {PATIENCE:?}", told.len());
                }
                told
            }
        };
        let floods: Vec<_> = orders.iter().map(|order| (order, scope.spawn(flood(order)))).collect();
        floods.into_iter().map(|(order, flood)| (order, flood.join().unwrap())).collect()
    });
    let refused = refused.load(Ordering::Relaxed);
    println!("{refused} notes were refused, {} accepted", CLIENTS * NOTES);
    assert!(refused > 0, "the mailbox was never full");
    let grown = server.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    for (order, told) in accepted {
        // The last command of the order: what came before it is done when it is.
        let path = format!("/orders/{order}/payments");
        let paid = crate::support::eventually("the mailbox to have room", || {
            let answer = client.post(&path, &json!({"amount": 900}));
            (answer.status != 429).then(|| answer.expect(202).json())
        });
        assert_eq!(client.ended(paid["request"].as_str().unwrap())["status"], "completed");
        let view = client.get(&format!("/orders/{order}")).expect(200).json();
        let notes: Vec<&Value> =
            view["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "noted").collect();
        let notes: Vec<&str> = notes.iter().map(|entry| entry["about"].as_str().unwrap()).collect();
        assert_eq!(notes, told, "each once and in order");
    }
    let (code, books) = audit(dir.path());
    assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
    // Placed, noted, paid, and a question and an answer for the stock; the ships wait for their time.
    assert_eq!(books["accepted"], CLIENTS * (NOTES + 5), "what was refused left no trace");
    assert_eq!(books["in_flight"], CLIENTS);
}

/// Its state is as large as it is told to make it.
struct Blob;

impl Actor for Blob {
    const KIND: &'static str = "blob";
    type State = String;
    type Command = usize;
    type Reply = usize;

    async fn handle(&self, text: &mut String, bytes: usize, _: &Context<Self>) -> Result<usize> {
        *text = "x".repeat(bytes);
        Ok(text.len())
    }
}

#[test]
fn a_state_may_be_nearly_sixteen_mebibytes_and_a_larger_one_fails_with_its_size() {
    const FITS: usize = (16 << 20) - 100_000;
    const TOO_LARGE: usize = 17 << 20;
    World::new(|| vec![Feature::new(Blob)]).play(async |mut world| {
        assert_eq!(world.ask(Blob::at("a"), FITS).await.unwrap().unwrap(), FITS);
        let error = world.ask(Blob::at("a"), TOO_LARGE).await.unwrap().unwrap_err();
        assert!(error.has_code("state_too_large"), "{error}");
        let said = error.to_string();
        assert!(said.contains("178258") && said.contains("split it over several keys"), "{said}");
        assert_eq!(world.state::<Blob>("a").await.unwrap().len(), FITS);
        assert_eq!(world.ask(Blob::at("a"), 1).await.unwrap().unwrap(), 1);
        world.no_loss().await;
    });
}
