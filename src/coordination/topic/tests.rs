//! What is stored of topics never changes its form; and what only the inside can see.

use serde_json::value::{RawValue, to_raw_value};

use super::{actor::Command, log::Log, *};
use crate::{actor::Actor, backend::document, prelude::*, testing::World};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn stored_names_never_change() {
    let json = |value: &Command| serde_json::to_string(value).unwrap();
    let publish = Command::Publish { key: "k".into(), event: raw("[1]") };
    assert_eq!(json(&publish), r#"{"Publish":{"key":"k","event":[1]}}"#);
    assert_eq!(json(&Command::Go { group: "g".into(), turn: 2 }), r#"{"Go":{"group":"g","turn":2}}"#);
    let steer = Command::Steer { group: "g".into(), how: Steer::Replay { since: Some(7) } };
    assert_eq!(json(&steer), r#"{"Steer":{"group":"g","how":{"replay":{"since":7}}}}"#);
    assert_eq!(json(&Command::Tidy { due: None }), r#"{"Tidy":{"due":null}}"#);
    assert_eq!(
        [Topics::KIND, Pages::KIND, Refused::KIND],
        ["greenroom_topic", "greenroom_topic_page", "greenroom_subscription"]
    );

    let mut log = Log::default();
    log.named("orders/3").unwrap();
    log.push(5, "a\"b", &raw(r#"{"n":1}"#)).unwrap();
    log.push(6, "c", &raw("2")).unwrap();
    let doc: bson::Document = bson::deserialize_from_slice(&document::encode(&log, 10_000).unwrap()).unwrap();
    let state = doc.get_document("state").unwrap();
    assert_eq!(state.get_str("tail").unwrap(), r#"[5,"a\"b",{"n":1}],[6,"c",2]"#);
    let names: Vec<&String> = state.keys().collect();
    let all = [
        "topic", "shard", "shards", "keep", "last", "at", "gone", "bytes", "tail", "tail_n", "tail_at", "groups",
        "tidy", "pressed",
    ];
    assert_eq!(names, all);
    let log: Log = document::decode(&document::encode(&log, 10_000).unwrap()).unwrap();
    let text = log.tail();
    let lines = super::log::lines(&text).unwrap();
    assert_eq!((lines[0].at, &*lines[0].key, lines[1].value.get()), (5, "a\"b", "2"));
    assert_eq!((log.tail_first(), log.oldest(), log.last), (1, 1, 2));
}

#[test]
fn the_shard_of_a_key_never_changes() {
    // Logs depend on these.
    assert_eq!(["ann", "bob", "order-7"].map(|key| shard_of(key, 8)), [0, 5, 3]);
    assert_eq!(parse_shard(&shard_key("a.b-c", 12)), Some(("a.b-c", 12)));
}

#[test]
fn a_tail_becomes_a_page_when_it_is_full() {
    for (bytes, most) in [(10, 256), (1000, 17), (100_000, 1)] {
        let (mut log, event) = (Log::default(), to_raw_value(&"x".repeat(bytes)).unwrap());
        for n in 1..most {
            log.push(n as i64, "k", &event).unwrap();
            assert!(log.seal().unwrap().is_none(), "{bytes} bytes, {n} events");
        }
        log.push(most as i64, "k", &event).unwrap();
        let sealed = log.seal().unwrap().unwrap();
        assert_eq!((sealed.first, sealed.count, sealed.at, sealed.until), (1, most, 1, most as i64));
        assert_eq!(
            (log.tail_first(), log.tail(), log.bytes),
            (most + 1, "[]".into(), sealed.events.get().len() as u64)
        );
    }
}

#[test]
fn pages_that_go_leave_nothing() {
    const FEW: Topic<String> = Topic::new("few").keep_bytes(60 << 10);
    World::new(|| vec![Feature::default().topic(FEW)]).play(async |mut world| {
        for _ in 0..50 {
            world.node().clone().publish(FEW, "k", &"x".repeat(3000)).await.unwrap();
            world.advance(std::time::Duration::from_secs(2)).await;
        }
        let (rows, _) = world.store().query(Pages::KIND, Query::new()).await.unwrap();
        assert!((2..=3).contains(&rows.len()), "{} pages are left", rows.len());
        let first = rows.iter().map(|(_, doc)| document::decode::<page::Page>(doc).unwrap().first).min().unwrap();
        let saved = world.state::<Topics>("few/0").await.unwrap();
        assert_eq!((saved.oldest(), saved.groups.len()), (first, 0));
        world.no_loss().await;
    });
}

#[test]
fn a_topic_that_nobody_declares_is_kept_whole() {
    const LOOSE: Topic<u64> = Topic::new("loose");
    World::new(Vec::new).play(async |mut world| {
        world.node().clone().publish(LOOSE, "k", &1).await.unwrap();
        world.advance(std::time::Duration::from_secs(400 * 24 * 3600)).await;
        assert_eq!(world.node().topic("loose").await.unwrap().unwrap().kept, 1);
        assert_eq!(world.audit().await.in_flight, 0);
    });
}

#[test]
fn a_start_that_changes_nothing_writes_nothing() {
    const KNOWN: Topic<u64> = Topic::new("known").shards(3);
    let features = || vec![Feature::default().subscribe(KNOWN, "g", |_, _| {})];
    World::new(features).play(async |mut world| {
        world.settle().await;
        let accepted = world.audit().await.accepted;
        // Told once, and each looks when it will be tidied: an empty log never is.
        world.restart().await;
        world.settle().await;
        assert_eq!((world.audit().await.accepted, accepted), (accepted, 3));
    });
}
