//! All that can be seen of a store from outside, without changing anything: the same before and after a
//! migration.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use greenroom::{
    Address,
    backend::{Backend, DeadFilter, Lookup, Stored},
    envelope::Position,
};
use serde_json::{Value, json};

use crate::expected::{Expected, NOW};

/// Looks at everything of the partitions, actors and users that `of` names.
pub(crate) async fn snapshot(backend: &Arc<dyn Backend>, of: &Expected) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    for partition in 0..of.partitions {
        let (mut known, mut last) = (BTreeMap::new(), 0);
        loop {
            let position = Position::new(partition, last + 1);
            let Some(found) = message(backend, position).await else { break };
            if !found.is_null() {
                known.insert(position.to_string(), found);
            }
            last += 1;
        }
        seen.insert(format!("{partition} last"), json!(last));
        seen.insert(format!("{partition} messages"), json!(known));
        let all = backend.read(partition, Position::new(partition, 0), 100_000).await.unwrap();
        seen.insert(format!("{partition} mailbox"), positions(&all));
        let due = backend.due(partition, i64::MAX / 2, None, Default::default(), 10_000).await.unwrap();
        seen.insert(format!("{partition} due"), positions(&due.messages));
        let now = backend.due(partition, NOW, None, Default::default(), 10_000).await.unwrap();
        seen.insert(format!("{partition} due now"), json!([positions(&now.messages), now.next]));
        let mut parked = BTreeMap::new();
        for address in backend.blocked(partition, None, 10_000).await.unwrap() {
            let behind = backend.parked(&address, Position::new(partition, 0), 10_000).await.unwrap();
            parked.insert(address.to_string(), positions(&behind));
        }
        seen.insert(format!("{partition} parked"), json!(parked));
        let mut journaled = backend.journaled(partition).await.unwrap();
        journaled.sort();
        seen.insert(format!("{partition} journaled"), journaled.iter().map(ToString::to_string).collect());
    }
    let ledgers = backend.ledgers().await.unwrap();
    let ledgers: Vec<Value> = ledgers.iter().map(|ledger| json!([none_lost(json!(ledger)), ledger.bytes])).collect();
    seen.insert("ledgers".into(), json!(ledgers));
    seen.insert("audit".into(), none_lost(json!(backend.audit().await.unwrap())));
    seen.insert("dead".into(), json!(backend.dead(DeadFilter::default(), None, 10_000).await.unwrap()));
    let addresses: Vec<Address> = of.addresses.iter().map(|address| address.parse().unwrap()).collect();
    let loaded = backend.load(addresses).await.unwrap();
    let states = of.addresses.iter().zip(loaded);
    let states: BTreeMap<&String, Value> =
        states.map(|(address, loaded)| (address, json!([loaded.rev, STANDARD.encode(loaded.doc)]))).collect();
    seen.insert("states".into(), json!(states));
    seen.insert("paused".into(), json!(backend.paused().await.unwrap()));
    for user in &of.users {
        let sessions = backend.sessions_of(user.clone(), NOW).await.unwrap();
        let sessions: Vec<String> = sessions.iter().map(|session| format!("{session:?}")).collect();
        seen.insert(format!("sessions of {user}"), json!([sessions, backend.session_era(user.clone()).await.unwrap()]));
    }
    seen
}

/// What became of a message, with its journal; nothing when there is none yet, null when it is forgotten.
pub(crate) async fn message(backend: &Arc<dyn Backend>, position: Position) -> Option<Value> {
    let mut found = match backend.lookup(position).await.unwrap() {
        Lookup::Unknown => return None,
        // They are many, and all alike.
        Lookup::Expired => return Some(Value::Null),
        Lookup::Waiting(stored) => waiting(&stored),
        Lookup::Ended(ended) => json!({ "ended": ended.status, "at": ended.ended, "attempts": ended.attempts,
            "reply": ended.reply, "error": ended.error }),
        Lookup::Dead(dead) => json!({ "dead": dead }),
        Lookup::Lost => json!({ "lost": true }),
    };
    let journal = backend.journal(position).await.unwrap();
    if !journal.is_empty() {
        found["journal"] = journal.iter().map(|entry| STANDARD.encode(entry)).collect();
    }
    Some(found)
}

/// Format 1 could not say that anything was lost.
fn none_lost(mut counts: Value) -> Value {
    assert_eq!(counts.as_object_mut().unwrap().remove("lost"), Some(json!(0)));
    counts
}

fn waiting(stored: &Stored) -> Value {
    let envelope = stored.envelope.as_ref().map(|envelope| json!(**envelope));
    json!({
        "now": stored.position.to_string(),
        "home": format!("{:?}", stored.home),
        "envelope": envelope.unwrap_or_else(|bad| json!(STANDARD.encode(&bad.bytes))),
        "size": stored.size,
        "attempts": stored.attempts,
        "failures": stored.failures,
        "due": stored.due,
        "parked": stored.parked,
    })
}

fn positions(all: &[Stored]) -> Value {
    all.iter().map(|stored| stored.position.to_string()).collect()
}

/// Fails with what differs, if anything does.
pub(crate) fn same(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    for (name, expected) in expected {
        let found = found.get(name).unwrap_or(&Value::Null);
        if let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) {
            for (key, expected) in expected {
                assert_eq!(found.get(key), Some(expected), "{name}: {key}");
            }
        }
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(found.len(), expected.len());
}
