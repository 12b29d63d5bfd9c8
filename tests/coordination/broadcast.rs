//! Broadcasts over three nodes: everybody who listens hears what is said, whoever says it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use greenroom::{
    backend::cluster::Cluster,
    clock::Clock,
    prelude::*,
    runtime::{
        broadcast::{Heard, Listener},
        node::Start,
        settings::Settings,
    },
    testing::Which,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Says what it is told, once that is committed.
struct Crier;

impl Actor for Crier {
    const KIND: &'static str = "crier";
    type State = u64;
    type Command = u64;
    type Reply = ();

    async fn handle(&self, last: &mut u64, n: u64, cx: &Context<Self>) -> Result<()> {
        *last = n;
        cx.broadcast("news", &n);
        if n.is_multiple_of(10) { Err(Error::terminal("it is not said").code("no")) } else { Ok(()) }
    }
}

async fn three(which: Which) -> Vec<Node> {
    let options =
        which.cluster(&greenroom::backend::embedded::Options { partitions: 8, ..Default::default() }).unwrap();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let backend = Arc::new(Cluster::open(options.clone()).unwrap());
        let settings = Settings { arbiters: 0, ..Settings::default() };
        let features = vec![Feature::new(Crier)];
        nodes.push(Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap());
    }
    nodes
}

async fn hear(listener: &mut Listener<u64>) -> u64 {
    match tokio::time::timeout(PATIENCE, listener.next()).await.expect("it is heard").unwrap() {
        Heard::Value(n) => n,
        Heard::Missed(n) => panic!("{n} were missed"),
    }
}

/// Until each node knows of the others: what one says all hear.
async fn acquainted(nodes: &[Node]) {
    for node in nodes {
        let mut listeners: Vec<Listener<u64>> = nodes.iter().map(|node| node.listen("hello")).collect();
        for listener in &mut listeners {
            let begun = std::time::Instant::now();
            loop {
                assert!(begun.elapsed() < PATIENCE, "a node does not hear of the others");
                node.broadcast("hello", &1).unwrap();
                if tokio::time::timeout(Duration::from_millis(100), listener.next()).await.is_ok() {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_is_said_on_one_node_is_heard_on_all() {
    for which in [Which::Redis, Which::RedisCluster] {
        println!("on {which:?}");
        actix::System::new().block_on(async {
            let nodes = three(which).await;
            acquainted(&nodes).await;
            let mut listeners: Vec<Listener<u64>> = nodes.iter().map(|node| node.listen("news")).collect();
            for n in 1..=50 {
                // Actors of all partitions, so of all nodes, say it; a handler that fails does not.
                let _ = nodes[n as usize % 3].ask(Crier::at(n.to_string()), n).await;
            }
            let said: BTreeSet<u64> = (1..=50).filter(|n| n % 10 != 0).collect();
            for listener in &mut listeners {
                let mut heard = Vec::new();
                while heard.len() < said.len() {
                    heard.push(hear(listener).await);
                }
                assert_eq!(heard.iter().copied().collect::<BTreeSet<u64>>(), said, "each once: {heard:?}");
            }
            // From outside of actors, and to nobody but who listens to that name.
            nodes[2].broadcast("news", &99).unwrap();
            nodes[2].broadcast("olds", &98).unwrap();
            for listener in &mut listeners {
                assert_eq!(hear(listener).await, 99);
            }
            for node in nodes {
                node.drain(Duration::from_secs(5)).await;
            }
        });
    }
}
