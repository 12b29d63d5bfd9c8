//! From store format 1 to format 2, partition by partition (`functions/upgrade.lua` has what changes and how).
//!
//! ```text
//! quiet ─► marked ─► sealed ─────────► messages carried ─► results carried
//! no old    format 2;   appends go on,    the owner begins     nothing of
//! node      old builds  in format 2       to handle            format 1 is left
//! lives     do not start
//! ```
//!
//! * **quiet, marked**: once for the store, by the first node that starts, or by `greenroom store upgrade`. An older
//!   build looks for the mark after it has joined, and this looks for members after it has marked: so one of them
//!   sees the other.
//! * **sealed**: when a node first meets the partition ([`warm`](super::warm)), in one call whose cost does not
//!   depend on what is in it. The partition begins a new era then, as after any loss: what is on its way to other
//!   partitions keeps its old sequences and goes first. An owner of the older build that slept through all of it
//!   finds its functions refused before they write anything, and its half-done commits are finished by the next
//!   owner, as ever.
//! * **carried**: some at a time, each call bounded. Until then what clients ask for is found where format 1 had it.
//!
//! Invariant: whatever carries may die between any two calls, or lose an answer: the next call goes on where the last
//! one ended.

mod check;
mod members;

use std::{sync::Arc, time::Duration};

use fred::types::Value;
use serde::Serialize;
use tracing::{info, warn};

pub use self::check::{Checked, Found};
use super::{
    Cluster, Core, Options, Use,
    durability::Durable,
    meta::{FORMAT, Meta},
    redis::{Fault, Redis, Repeat, arg, int, list, number},
};
use crate::error::{Error, Result};

/// Messages, and about how many bytes, that one call carries.
const BATCH: u64 = 256;
const BYTES: u64 = 256 << 10;
/// After how long a call that was not answered is made again.
const AGAIN: Duration = Duration::from_millis(200);

/// How far a partition is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Age {
    /// It has format 2.
    #[default]
    New,
    /// It is sealed, and not all of it is carried.
    Carrying,
    /// It has format 1.
    Old,
    /// There is nothing.
    Empty,
}

impl From<u64> for Age {
    fn from(number: u64) -> Self {
        match number {
            1 => Self::Carrying,
            2 => Self::Old,
            3 => Self::Empty,
            _ => Self::New,
        }
    }
}

/// What is left to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Results,
    Messages,
}

async fn mark(redis: &Redis, durable: &Durable, what: &str) -> Result<u64> {
    let call = ("reform", vec![arg(what.to_owned())]);
    match int(&redis.write(0, &redis.meta_key(), call, Repeat::Safe, durable).await?) {
        0 => Err(Error::terminal("a resize of the store has begun just now").code("resizing")),
        format => Ok(format as u64),
    }
}

/// Says that a store has format 2 from now on, if no node of an older build lives: terminal error (`old_nodes`).
pub(super) async fn begin(redis: &Redis, durable: &Durable, lease: Duration, meta: &Meta) -> Result<()> {
    if mark(redis, durable, "begin").await? >= u64::from(FORMAT) {
        return Ok(());
    }
    let living = members::living(redis, lease, members::is_old).await;
    if !matches!(&living, Ok(living) if living.is_empty()) {
        mark(redis, durable, "off").await?;
        let living = living?;
        return Err(Error::terminal(format!(
            "the store has format {}, and nodes of an older build serve it ({}): stop all of them first, then start \
             this one, which brings the store to format {FORMAT}",
            meta.format,
            living.join(", ")
        ))
        .code("old_nodes"));
    }
    mark(redis, durable, "finish").await?;
    info!(from = meta.format, to = FORMAT, "the store changes its format");
    Ok(())
}

/// Seals a partition, if it must be: an empty one too where the store had format 1, so that no older build puts
/// anything into it. Answers whether it was.
pub(super) async fn seal(core: &Core, partition: u16, age: Age) -> Result<bool, Fault> {
    if age != Age::Old && !(age == Age::Empty && core.meta.upgraded) {
        return Ok(false);
    }
    call(core, partition, "seal", Vec::new()).await?;
    Ok(true)
}

/// Calls a function, durably; made twice, it goes on.
async fn call(core: &Core, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
    let (lane, key) = (core.redis.lane(partition), core.redis.key(partition));
    core.redis.write(lane, &key, (function, args), Repeat::Safe, &core.durable).await
}

