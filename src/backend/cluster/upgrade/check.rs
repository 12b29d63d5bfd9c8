//! Looking whether everything in a store adds up, whatever its format is: counts against what is there, sequences
//! between partitions, and commits of which only the state was written.

use std::collections::BTreeMap;

use mongodb::bson::{Document, doc};
use serde::Serialize;

use super::{Age, age};
use crate::{
    backend::{
        Mismatch,
        cluster::{
            Core, books,
            mongo::States,
            redis::{int, list, number},
            sequences,
        },
    },
    envelope::Position,
    error::{Error, Result},
};

/// What was found in a store.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The format that the store says it has.
    pub format: u16,
    /// The number of partitions it is on its way to.
    pub resizing: Option<u16>,
    /// Every partition that there ever was.
    pub partitions: Vec<Found>,
    /// Documents whose commit is not done in Redis: their next owner finishes them.
    pub half_done: u64,
    /// What does not add up.
    pub mismatches: Vec<Mismatch>,
}

/// What was found in a partition.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The partition.
    pub partition: u16,
    /// The format it has: `1`, `2`, `1 → 2` while it is carried, or nothing where it is empty.
    pub format: &'static str,
    /// The epoch of its last owner.
    pub epoch: u64,
    /// Messages that have not ended.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// Messages on their way to other partitions.
    pub outbox: u64,
    /// Documents of its actors whose commit is not done in Redis.
    pub half_done: u64,
}

/// Positions asked about at once.
const BATCH: usize = 500;

pub(super) async fn check(core: &Core) -> Result<Checked> {
    let mut mismatches = sequences::mismatches(core).await?;
    let half_done = half_done(core).await?;
    let mut partitions = Vec::new();
    for partition in 0..core.ever() {
        let (age, epoch) = age(core, partition).await?;
        let found = books::found(core, partition, 0).await?;
        mismatches.extend(found.mismatches(partition));
        partitions.push(Found {
            partition,
            format: match age {
                Age::New => "2",
                Age::Carrying => "1 → 2",
                Age::Old => "1",
                Age::Empty => "",
            },
            epoch,
            in_flight: found.in_flight(),
            dead: found.dead,
            outbox: found.outbox,
            half_done: half_done.get(&partition).copied().unwrap_or(0),
        });
    }
    Ok(Checked {
        format: core.meta.format,
        resizing: core.meta.resizing.map(|resizing| resizing.to),
        half_done: half_done.values().sum(),
        partitions,
        mismatches,
    })
}

/// How many documents of each partition have a commit whose witness waits.
async fn half_done(core: &Core) -> Result<BTreeMap<u16, u64>> {
    let mut counts = BTreeMap::new();
    let kinds = core.states.db.list_collection_names().await.map_err(fault)?;
    for kind in kinds.iter().filter(|name| !name.starts_with("greenroom_") && !name.starts_with("system.")) {
        let mut witnesses: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut found = documents(&core.states, kind).await?;
        while found.advance().await.map_err(fault)? {
            let Ok(packed) = found.current().get_i64("witness") else { continue };
            let witness = Position::from_packed(packed);
            let of = witnesses.entry(witness.partition()).or_default();
            of.push(witness.number());
            if of.len() == BATCH {
                let of = std::mem::take(of);
                *counts.entry(witness.partition()).or_default() += waiting(core, witness.partition(), of).await?;
            }
        }
        for (partition, of) in witnesses {
            *counts.entry(partition).or_default() += waiting(core, partition, of).await?;
        }
    }
    counts.retain(|_, count| *count > 0);
    Ok(counts)
}

async fn documents(states: &States, kind: &str) -> Result<mongodb::Cursor<Document>> {
    let documents = states.db.collection::<Document>(kind);
    let found = documents.find(doc! { "witness": { "$exists": true } }).projection(doc! { "witness": 1 });
    found.await.map_err(fault)
}

async fn waiting(core: &Core, partition: u16, numbers: Vec<u64>) -> Result<u64> {
    if numbers.is_empty() || partition >= core.ever() {
        return Ok(0);
    }
    let answer = core.redis.look(partition, "waiting", numbers.into_iter().map(number).collect()).await?;
    Ok(list(answer).iter().map(|waits| int(waits) as u64).sum())
}

fn fault(error: mongodb::error::Error) -> Error {
    Error::new(format!("MongoDB: {}", error.kind)).code("mongodb")
}
