//! Commits under a lease: state first, then one call that does the rest in Redis. The proof that this
//! is one effect is in the [module](super).

use std::{collections::HashMap, time::Duration};

use fred::types::Value;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing::warn;

use super::{
    Core, encode,
    mongo::{self, Saved, StateOp, Written},
    redis::{Fault, arg, int, list, number},
};
use crate::{
    address::Address,
    backend::{Commit, Lease, Loaded, Refused},
    envelope::Position,
    error::Result,
};

/// A commit made ready.
struct Ready {
    blob: Vec<u8>,
    outbox: Vec<encode::Parcel>,
}

/// Commits a group.
pub(super) async fn commit(core: &Core, lease: Lease, batch: &[Commit]) -> Vec<Result<(), Refused>> {
    let ready = match prepare(core, batch) {
        Ok(ready) => ready,
        Err(error) => return vec![Err(Refused::Unavailable(error.to_string())); batch.len()],
    };
    let mut answers: Vec<Result<(), Refused>> = vec![Ok(()); batch.len()];
    if let Err(error) = claim_unwritten(core, lease, batch).await {
        let refused = if error.is_terminal() { Refused::Stale } else { Refused::Unavailable(error.to_string()) };
        return vec![Err(refused); batch.len()];
    }
    write_states(core, lease, batch, &ready, &mut answers).await;
    finish(core, lease, batch, ready, &mut answers).await;
    answers
}

fn prepare(core: &Core, batch: &[Commit]) -> Result<Vec<Ready>> {
    let one = |commit: &Commit| {
        let parcel = |sent| encode::Parcel::new(sent, core.options.partitions);
        let outbox: Vec<encode::Parcel> = commit.outbox.iter().map(parcel).collect::<Result<_, _>>()?;
        Ok(Ready { blob: encode::commit(commit, &outbox), outbox })
    };
    batch.iter().map(one).collect()
}

/// Before anything is made true in Redis of an actor whose state this lease has not written, writes of
/// earlier leases are made impossible, and those that happened are finished.
async fn claim_unwritten(core: &Core, lease: Lease, batch: &[Commit]) -> Result<()> {
    let place = &core.places[usize::from(lease.partition)];
    let unclaimed = |commit: &&Commit| {
        commit.state.is_none() && core.stateful(commit.address.kind()) && !place.claimed(lease.epoch, &commit.address)
    };
    let unclaimed: Vec<&Commit> = batch.iter().filter(unclaimed).collect();
    if unclaimed.is_empty() {
        return Ok(());
    }
    let addresses: Vec<Address> = unclaimed.iter().map(|commit| commit.address.clone()).collect();
    let claimed = claim(core, lease, &addresses).await?;
    for (commit, claimed) in unclaimed.into_iter().zip(claimed) {
        if commit.seen.is_some_and(|seen| seen != claimed.rev) {
            // A stale owner wrote after the actor was opened: what was decided since was decided on a
            // state that is not the last one.
            return Err(Fault::Stale.into());
        }
        place.claim(lease.epoch, &commit.address);
    }
    Ok(())
}

/// Makes this lease the only one that writes these states, and finishes what earlier ones began.
pub(super) async fn claim(core: &Core, lease: Lease, addresses: &[Address]) -> Result<Vec<Loaded>> {
    for (kind, keys) in by_kind(addresses) {
        core.states.claim(kind, &keys, lease.epoch).await?;
    }
    open(core, lease, addresses).await
}

fn by_kind(addresses: &[Address]) -> HashMap<&str, Vec<&str>> {
    let mut kinds: HashMap<&str, Vec<&str>> = HashMap::new();
    for address in addresses {
        kinds.entry(address.kind()).or_default().push(address.key());
    }
    kinds
}

/// Writes the states of a group; a commit whose state is not written goes no further.
async fn write_states(
    core: &Core,
    lease: Lease,
    batch: &[Commit],
    ready: &[Ready],
    answers: &mut [Result<(), Refused>],
) {
    let mut writing = Vec::new();
    for (index, (commit, ready)) in batch.iter().zip(ready).enumerate() {
        let Some(state) = &commit.state else { continue };
        let redo = encode::witness(commit).map(|witness| (witness, ready.blob.clone()));
        let (reply, answer) = oneshot::channel();
        match StateOp::new(&commit.address, state, lease.epoch, redo, reply) {
            Ok(op) => {
                core.states.write(op);
                writing.push((index, answer));
            }
            Err(error) => answers[index] = Err(Refused::Unavailable(error.to_string())),
        }
    }
    let place = &core.places[usize::from(lease.partition)];
    for (index, answer) in writing {
        answers[index] = match answer.await {
            Ok(Written::Yes) => {
                place.claim(lease.epoch, &batch[index].address);
                Ok(())
            }
            Ok(Written::Conflict) => Err(Refused::Stale),
            Ok(Written::Unknown(why)) => Err(Refused::Unavailable(why)),
            Err(_) => Err(Refused::Unavailable("the store is closing".into())),
        };
    }
}

