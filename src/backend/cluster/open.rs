//! Opening states for their owner: what is saved, and what earlier owners had begun to commit, finished first.

use std::collections::HashMap;

use fred::types::Value;
use futures_util::future::join_all;

use super::{
    Core,
    mongo::{self, Saved},
    redis::{Fault, arg, int, list, number},
    touched,
};
use crate::{
    address::Address,
    backend::{Home, Lease, Loaded},
    envelope::Position,
    error::Result,
};

/// Actors that are looked into at once: what their commits still do in Redis is read of each.
const PAGE: usize = 64;

/// Keys by their kind.
pub(super) fn by_kind(addresses: &[Address]) -> HashMap<&str, Vec<&str>> {
    let mut kinds: HashMap<&str, Vec<&str>> = HashMap::new();
    for address in addresses {
        kinds.entry(address.kind()).or_default().push(address.key());
    }
    kinds
}

/// A state as its owner opens it.
#[derive(Clone, Debug, Default)]
pub(super) struct Opened {
    pub(super) loaded: Loaded,
    /// Whether a commit of an earlier owner was finished for it just now.
    pub(super) finished: bool,
}

/// The saved states, for the owner: first what is saved, then whether the lease still holds, so that
/// the next owner of the partition reads what is written on top of this.
pub(super) async fn open(core: &Core, lease: Lease, addresses: &[Address]) -> Result<Vec<Opened>> {
    let saved = saved(core, addresses, true).await?;
    finished(core, lease, addresses, saved).await
}

/// The same without the states, a page at a time: of many actors their states would be more than there is memory for.
pub(super) async fn look_into(core: &Core, lease: Lease, addresses: &[Address]) -> Result<Vec<Opened>> {
    let mut opened = Vec::with_capacity(addresses.len());
    for some in addresses.chunks(PAGE) {
        let saved = saved(core, some, false).await?;
        opened.extend(finished(core, lease, some, saved).await?);
    }
    Ok(opened)
}

/// Reads the document of each actor, with its state or without.
async fn saved(core: &Core, addresses: &[Address], state: bool) -> Result<Vec<Saved>> {
    let stateful: Vec<Address> = addresses.iter().filter(|a| core.stateful(a.kind())).cloned().collect();
    let mut saved: HashMap<(String, String), Saved> = HashMap::new();
    let kinds = by_kind(&stateful);
    let load = async |(kind, keys): (&&str, &Vec<&str>)| match state {
        true => mongo::load(&core.states, kind, keys).await,
        false => mongo::marks(&core.states, kind, keys).await,
    };
    let found = join_all(kinds.iter().map(load)).await;
    for (kind, found) in kinds.keys().zip(found) {
        saved.extend(found?.into_iter().map(|one| (((*kind).to_owned(), one.key.clone()), one)));
    }
    let of = |address: &Address| saved.remove(&(address.kind().to_owned(), address.key().to_owned()));
    Ok(addresses.iter().map(of).map(Option::unwrap_or_default).collect())
}

/// Finishes the commits whose documents are saved and whose part in Redis is not done.
async fn finished(core: &Core, lease: Lease, addresses: &[Address], saved: Vec<Saved>) -> Result<Vec<Opened>> {
    let touched: Vec<Vec<(u64, Home)>> = saved.iter().map(|saved| touched_by(saved, lease.partition)).collect();
    let mut found = look(core, lease, addresses, &touched).await?;
    let unfinished: Vec<usize> = (0..saved.len()).filter(|index| found[*index].unfinished).collect();
    if !unfinished.is_empty() {
        redo(core, lease, unfinished.iter().map(|index| &saved[*index])).await?;
        found = look(core, lease, addresses, &touched).await?;
    }
    let mut opened: Vec<Opened> = Vec::with_capacity(saved.len());
    for ((saved, found), touched) in saved.into_iter().zip(found).zip(touched) {
        let at = |place: usize| {
            let (number, home) = touched.get(place.checked_sub(1)?)?;
            Some((Position::new(lease.partition, *number), *home))
        };
        let finished = found.gone.into_iter().filter_map(at).collect();
        let loaded = Loaded { rev: saved.rev, doc: saved.doc, parked: found.parked, finished };
        opened.push(Opened { loaded, finished: false });
    }
    unfinished.into_iter().for_each(|index| opened[index].finished = true);
    Ok(opened)
}

/// Messages that the commit that wrote a document has touched. One of another partition was finished before its
/// key moved here: see `resize::prepare`.
fn touched_by(saved: &Saved, partition: u16) -> Vec<(u64, Home)> {
    match &saved.redo {
        Some((witness, blob)) if witness.partition() == partition => touched::touched(blob, witness.number()),
        _ => Vec::new(),
    }
}

/// What Redis knows of an actor that is opened.
struct Found {
    parked: bool,
    unfinished: bool,
    /// Places, counted from 1, of touched messages that are no longer where they were.
    gone: Vec<usize>,
}

async fn look(core: &Core, lease: Lease, addresses: &[Address], touched: &[Vec<(u64, Home)>]) -> Result<Vec<Found>> {
    let mut args = vec![number(lease.epoch)];
    for (address, touched) in addresses.iter().zip(touched) {
        args.push(arg(format!("{}/{}", address.kind(), address.key())));
        args.push(arg(if touched.is_empty() { Vec::new() } else { touched::pack_touched(touched) }));
    }
    let answers = list(match core.redis.call(lease.partition, "open", args).await {
        // Another server than the one under which this lease was taken: the lease is over.
        Err(Fault::Cold) => return Err(Fault::Stale.into()),
        answer => answer?,
    });
    let found = |answer: Value| {
        let numbers: Vec<i64> = list(answer).iter().map(int).collect();
        let flags = numbers.first().copied().unwrap_or(0);
        let gone = numbers.iter().skip(1).map(|place| *place as usize).collect();
        Found { parked: flags & 1 != 0, unfinished: flags & 2 != 0, gone }
    };
    Ok(answers.into_iter().map(found).collect())
}

/// Finishes commits whose states are written and whose messages still wait.
async fn redo<'a>(core: &Core, lease: Lease, unfinished: impl Iterator<Item = &'a Saved>) -> Result<()> {
    let mut args = vec![number(lease.epoch)];
    for saved in unfinished {
        if let Some((witness, blob)) = &saved.redo {
            args.push(number(witness.number()));
            args.push(arg(blob.clone()));
        }
    }
    let place = &core.places[usize::from(lease.partition)];
    // Said before it is sent, on the connection that commits use too: a commit that does not see this was sent
    // first.
    place.redo();
    // A lost answer is an error here, and all of this is done again: then it is finished, and what it touched is
    // known from its bytes.
    let redone = core.written(lease.partition, "redo", args).await;
    place.look_again();
    place.outbox.look_again();
    redone.map(drop).map_err(Into::into)
}
