//! Moving what is in one partition to where it belongs.
//!
//! Order: all messages of a key are in one old partition and go to one new one. Partitions are emptied one
//! after the other, each in the order of its numbers, and each message gets the next number of its new
//! partition: so a key's messages keep their order, and what was in the new partition before is for
//! other keys.
//!
//! Once each: copying to a partition remembers, by the very call that appends, which old number got which
//! new one. Only when all of a batch have arrived is it removed from the old partition, by one call, which
//! keeps the new positions for good. Killed in between, the same messages are the first that are found
//! again, and get the same answer. A message's journal arrives and leaves by the calls that the message
//! arrives and leaves by. What a partition remembers of earlier batches it forgets with the next
//! one, which begins after them. Two that do this at once are kept apart by the epochs.

use std::collections::BTreeMap;

use fred::types::Value;

use super::{
    Doing, Moves, Run,
    contents::{Contents, Item, Place},
    text,
};
use crate::{
    backend::cluster::{
        Core, decode,
        redis::{arg, int, list, number, raw},
    },
    envelope::Position,
    error::{Error, Result},
};

impl Moves {
    pub(super) fn of(partition: u16) -> Self {
        Self { partition, ..Self::default() }
    }

    pub(super) fn count(&mut self, item: &Item, to: u16) {
        if to == self.partition {
            self.stay += 1;
            return;
        }
        match item.place {
            Place::Mailbox => self.mailbox += 1,
            Place::Deferred => self.deferred += 1,
            Place::Dead => self.dead += 1,
        }
        *self.to.entry(to).or_default() += 1;
    }
}

/// Moves the messages of a partition that belong to others.
pub(super) async fn messages(run: &Run<'_>, from: u16) -> Result<Moves> {
    let mut moves = Moves::of(from);
    // What is beyond has come from another partition since, and is counted there.
    let last = run.leases.get(usize::from(from)).map_or(0, |lease| lease.last);
    let mut contents = Contents::of(run.core, from, run.resize.batch).await?;
    loop {
        let items = contents.next().await?;
        if items.is_empty() {
            return Ok(moves);
        }
        let mut leaving: BTreeMap<u16, Vec<Item>> = BTreeMap::new();
        for item in items {
            let to = item.belongs(from, run.resize.to);
            if item.number <= last {
                moves.count(&item, to);
            }
            if to != from {
                leaving.entry(to).or_default().push(item);
            }
        }
        let lowest = leaving.values().filter_map(|items| items.first()).map(|item| item.number).min();
        let Some(lowest) = lowest else { continue };
        let mut moved = Vec::new();
        for (to, items) in leaving {
            moved.extend(copy(run, from, to, lowest, items).await?);
        }
        run.step(Doing::Removing, from, moved.len())?;
        let args = moved.into_iter().flat_map(|(old, new)| [number(old), text(new)]).collect();
        run.call(from, "depart", args).await?;
    }
}

/// Puts messages into the partition they belong to; what each is called now.
async fn copy(run: &Run<'_>, from: u16, to: u16, lowest: u64, items: Vec<Item>) -> Result<Vec<(u64, Position)>> {
    run.step(Doing::Copying, to, items.len())?;
    let mut args = vec![number(from), number(lowest)];
    let old: Vec<u64> = items.iter().map(|item| item.number).collect();
    for Item { number: old, place, bytes, attempts, journal, address } in items {
        let (place, bytes) = match place {
            Place::Mailbox => (0, bytes),
            Place::Deferred if address.is_none() => (1, decode::unreadable(&bytes)),
            Place::Deferred => (1, bytes),
            Place::Dead => (2, bytes),
        };
        args.extend([number(old), number(place), arg(bytes), number(attempts), arg(journal)]);
    }
    let new = list(run.call(to, "arrive", args).await?);
    if new.len() != old.len() {
        return Err(Error::new(format!("partition {to} took {} of {} messages", new.len(), old.len())));
    }
    Ok(old.into_iter().zip(new).map(|(old, new)| (old, Position::new(to, int(&new) as u64))).collect())
}

/// Moves the idempotency keys of a partition that were used for actors of others; how many.
pub(super) async fn keys(run: &Run<'_>, from: u16) -> Result<u64> {
    let (mut cursor, mut count) = ("0".to_owned(), 0);
    loop {
        let (next, leaving) = idems(run.core, from, run.resize.to, &cursor).await?;
        for (to, records) in leaving {
            count += records.len() as u64;
            run.step(Doing::Keys, to, records.len())?;
            let mut args = vec![number(from)];
            args.extend(records.iter().flat_map(|(key, record)| [arg(key.clone()), arg(record.clone())]));
            run.call(to, "keep", args).await?;
            run.step(Doing::Keys, from, records.len())?;
            run.call(from, "unkeep", records.into_iter().map(|(key, _)| arg(key)).collect()).await?;
        }
        if next == "0" {
            return Ok(count);
        }
        cursor = next;
    }
}

/// Idempotency keys with their records, by where they belong.
type Leaving = BTreeMap<u16, Vec<(Vec<u8>, Vec<u8>)>>;

/// Some of the idempotency keys of a partition that belong to others, and where to go on. One whose
/// record does not say for whom it was used stays, and is forgotten there when it expires.
pub(super) async fn idems(core: &Core, from: u16, to: u16, cursor: &str) -> Result<(String, Leaving)> {
    let mut found = list(core.redis.look(from, "idems", vec![text(cursor)]).await?).into_iter();
    let next = found.next().and_then(|next| next.into_string()).unwrap_or_else(|| "0".to_owned());
    let found: Vec<Value> = found.collect();
    let mut leaving = Leaving::new();
    for pair in found.chunks_exact(2) {
        let (key, record) = (raw(pair[0].clone()), raw(pair[1].clone()));
        let belongs = decode::used_for(&record).map_or(from, |address| address.partition(to));
        if belongs != from {
            leaving.entry(belongs).or_default().push((key, record));
        }
    }
    Ok((next, leaving))
}
