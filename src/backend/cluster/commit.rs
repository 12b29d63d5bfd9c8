//! Commits under a lease: state first, then one call that does the rest in Redis. The proof that this
//! is one effect is in the [module](super).

use std::time::Duration;

use fred::types::Value;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{
    Core, encode,
    mongo::{StateOp, Written},
    open::{Opened, by_kind, look_into},
    parcels::Leaving,
    place::Place,
    redis::{Fault, arg, int, list, number},
};
use crate::{
    address::Address,
    backend::{Commit, Decided, Lease, Refused},
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
/// earlier leases are made impossible, and those that happened are finished. Stale, when the document is not the
/// one that this owner knows: a stale owner wrote after the actor was opened, and what was decided since, by this
/// commit or by those that come after it, was decided on a state that is not the last one.
async fn claim_unwritten(core: &Core, lease: Lease, batch: &[Commit]) -> Result<()> {
    let place = &core.places[usize::from(lease.partition)];
    let mut unclaimed: Vec<Address> = Vec::new();
    for commit in batch.iter().filter(|commit| commit.state.is_none() && core.stateful(commit.address.kind())) {
        match place.document(lease.epoch, &commit.address) {
            Some(document) if commit.seen.is_some_and(|seen| seen != document.rev) => return Err(Fault::Stale.into()),
            Some(document) if document.claimed => {}
            _ if unclaimed.contains(&commit.address) => {}
            _ => unclaimed.push(commit.address.clone()),
        }
    }
    if unclaimed.is_empty() {
        return Ok(());
    }
    let before: Vec<_> = unclaimed.iter().map(|address| place.document(lease.epoch, address)).collect();
    let claimed = claim(core, lease, &unclaimed).await?;
    for ((address, before), claimed) in unclaimed.iter().zip(before).zip(claimed) {
        let rev = claimed.loaded.rev;
        let decided = batch.iter().filter(|commit| commit.address == *address).filter_map(|commit| commit.seen);
        let known = before.map(|document| document.rev).into_iter().chain(decided);
        if claimed.finished || known.into_iter().any(|known| known != rev) {
            return Err(Fault::Stale.into());
        }
        place.saw(lease.epoch, address, rev, true);
    }
    Ok(())
}

/// Makes this lease the only one that writes these states, and finishes what earlier ones began.
pub(super) async fn claim(core: &Core, lease: Lease, addresses: &[Address]) -> Result<Vec<Opened>> {
    for (kind, keys) in by_kind(addresses) {
        core.states.claim(kind, &keys, lease.epoch).await?;
    }
    look_into(core, lease, addresses).await
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
    let place = &core.places[usize::from(lease.partition)];
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
                place.writes(lease.epoch, &commit.address, true);
                core.states.write(op, several);
                writing.push((index, redone, answer));
            }
            Err(error) => answers[index] = Err(Refused::Unavailable(error.to_string())),
        }
    }
    for (index, redone, answer) in writing {
        answers[index] = match answer.await {
            Ok(Written::Yes) => {
                let from = batch[index].state.as_ref().map_or(0, |state| state.from);
                place.saw(lease.epoch, &batch[index].address, from + 1, true);
                if redone {
                    decided.say(index);
                }
                Ok(())
            }
            Ok(Written::Conflict) => Err(Refused::Stale),
            Ok(Written::Refused { code, why }) => Err(Refused::Unsavable { code, why }),
            Ok(Written::Unknown(why)) => Err(Refused::Unavailable(why)),
            Err(_) => Err(Refused::Unavailable("the store is closing".into())),
        };
        if answers[index].is_err() {
            place.writes(lease.epoch, &batch[index].address, false);
        }
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
    let written: Vec<usize> = (0..batch.len()).filter(|index| answers[*index].is_ok()).collect();
    let plain = |index: &usize| encode::plain(&batch[*index]);
    let (plain, others): (Vec<usize>, Vec<usize>) = written.into_iter().partition(plain);
    if plain.is_empty() && others.is_empty() {
        return;
    }
    let sent = match call(core, lease, batch, &ready, &plain, &others).await {
        // A message that was only to be ended is gone: each commit is looked at by itself.
        Some(Answer::Apart) => {
            let all: Vec<usize> = plain.iter().chain(&others).copied().collect();
            (Vec::new(), call(core, lease, batch, &ready, &[], &all).await, all)
        }
        answer => (plain, answer, others),
    };
    let (plain, Some(Answer::Done { gone, sent }), others) = sent else {
        let (plain, _, others) = sent;
        plain.iter().chain(&others).for_each(|index| answers[*index] = Err(Refused::Stale));
        return;
    };
    let place = &core.places[usize::from(lease.partition)];
    for index in &plain {
        place.ended(batch[*index].done.iter().map(|done| done.position.number()));
    }
    let known = sent.is_some();
    let sent = sent.unwrap_or_default().into_iter();
    let mut notes =
        Notes { place, epoch: lease.epoch, era: place.era(), sent, leaving: Vec::new(), mail: false, timer: false };
    let mut ready: Vec<Option<Ready>> = ready.into_iter().map(Some).collect();
    for (index, gone) in others.into_iter().zip(gone) {
        let commit = &batch[index];
        if gone > 0 {
            answers[index] = refusal(lease, commit, gone, disturbed);
            continue;
        }
        notes.timer |= !commit.deferred.is_empty() || commit.journals.iter().any(|written| written.wake);
        place.ended(commit.done.iter().map(|done| done.position.number()));
        if let Some(ready) = ready[index].take().filter(|_| known) {
            ready.outbox.into_iter().for_each(|parcel| notes.left(parcel));
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

/// What becomes of a commit one of whose messages is gone, so that nothing of it was done in Redis.
fn refusal(lease: Lease, commit: &Commit, number: u64, disturbed: bool) -> Result<(), Refused> {
    match (&commit.state, disturbed) {
        (None, _) => Err(Refused::Gone(Position::new(lease.partition, number))),
        // A written state was finished by the one who found it unfinished.
        (Some(_), true) => Ok(()),
        (Some(_), false) => {
            let partition = lease.partition;
            error!(partition, number, address = %commit.address, "a message that was handled is not there");
            Err(Refused::Stale)
        }
    }
}

/// What the function says of a group.
enum Answer {
    /// For each of the others 0, or the number of a message that is gone; and three numbers for each message that
    /// left, none of those of a commit that was refused. Nothing of the latter when the group had come before.
    Done { gone: Vec<u64>, sent: Option<Vec<Value>> },
    /// Nothing was done: a message that was only to be ended is gone.
    Apart,
}

/// Calls the function for a group; nothing when the lease is over.
async fn call(
    core: &Core,
    lease: Lease,
    batch: &[Commit],
    ready: &[Ready],
    plain: &[usize],
    others: &[usize],
) -> Option<Answer> {
    let place = &core.places[usize::from(lease.partition)];
    let ends = match plain.is_empty() {
        true => Vec::new(),
        false => encode::ends(plain.iter().map(|index| &batch[*index])),
    };
    let mut args = vec![number(lease.epoch), number(place.next_serial()), arg(ends)];
    args.extend(others.iter().map(|index| arg(ready[*index].blob(&batch[*index]))));
    let mut parts = list(persist(core, lease.partition, args).await?).into_iter();
    let first = parts.next()?;
    if first.as_str().is_some_and(|what| what == "apart") {
        return Some(Answer::Apart);
    }
    let sent = match parts.next() {
        Some(Value::Array(sent)) => Some(sent),
        _ => None,
    };
    Some(Answer::Done { gone: list(first).iter().map(|gone| int(gone) as u64).collect(), sent })
}

/// What a group's answer says of its outboxes.
struct Notes<'a> {
    place: &'a Place,
    epoch: u64,
    era: u64,
    sent: std::vec::IntoIter<Value>,
    leaving: Vec<Leaving>,
    mail: bool,
    timer: bool,
}

impl Notes<'_> {
    fn left(&mut self, parcel: encode::Parcel) {
        let mut next = || self.sent.next().as_ref().map_or(0, int) as u64;
        match (next(), next(), next()) {
            // To its own partition: it is there already, in the mailbox or among the deferred.
            (0, number, 0) => {
                self.place.tail.push(self.epoch, number, &parcel.envelope, parcel.bytes.len());
                self.mail = true;
            }
            (0, number, _) => {
                self.place.tail.pass(self.epoch, number);
                self.timer = true;
            }
            (serial, _, seq) => self.leaving.push(Leaving::new(serial, self.era, seq, parcel)),
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
