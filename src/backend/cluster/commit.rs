//! Commits under a lease: state first, then one call that does the rest in Redis. The proof that this
//! is one effect is in the [module](super).

use std::{collections::HashMap, time::Duration};

use fred::types::Value;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{
    Core, encode,
    mongo::{self, Saved, StateOp, Written},
    place::Place,
    redis::{Fault, arg, int, list, number},
};
use crate::{
    address::Address,
    backend::{Commit, Decided, Lease, Loaded, Refused},
    envelope::Position,
    error::Result,
};

/// A commit made ready.
struct Ready {
    outbox: Vec<encode::Parcel>,
    /// Its part in Redis, made when it is needed: most commits go together with others.
    blob: std::sync::OnceLock<Vec<u8>>,
}

impl Ready {
    fn blob(&self, commit: &Commit) -> Vec<u8> {
        self.blob.get_or_init(|| encode::commit(commit, &self.outbox)).clone()
    }
}

/// Commits a group, and says which are decided before they are done in Redis too.
pub(super) async fn commit(core: &Core, lease: Lease, batch: &[Commit], decided: &Decided) -> Vec<Result<(), Refused>> {
    let ready = match prepare(core, batch) {
        Ok(ready) => ready,
        Err(error) => return vec![Err(Refused::Unavailable(error.to_string())); batch.len()],
    };
    let mut answers: Vec<Result<(), Refused>> = vec![Ok(()); batch.len()];
    if let Err(error) = claim_unwritten(core, lease, batch).await {
        let refused = if error.is_terminal() { Refused::Stale } else { Refused::Unavailable(error.to_string()) };
        return vec![Err(refused); batch.len()];
    }
    let place = &core.places[usize::from(lease.partition)];
    let redone = place.redone();
    write_states(core, lease, batch, &ready, decided, &mut answers).await;
    // One group of a partition at a time from here on: the lease remembers the last one's serial, and outboxes
    // are filled in its order.
    let _one = place.finishing.lock().await;
    let disturbed = place.redone() != redone;
    finish(core, lease, batch, ready, disturbed, &mut answers).await;
    answers
}

