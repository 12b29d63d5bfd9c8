//! What a conditional write of a state costs MongoDB: as the store asks for it, against one with its condition in
//! the query. Groups of 100, states of about 300 bytes; the rounds take turns, and the medians are compared.

use std::sync::Arc;

use greenroom::{
    Address,
    backend::{Acquired, Backend, Commit, Lease, StateWrite},
};
use mongodb::{
    Database,
    bson::{RawArrayBuf, rawdoc, serialize_to_vec},
};
use serde::Serialize;

use super::servers::{PARTITIONS, cpu, mongo, mongo_pid, name};

const ROUNDS: usize = 9;
const KEYS: usize = 2_000;
const GROUP: usize = 100;
/// Writes of each key in a round.
const TURNS: usize = 5;

#[derive(Serialize)]
struct State {
    state: Account,
}

#[derive(Serialize)]
struct Account {
    total: i64,
    note: String,
}

/// The median of µs a write, of each.
pub(crate) struct Cost {
    pub(crate) queried: f64,
    pub(crate) ours: f64,
}

pub(crate) async fn conditional(store: Arc<dyn Backend>) -> Cost {
    let (pid, note) = (mongo_pid().await, "y".repeat(250));
    let client = mongodb::Client::with_uri_str(&mongo()).await.unwrap();
    let db = client.database(&name("queried"));
    store.declare("account", true, &[]).await.unwrap();
    store.join().await.unwrap();
    store.beat().await.unwrap();
    let mut keys: Vec<String> = (0..).map(|n| format!("key{n}")).filter(|key| partition(key) == 0).take(KEYS).collect();
    keys.sort();
    let Acquired::Taken(lease) = store.acquire(0).await.unwrap() else { panic!("somebody has it") };
    let (mut rev, mut queried, mut ours) = (0, Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let before = cpu(pid);
        for turn in 0..TURNS {
            for group in keys.chunks(GROUP) {
                write_queried(&db, group, rev + turn as u64, &note).await;
            }
        }
        let between = cpu(pid);
        for turn in 0..TURNS {
            for group in keys.chunks(GROUP) {
                write_ours(&store, lease, group, rev + turn as u64, &note).await;
            }
        }
        let after = cpu(pid);
        rev += TURNS as u64;
        // In the first, documents are made.
        if round > 0 {
            let each = |seconds: f64| seconds / (KEYS * TURNS) as f64 * 1e6;
            queried.push(each(between - before));
            ours.push(each(after - between));
        }
    }
    db.drop().await.unwrap();
    Cost { queried: median(queried), ours: median(ours) }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn partition(key: &str) -> u16 {
    Address::new("account", key).unwrap().partition(PARTITIONS)
}

fn account(rev: u64, note: &str) -> State {
    State { state: Account { total: rev as i64, note: note.to_owned() } }
}

/// As it was until states were written by `_id` alone.
async fn write_queried(db: &Database, keys: &[String], rev: u64, note: &str) {
    let mut updates = RawArrayBuf::new();
    for key in keys {
        let rev = rev as i64;
        updates.push(rawdoc! {
            "q": { "_id": key.as_str(), "rev": rev, "epoch": { "$lte": 1_i64 } },
            "u": { "_id": key.as_str(), "rev": rev + 1, "epoch": 1_i64, "digest": rev, "state": { "total": rev, "note": note } },
            "upsert": true,
        });
    }
    let command = rawdoc! { "update": "account", "updates": updates, "ordered": false, "writeConcern": { "w": "majority", "j": true } };
    let answer = db.run_raw_command(command).await.unwrap();
    assert!(answer.get_array("writeErrors").is_err(), "{answer:?}");
}

async fn write_ours(store: &Arc<dyn Backend>, lease: Lease, keys: &[String], rev: u64, note: &str) {
    let doc = serialize_to_vec(&account(rev, note)).unwrap();
    let one = |key: &String| {
        let mut commit = Commit::of(Address::new("account", key.as_str()).unwrap(), 0);
        commit.state = Some(StateWrite { from: rev, doc: doc.clone(), fields: Vec::new() });
        commit
    };
    let answers = store.commit(lease, Arc::new(keys.iter().map(one).collect())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}