async fn carry(core: &Core, partition: u16, batch: u64) -> Result<(Left, u64), Fault> {
    let answer = list(call(core, partition, "carry", vec![number(batch), number(BYTES)]).await?);
    let at = |index: usize| answer.get(index).map_or(0, int) as u64;
    let left = match at(0) {
        0 => Left::Nothing,
        1 => Left::Results,
        _ => Left::Messages,
    };
    Ok((left, at(1)))
}

/// Carries the messages of a sealed partition, for the node that is about to own it.
pub(super) async fn carry_messages(core: &Core, partition: u16) -> Result<(), Fault> {
    while carry(core, partition, BATCH).await?.0 == Left::Messages {}
    Ok(())
}

/// Carries what is left of a sealed partition, meanwhile.
pub(super) async fn carry_results(core: Arc<Core>, partition: u16) {
    while !core.closed() {
        match carry(&core, partition, BATCH).await {
            Ok((Left::Nothing, _)) => return,
            Ok(_) => tokio::task::yield_now().await,
            Err(fault) => {
                warn!(partition, %fault, "results of an older format could not be carried, trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Carries partitions that are no more, which have no owner.
pub(super) async fn carry_retired(core: Arc<Core>) {
    for partition in core.options.partitions..core.ever() {
        while let Err(fault) = core.warm(partition).await {
            warn!(partition, %fault, "a partition of an older format could not be sealed, trying again");
            if core.closed() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
        carry_results(core.clone(), partition).await;
    }
}

/// How to upgrade.
#[derive(Clone)]
pub struct Upgrade {
    /// Most messages carried at once.
    pub batch: u64,
    /// Told before each step, with its partition; an error ends it there, as the end of the process would.
    pub step: Arc<dyn Fn(u16) -> Result<()> + Send + Sync>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self { batch: BATCH, step: Arc::new(|_| Ok(())) }
    }
}

/// What an upgrade has done.
#[derive(Clone, Debug, Serialize)]
pub struct Upgraded {
    /// The format that the store had.
    pub from: u16,
    /// The one that it has now.
    pub to: u16,
    /// Partitions that were not of that format, and how many entries of each were carried.
    pub partitions: Vec<(u16, u64)>,
}

impl Cluster {
    /// Brings a store to this build's format while no node serves it. May be repeated, and goes on where it was
    /// interrupted.
    ///
    /// # Errors
    /// Terminal when a node lives (`old_nodes`), or the store is being resized (`resizing`).
    pub fn upgrade(options: Options, upgrade: Upgrade) -> Result<Upgraded> {
        Self::start(options, Use::Upgrade)?.wait(async move |core| offline(&core, &upgrade).await)
    }

    /// Looks whether everything in a store adds up, whatever its format is; changes nothing.
    ///
    /// # Errors
    /// When a server does not answer, or a newer build has made the store.
    pub fn check(options: Options) -> Result<Checked> {
        Self::start(options, Use::Check)?.wait(async move |core| check::check(&core).await)
    }
}

async fn age(core: &Core, partition: u16) -> Result<(Age, u64)> {
    let answer = list(core.redis.look(partition, "format", Vec::new()).await?);
    let at = |index: usize| answer.get(index).map_or(0, int) as u64;
    Ok((at(0).into(), at(1)))
}

async fn offline(core: &Core, upgrade: &Upgrade) -> Result<Upgraded> {
    let from = core.meta.format;
    let mut old = Vec::new();
    for partition in 0..core.ever() {
        let (age, _) = age(core, partition).await?;
        if age == Age::Old || age == Age::Carrying || (age == Age::Empty && from < FORMAT) {
            old.push((partition, age));
        }
    }
    let mut done = Upgraded { from, to: FORMAT, partitions: Vec::new() };
    if old.is_empty() && from == FORMAT {
        return Ok(done);
    }
    let living = members::living(&core.redis, core.options.lease, |_| true).await?;
    if !living.is_empty() {
        return Err(Error::terminal(format!("the store is in use by {}: stop every node first", living.join(", ")))
            .code("old_nodes"));
    }
    if from < FORMAT {
        (upgrade.step)(0)?;
        begin(&core.redis, &core.durable, core.options.lease, &core.meta).await?;
    }
    for (partition, age) in old {
        if age != Age::Carrying {
            (upgrade.step)(partition)?;
            call(core, partition, "seal", Vec::new()).await?;
        }
        let mut carried = 0;
        loop {
            (upgrade.step)(partition)?;
            let (left, count) = carry(core, partition, upgrade.batch).await?;
            carried += count;
            if left == Left::Nothing {
                break;
            }
        }
        done.partitions.push((partition, carried));
    }
    Ok(done)
}
