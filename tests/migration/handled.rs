//! Everything in a restored store is handled to its end, once and in order, and what was promised by ids and
//! keys holds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    Address,
    backend::{
        Append, Appended, Backend, Fence, Idempotency, NotAppended, Scope,
        cluster::{Cluster, Options},
    },
    clock::Clock,
    envelope::{Envelope, Position},
    runtime::{
        node::{Node, Start},
        outside::{SignalId, Signalled},
        view::Found,
    },
};
use serde_json::Value;

use crate::{
    actors,
    expected::{Expected, LATE, NOW, position},
    support::PATIENCE,
};

/// A message from outside.
pub(crate) fn envelope(to: &str, command: &str) -> Envelope {
    Envelope {
        to: to.parse().unwrap(),
        command: serde_json::from_str(command).unwrap(),
        accepted: NOW,
        request: true,
        trace: None,
        reply: None,
        cause: None,
        asked: None,
        then: None,
        slot: None,
        note: None,
    }
}

pub(crate) fn message(to: &str, command: u32) -> Append {
    Append { envelope: envelope(to, &command.to_string()), due: None, idempotency: None, fence: None }
}

pub(crate) fn keyed(to: &str, command: u32, answer: &str) -> Append {
    let (key, answer) = (format!("idem-{to}"), answer.to_owned());
    let idempotency = Idempotency { key, fingerprint: 7, answer, expires: NOW + 1_000_000_000_000 };
    Append { idempotency: Some(idempotency), ..message(to, command) }
}

pub(crate) fn fenced(to: &str, command: u32, lock: &str, token: u64) -> Append {
    Append { fence: Some(Fence { lock: lock.into(), token }), ..message(to, command) }
}

/// A node with all actors.
pub(crate) async fn node(options: &Options) -> Node {
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    let settings = greenroom::runtime::settings::Settings {
        arbiters: 1,
        linger: Duration::ZERO,
        // The store is old.
        retention: Duration::from_secs(1_000_000_000),
        ..Default::default()
    };
    Node::start(Start { backend, features: actors::features(), settings, clock: Clock::System }).await.unwrap()
}

/// Follows what was accepted at a position to its end.
async fn ended(node: &Node, position: Position) {
    let id = node.id(position);
    let mut changes = node.watch(id).await.unwrap();
    loop {
        match node.request(id).await.unwrap() {
            Found::Here(view) if view.status.ended() => return,
            Found::Here(view) => match tokio::time::timeout(PATIENCE, changes.changed()).await {
                Ok(changed) => changed.unwrap(),
                Err(_) => panic!("{position} does not end: {view:?}"),
            },
            other => panic!("{position}: {other:?}"),
        }
    }
}

/// Asks until it is so.
pub(crate) async fn becomes(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        tokio::task::yield_now().await;
    }
}

/// Appends again what was appended before: idempotency keys and newest holders of locks are known.
pub(crate) async fn remembered(backend: &Arc<dyn Backend>, expected: &Expected) {
    for (to, command, answer, at) in &expected.keyed {
        let again = backend.append(vec![keyed(to, *command, answer)]).await.pop().unwrap();
        assert_eq!(again, Ok(Appended::Seen(position(at), answer.clone())), "{to}");
        let mut other = keyed(to, *command, answer);
        other.idempotency.as_mut().unwrap().fingerprint = 8;
        assert_eq!(backend.append(vec![other]).await.pop().unwrap(), Err(NotAppended::Mismatch), "{to}");
    }
    for (to, lock, token) in &expected.fences {
        let late = backend.append(vec![fenced(to, 1, lock, token - 1)]).await.pop().unwrap();
        assert_eq!(late, Err(NotAppended::Fenced { newest: *token }), "{to}");
    }
}

/// A node handles all of it.
pub(crate) async fn handled(options: &Options, expected: &Expected) {
    let options = Options { lease: Duration::from_secs(3), ..options.clone() };
    let node = node(&options).await;
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    for (at, value) in &expected.signals {
        let id: SignalId = format!("{}.go", node.id(position(at))).parse().unwrap();
        let value = serde_json::from_str(&value.to_string()).unwrap();
        let signalled = node.signal(&id, value, None).await.unwrap();
        assert!(matches!(signalled, Signalled::Taken), "{at}: {signalled:?}");
    }
    let scopes: Vec<Scope> = backend.paused().await.unwrap().into_iter().map(|paused| paused.scope).collect();
    for scope in scopes {
        assert!(node.resume(&scope.kind, scope.key.as_deref()).await.unwrap(), "{scope}");
    }
    for at in &expected.open {
        ended(&node, position(at)).await;
    }
    becomes("everything to be handled", async || backend.audit().await.unwrap().in_flight == expected.far).await;
    let states = async || {
        let addresses = expected.after.keys().map(|address| address.parse::<Address>().unwrap()).collect();
        let loaded = backend.load(addresses).await.unwrap();
        let states = loaded.iter().map(|loaded| (!loaded.doc.is_empty()).then(|| state(&loaded.doc)));
        let mut states: BTreeMap<String, Option<Value>> = expected.after.keys().cloned().zip(states).collect();
        for (address, late) in &expected.late {
            let Some(Some(Value::Array(numbers))) = states.get_mut(address) else { panic!("{address} has no state") };
            let is_late = |number: &Value| number.as_u64().unwrap() >= LATE;
            let found: Vec<u64> = numbers.extract_if(.., |number| is_late(number)).filter_map(|n| n.as_u64()).collect();
            assert_eq!(&found, late, "{address}");
        }
        states
    };
    assert_eq!(states().await, expected.after);
    // By their old ids, one dead letter is redriven, and handled as the last of its key, another one is given up.
    let audit = backend.audit().await.unwrap();
    let (first, to, command) = &expected.dead[0];
    let now = node.position(node.id(position(first))).await.unwrap().unwrap();
    assert_eq!(node.redrive(vec![now]).await.unwrap(), 1);
    let now = node.position(node.id(position(&expected.dead[1].0))).await.unwrap().unwrap();
    assert_eq!(node.discard(vec![now]).await.unwrap(), 1);
    ended(&node, position(first)).await;
    let mut all = expected.after[to].clone().unwrap();
    all.as_array_mut().unwrap().push((*command).into());
    assert_eq!(states().await[to], Some(all));
    let then = backend.audit().await.unwrap();
    assert!(then.balanced, "{then:?}");
    assert_eq!((then.in_flight, then.dead + 2, then.failed), (expected.far, audit.dead, audit.failed), "{then:?}");
    assert_eq!((then.cancelled, then.completed), (audit.cancelled + 1, audit.completed + 1), "{then:?}");
    node.drain(Duration::from_secs(5)).await;
}

/// A saved state as JSON.
fn state(doc: &[u8]) -> Value {
    let doc: Value = mongodb::bson::deserialize_from_slice(doc).unwrap();
    doc["state"].clone()
}