/// Does in Redis what the commits say whose state is written: ends, defers and parks messages, and puts
/// the outbox where it is delivered from, in one call.
async fn finish(core: &Core, lease: Lease, batch: &[Commit], ready: Vec<Ready>, answers: &mut [Result<(), Refused>]) {
    let partition = lease.partition;
    let place = &core.places[usize::from(partition)];
    let serial = place.next_serial();
    let mut args = vec![number(lease.epoch), number(serial)];
    let mut going = Vec::new();
    for (index, ready) in ready.into_iter().enumerate() {
        if answers[index].is_ok() {
            args.push(arg(ready.blob));
            going.push((index, ready.outbox));
        }
    }
    if going.is_empty() {
        return;
    }
    let Some(answer) = persist(core, partition, args).await else {
        going.iter().for_each(|(index, _)| answers[*index] = Err(Refused::Stale));
        return;
    };
    let mut parts = list(answer).into_iter();
    let gone = parts.next().map(list).unwrap_or_default();
    let sent = parts.next().unwrap_or(Value::Null);
    // Three numbers for each that left; none of those of a commit that was refused.
    let mut sent = match sent {
        Value::Array(sent) => Some(sent.into_iter()),
        _ => None,
    };
    let (mut mail, mut timer, mut leaving) = (false, false, Vec::new());
    for ((index, outbox), gone) in going.into_iter().zip(gone) {
        let commit = &batch[index];
        let number = int(&gone) as u64;
        if number > 0 {
            // A written state was finished by whoever found it unfinished.
            if commit.state.is_none() {
                answers[index] = Err(Refused::Gone(Position::new(partition, number)));
            }
            continue;
        }
        timer |= !commit.deferred.is_empty();
        place.ended(commit.done.iter().map(|done| done.position.number()));
        let Some(sent) = &mut sent else { continue };
        for parcel in outbox {
            let (Some(serial), Some(to), Some(seq)) = (sent.next(), sent.next(), sent.next()) else { break };
            match (int(&serial) as u64, int(&to) as u64, int(&seq) as u64) {
                (0, number, 0) => {
                    place.tail.push(number, &parcel.envelope, parcel.bytes.len());
                    mail = true;
                }
                (0, number, _) => {
                    place.tail.pass(number);
                    timer = true;
                }
                (serial, _, seq) => leaving.push((serial, seq, parcel)),
            }
        }
    }
    if sent.is_none() {
        // It had happened before, and what it sent was in the answer that was lost.
        place.look_again();
        place.outbox.look_again();
    }
    if !leaving.is_empty() {
        place.outbox.push(leaving.into_iter());
    }
    place.notify(mail, timer);
}

/// Calls until there is an answer: the serial makes it happen once. `None` when the lease is over.
async fn persist(core: &Core, partition: u16, args: Vec<Value>) -> Option<Value> {
    let mut wait = Duration::from_millis(20);
    let mut told = false;
    loop {
        match core.written(partition, "commit", args.clone()).await {
            Ok(answer) => return Some(answer),
            Err(Fault::Stale | Fault::Lost) => return None,
            Err(_) if core.closed() => return None,
            Err(fault) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(partition, %fault, "commits wait until Redis answers");
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

/// The saved states, for the owner: first what is saved, then whether the lease still holds, so that
/// whoever takes the partition later reads what is written on top of this.
pub(super) async fn open(core: &Core, lease: Lease, addresses: &[Address]) -> Result<Vec<Loaded>> {
    let stateful: Vec<Address> = addresses.iter().filter(|a| core.stateful(a.kind())).cloned().collect();
    let mut saved: HashMap<(String, String), Saved> = HashMap::new();
    let kinds = by_kind(&stateful);
    let found = join_all(kinds.iter().map(|(kind, keys)| mongo::load(&core.states, kind, keys))).await;
    for (kind, found) in kinds.keys().zip(found) {
        saved.extend(found?.into_iter().map(|one| (((*kind).to_owned(), one.key.clone()), one)));
    }
    let saved: Vec<Saved> = addresses
        .iter()
        .map(|address| saved.remove(&(address.kind().to_owned(), address.key().to_owned())).unwrap_or_default())
        .collect();
    let mut flags = flags(core, lease, addresses, &saved).await?;
    let unfinished: Vec<usize> = (0..saved.len()).filter(|index| flags[*index] & 2 != 0).collect();
    let mut finished: Vec<Vec<Position>> = vec![Vec::new(); saved.len()];
    if !unfinished.is_empty() {
        let positions = redo(core, lease, unfinished.iter().map(|index| &saved[*index])).await?;
        for (index, positions) in unfinished.into_iter().zip(positions) {
            finished[index] = positions;
        }
        flags = self::flags(core, lease, addresses, &saved).await?;
    }
    let loaded = |((saved, flags), finished): ((Saved, i64), Vec<Position>)| Loaded {
        rev: saved.rev,
        doc: saved.doc,
        parked: flags & 1 != 0,
        finished,
    };
    Ok(saved.into_iter().zip(flags).zip(finished).map(loaded).collect())
}

async fn flags(core: &Core, lease: Lease, addresses: &[Address], saved: &[Saved]) -> Result<Vec<i64>> {
    let mut args = vec![number(lease.epoch)];
    for (address, saved) in addresses.iter().zip(saved) {
        args.push(arg(format!("{}/{}", address.kind(), address.key())));
        args.push(number(saved.redo.as_ref().map_or(0, |(witness, _)| *witness)));
    }
    Ok(list(core.redis.call(lease.partition, "open", args).await?).iter().map(int).collect())
}

/// Finishes commits whose states are written and whose messages still wait: which messages those are,
/// of each.
async fn redo<'a>(
    core: &Core,
    lease: Lease,
    unfinished: impl Iterator<Item = &'a Saved>,
) -> Result<Vec<Vec<Position>>> {
    let mut args = vec![number(lease.epoch)];
    for saved in unfinished {
        let (witness, blob) = saved.redo.clone().unwrap_or_default();
        args.push(number(witness));
        args.push(arg(blob));
    }
    let finished = list(core.written(lease.partition, "redo", args).await?);
    let place = &core.places[usize::from(lease.partition)];
    place.look_again();
    place.outbox.look_again();
    let position = |number: &Value| Position::new(lease.partition, int(number) as u64);
    Ok(finished.into_iter().map(|numbers| list(numbers).iter().map(position).collect()).collect())
}
