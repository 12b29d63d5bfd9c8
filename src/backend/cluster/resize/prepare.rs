//! Leaving nothing half done: what is between two partitions arrives, and every commit of which only the
//! state was written is finished, before any message gets another number.
//!
//! # Why states need nothing more
//!
//! A document's `redo` speaks of the numbers of its key's old partition, and its `witness` is a position
//! there. After the move it is either of
//!
//! * *finished*: its witness has ended, for all time. The key's new partition does not take it for one of
//!   its own, because the witness names its partition ([`open`](super::super::commit::open)). Should the key
//!   come back to the old partition, that number has not been given to another message.
//! * *not finished*: its witness waits. That cannot be: such a witness waits in the partition of its key,
//!   and every stateful actor of which a message waits is claimed here, which finishes its redo.
//! * *written later*, by an owner that slept: that write is about a message that waits, as nobody but the
//!   owner, or a later one that claims the document first, ends a message of an actor with state. The
//!   actor is claimed here, so its document has the epoch of this lease, and the write is refused. A kind
//!   that the product does not name may have state in another build: it is claimed too.
//!
//! Finishing a commit puts what it sends into the outbox, and that may be for an actor of which nothing
//! waited: so it is begun anew until there was nothing to finish. Nothing else arrives, because
//! everything is fenced.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    Doing, Run,
    contents::{Contents, Place},
};
use crate::{
    address::Address,
    backend::{
        Lease,
        cluster::{books, commit},
    },
    error::Result,
};

/// How long an outbox may stand still before it is said to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether messages may move.
pub(super) enum Prepared {
    Ready,
    /// Why not.
    Not(String),
}

/// Finishes what was begun.
pub(super) async fn prepare(run: &Run<'_>) -> Result<Prepared> {
    loop {
        run.step(Doing::Delivering, 0, 0)?;
        let stuck = deliver(run).await?;
        if !stuck.is_empty() {
            let each: Vec<String> =
                stuck.iter().map(|(partition, left)| format!("{left} in partition {partition}")).collect();
            return Ok(Prepared::Not(format!(
                "messages on their way to other partitions do not arrive ({}): start one node, wait until \
                 `greenroom partitions` shows nothing in flight, stop it, and try again",
                each.join(", ")
            )));
        }
        let mut finished = 0;
        for lease in &run.leases {
            finished += finish(run, *lease).await?;
        }
        if finished == 0 {
            return Ok(Prepared::Ready);
        }
    }
}

/// Waits until every outbox is empty, which whoever owns a partition delivers; what stands still.
async fn deliver(run: &Run<'_>) -> Result<Vec<(u16, u64)>> {
    let (mut before, mut since) = (u64::MAX, Instant::now());
    loop {
        let mut left = Vec::new();
        for lease in &run.leases {
            let found = books::found(run.core, lease.partition, 0).await?;
            if found.outbox > 0 {
                left.push((lease.partition, found.outbox));
            }
        }
        let all = left.iter().map(|(_, left)| left).sum();
        if all == 0 || (all >= before && since.elapsed() > PATIENCE) {
            return Ok(left);
        }
        if all < before {
            (before, since) = (all, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Claims the states of all actors of which messages wait; how many commits that finished.
async fn finish(run: &Run<'_>, lease: Lease) -> Result<usize> {
    let core = run.core;
    let mut contents = Contents::of(core, lease.partition, run.resize.batch).await?;
    let (mut seen, mut finished) = (HashSet::new(), 0);
    loop {
        let items = contents.next().await?;
        if items.is_empty() {
            return Ok(finished);
        }
        let mut addresses: Vec<Address> = Vec::new();
        for address in items.into_iter().filter(|item| item.place != Place::Dead).filter_map(|item| item.address) {
            let stateful = *core.kinds.entry(address.kind().to_owned()).or_insert(true);
            if stateful && seen.insert(address.clone()) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            continue;
        }
        run.step(Doing::Finishing, lease.partition, addresses.len())?;
        let claimed = commit::claim(core, lease, &addresses).await?;
        finished += claimed.iter().filter(|claimed| claimed.finished).count();
    }
}
