//! Rolling from one build to another and back, under load: what only the new build can read is left to it, in its
//! order, and nothing is given up (G2, G12).

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use greenroom::testing::Which;
use serde_json::{Value, json};

use crate::support::{Client, Server, build, eventually, server::Setup};

const NODES: usize = 3;
const KEYS: u64 = 24;

/// The nodes that take requests, each with whether it is of the new build.
type Serving = Mutex<Vec<Option<(bool, Client)>>>;

/// What was accepted of each kind: for each key the numbers, in order.
struct Sent {
    serving: Serving,
    tapes: Mutex<Vec<Vec<u64>>>,
    fresh: Mutex<Vec<Vec<u64>>>,
    /// Whether what only the new build can read is sent.
    marks: AtomicBool,
    over: AtomicBool,
    count: AtomicU64,
}

impl Sent {
    /// Sends, one after the other, as fast as they are accepted.
    fn send(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let n = self.count.fetch_add(1, Ordering::SeqCst);
            let (key, serving) = (n % KEYS, self.serving.lock().unwrap());
            let there: Vec<&(bool, Client)> = serving.iter().flatten().collect();
            let newer = there.iter().find(|(new, _)| *new).filter(|_| self.marks.load(Ordering::SeqCst));
            let (_, any) = there[n as usize % there.len()];
            let post = |client: &Client, to: String, command: Value| {
                client.post("/admin/send", &json!({ "to": to, "command": command })).expect(202);
            };
            match (newer, n % 5) {
                (Some((_, newer)), 0) => {
                    post(newer, format!("fresh/{key}"), json!(n));
                    self.fresh.lock().unwrap()[key as usize].push(n);
                }
                (Some((_, newer)), 1 | 2) => {
                    post(newer, format!("tape/{key}"), json!({ "mark": n }));
                    self.tapes.lock().unwrap()[key as usize].push(n);
                }
                _ => {
                    post(any, format!("tape/{key}"), json!({ "add": n }));
                    self.tapes.lock().unwrap()[key as usize].push(n);
                }
            }
        }
    }

    /// Waits until so many more were accepted.
    fn wait(&self, more: u64) {
        let before = self.count.load(Ordering::SeqCst);
        eventually("more to be accepted", || (self.count.load(Ordering::SeqCst) > before + more).then_some(()));
    }
}

fn all_ended(client: &Client) {
    eventually("everything to end", || {
        let ledger = client.get("/admin/ledger").expect(200).json();
        assert_eq!(ledger["dead"], 0, "{ledger}");
        (ledger["in_flight"] == 0).then_some(())
    });
}

fn read(client: &Client, to: String) -> Value {
    let sent = client.post("/admin/send", &json!({ "to": to, "command": { "read": null } })).expect(202).json();
    client.ended(sent["request"].as_str().expect("an id"))["result"].clone()
}

#[test]
fn rolling_to_a_new_build_and_back_gives_nothing_up_and_keeps_the_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build::example("two-builds");
    let store = Which::Redis.cluster(&Default::default()).expect("servers");
    let setup = |name: &str| {
        let setup = Setup::on(dir.path()).embedded().program(&program).variable("TWO_BUILDS", name);
        setup
            .set("store", "kind", "cluster")
            .set("store", "redis", &store.redis)
            .set("store", "mongo", &store.mongo)
            .set("store", "prefix", &store.prefix)
            .set("store", "database", &store.database)
            .set("store", "partitions", "16")
    };
    let mut nodes: Vec<Option<Server>> = (0..NODES).map(|_| Some(setup("old").start())).collect();
    let sent = Sent {
        serving: Mutex::new(nodes.iter().flatten().map(|node| Some((false, node.client()))).collect()),
        tapes: Mutex::new(vec![Vec::new(); KEYS as usize]),
        fresh: Mutex::new(vec![Vec::new(); KEYS as usize]),
        marks: AtomicBool::new(true),
        over: AtomicBool::new(false),
        count: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| sent.send());
        sent.wait(100);
        for (round, name) in ["new", "old"].into_iter().enumerate() {
            for (slot, place) in nodes.iter_mut().enumerate() {
                if name == "old" && slot + 1 == NODES {
                    // From now on nothing is there that could read it.
                    sent.marks.store(false, Ordering::SeqCst);
                    all_ended_of_new(&sent);
                }
                sent.serving.lock().unwrap()[slot] = None;
                let status = place.take().expect("it runs").terminate();
                assert!(status.success(), "{status}");
                let server = setup(name).start();
                sent.serving.lock().unwrap()[slot] = Some((name == "new", server.client()));
                *place = Some(server);
                sent.wait(200);
            }
            assert!(sent.fresh.lock().unwrap().iter().all(|numbers| !numbers.is_empty()), "round {round}");
        }
        sent.over.store(true, Ordering::SeqCst);
        sender.join().expect("all were accepted");
    });
    let client = nodes[0].as_ref().expect("it runs").client();
    all_ended(&client);
    for key in 0..KEYS {
        assert_eq!(read(&client, format!("tape/{key}")), json!(sent.tapes.lock().unwrap()[key as usize]), "{key}");
        assert_eq!(read(&client, format!("tape/of-{key}")), json!(sent.fresh.lock().unwrap()[key as usize]), "{key}");
    }
    println!("{} requests", sent.count.load(Ordering::SeqCst));
}

/// Waits until all that only the new build can read has ended, while nothing else is sent.
fn all_ended_of_new(sent: &Sent) {
    let serving = sent.serving.lock().unwrap();
    let (_, client) = serving.iter().flatten().next().expect("one serves");
    all_ended(client);
}