fn prepare(core: &Core, batch: &[Commit]) -> Result<Vec<Ready>> {
    let one = |commit: &Commit| {
        let parcel = |sent| encode::Parcel::new(sent, core.options.partitions);
        let outbox: Vec<encode::Parcel> = commit.outbox.iter().map(parcel).collect::<Result<_, _>>()?;
        Ok(Ready { outbox, blob: Default::default() })
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
    decided: &Decided,
    answers: &mut [Result<(), Refused>],
) {
    if let (Some(of), Some(first)) = (core.tenants.get(), batch.first()) {
        of(&first.address).inspect(|tenant| core.company.saw(*tenant));
    }
    let several = core.company.is_several();
    let mut writing = Vec::new();
    for (index, (commit, ready)) in batch.iter().zip(ready).enumerate() {
        let Some(state) = &commit.state else { continue };
        let redo = encode::witness(commit).map(|witness| (witness, ready.blob(commit)));
        // Without a redo nothing would finish it.
        let redone = redo.is_some();
        let (reply, answer) = oneshot::channel();
        match StateOp::new(&commit.address, state, lease.epoch, redo, commit.at, reply) {
            Ok(op) => {
                core.states.write(op, several);
                writing.push((index, redone, answer));
            }
            Err(error) => answers[index] = Err(Refused::Unavailable(error.to_string())),
        }
    }
    let place = &core.places[usize::from(lease.partition)];
    for (index, redone, answer) in writing {
        answers[index] = match answer.await {
            Ok(Written::Yes) => {
                if redone {
                    decided.say(index);
                }
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
async fn finish(
    core: &Core,
    lease: Lease,
    batch: &[Commit],
    ready: Vec<Ready>,
    disturbed: bool,
    answers: &mut [Result<(), Refused>],
) {
    let partition = lease.partition;
    let place = &core.places[usize::from(partition)];
    // Somebody may have finished one of these meanwhile: then each is looked at by itself.
    let together = |commit: &Commit| !disturbed && encode::plain(commit);
    let written: Vec<usize> = (0..batch.len()).filter(|index| answers[*index].is_ok()).collect();
    let (plain, others): (Vec<usize>, Vec<usize>) = written.into_iter().partition(|index| together(&batch[*index]));
    if plain.is_empty() && others.is_empty() {
        return;
    }
    let ends = match plain.is_empty() {
        true => Vec::new(),
        false => encode::ends(plain.iter().map(|index| &batch[*index])),
    };
    let mut args = vec![number(lease.epoch), number(place.next_serial()), arg(ends)];
    let mut ready: Vec<Option<Ready>> = ready.into_iter().map(Some).collect();
    let mut outboxes = Vec::with_capacity(others.len());
    for index in &others {
        let Some(ready) = ready[*index].take() else { continue };
        args.push(arg(ready.blob(&batch[*index])));
        outboxes.push(ready.outbox);
    }
    let Some(answer) = persist(core, partition, args).await else {
        plain.iter().chain(&others).for_each(|index| answers[*index] = Err(Refused::Stale));
        return;
    };
    let mut parts = list(answer).into_iter();
    let gone = parts.next().map(list).unwrap_or_default();
    let ended = parts.next().as_ref().map_or(0, int) as usize;
    // Three numbers for each that left; none of those of a commit that was refused.
    let sent = match parts.next() {
        Some(Value::Array(sent)) => Some(sent),
        _ => None,
    };
    let expected: usize = plain.iter().map(|index| batch[*index].done.len()).sum();
    let none = ended == 0 && plain.iter().all(|index| batch[*index].state.is_none());
    if ended != expected && !none {
        error!(partition, expected, ended, "some messages that were handled were no longer there");
    }
    for index in &plain {
        let done = &batch[*index].done;
        answers[*index] = match done.first() {
            _ if ended == expected => Ok(()),
            Some(first) if none => Err(Refused::Gone(first.position)),
            // Which ones, only starting over tells.
            _ => Err(Refused::Stale),
        };
        place.ended(done.iter().map(|done| done.position.number()));
    }
    let known = sent.is_some();
    let mut notes =
        Notes { place, sent: sent.unwrap_or_default().into_iter(), leaving: Vec::new(), mail: false, timer: false };
    for ((index, outbox), gone) in others.into_iter().zip(outboxes).zip(gone) {
        let (commit, number) = (&batch[index], int(&gone) as u64);
        if number > 0 {
            // A written state was finished by whoever found it unfinished, and nobody else takes
            // messages out of this mailbox.
            match (&commit.state, disturbed) {
                (None, _) => answers[index] = Err(Refused::Gone(Position::new(partition, number))),
                (Some(_), true) => {}
                (Some(_), false) => {
                    error!(partition, number, address = %commit.address, "a message that was handled is not there");
                    answers[index] = Err(Refused::Stale);
                }
            }
            continue;
        }
        notes.timer |= !commit.deferred.is_empty() || commit.journals.iter().any(|written| written.wake);
        place.ended(commit.done.iter().map(|done| done.position.number()));
        if known {
            outbox.into_iter().for_each(|parcel| notes.left(parcel));
        }
    }
    if !known {
        // It had happened before, and what it sent was in the answer that was lost.
        place.look_again();
        place.outbox.look_again();
    }
    let Notes { leaving, mail, timer, .. } = notes;
    if !leaving.is_empty() {
        place.outbox.push(leaving.into_iter());
    }
    place.notify(mail, timer);
}

/// What a group's answer says of its outboxes.
struct Notes<'a> {
    place: &'a Place,
    sent: std::vec::IntoIter<Value>,
    leaving: Vec<(u64, u64, encode::Parcel)>,
    mail: bool,
    timer: bool,
}

impl Notes<'_> {
    fn left(&mut self, parcel: encode::Parcel) {
        let mut next = || self.sent.next().as_ref().map_or(0, int) as u64;
        match (next(), next(), next()) {
            // To its own partition: it is there already, in the mailbox or among the deferred.
            (0, number, 0) => {
                self.place.tail.push(number, &parcel.envelope, parcel.bytes.len());
                self.mail = true;
            }
            (0, number, _) => {
                self.place.tail.pass(number);
                self.timer = true;
            }
            (serial, _, seq) => self.leaving.push((serial, seq, parcel)),
        }
    }
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
        // A redo of another partition was finished before its key moved here: see `resize::prepare`.
        let witness = saved.redo.as_ref().filter(|(witness, _)| witness.partition() == lease.partition);
        args.push(number(witness.map_or(0, |(witness, _)| witness.number())));
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
        if let Some((witness, blob)) = &saved.redo {
            args.push(number(witness.number()));
            args.push(arg(blob.clone()));
        }
    }
    let place = &core.places[usize::from(lease.partition)];
    // Said before it is sent, on the connection that commits use too: whoever does not see this sends
    // its commit first.
    place.redo();
    let finished = list(core.written(lease.partition, "redo", args).await?);
    place.look_again();
    place.outbox.look_again();
    let position = |number: &Value| Position::new(lease.partition, int(number) as u64);
    Ok(finished.into_iter().map(|numbers| list(numbers).iter().map(position).collect()).collect())
}
