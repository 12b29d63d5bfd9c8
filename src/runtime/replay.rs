//! Trying this build on the journals of a store: whether it would follow each command that has begun and
//! not ended. Reads only, beside nodes that run on the store.
//!
//! Invariant: a command that a running node moved on meanwhile is looked at again before it is accused.

use std::{sync::Arc, time::Duration};

use super::{faults::Faults, journaled::decode_all, node::kinds, settings::Settings, shared::Shared};
use crate::{
    address::Address,
    backend::{Backend, Loaded, Lookup},
    clock::Clock,
    context::About,
    durable::{
        dry::{Dry, Followed},
        entry::Entry,
    },
    envelope::{Envelope, Position},
    error::Result,
    feature::Feature,
    request::RequestId,
};

/// How often a command is looked at again that moves on meanwhile.
const AGAIN: usize = 5;

/// What became of one command.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) request: RequestId,
    pub(crate) to: Option<Address>,
    /// The build that began it.
    pub(crate) build: Option<String>,
    /// Whether it was given up: it is only run again when somebody puts it back.
    pub(crate) dead: bool,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has not begun; something came for it.
    NotBegun,
    /// Its kind is none of this build's.
    UnknownKind,
    Followed(Followed),
}

impl Verdict {
    /// Whether this build goes on with the command as the one before would.
    pub(crate) fn is_fine(&self) -> bool {
        matches!(self, Verdict::NotBegun | Verdict::Followed(Followed::Waits(_) | Followed::Ends))
    }
}

/// What a store knows of a command.
struct Known {
    envelope: Result<Arc<Envelope>, String>,
    attempt: u32,
    dead: bool,
    entries: Vec<Vec<u8>>,
    loaded: Loaded,
}

/// Tries `features` on every command of the store that has a journal, and tells what became of each.
pub(crate) async fn replay(
    backend: Arc<dyn Backend>,
    features: &[Feature],
    settings: Settings,
    patience: Duration,
    mut told: impl FnMut(Tried),
) -> Result<()> {
    let kinds = kinds(features)?;
    let shared = Arc::new(Shared::new(backend.clone(), Clock::System, settings, kinds, Faults::default(), 0)?);
    for partition in 0..backend.partitions() {
        for position in backend.journaled(partition).await? {
            if let Some(tried) = one(&shared, position, patience).await? {
                told(tried);
            }
        }
    }
    Ok(())
}

/// Tries one; `None` when it has ended meanwhile.
async fn one(shared: &Arc<Shared>, position: Position, patience: Duration) -> Result<Option<Tried>> {
    let Some(mut known) = load(shared, position).await? else { return Ok(None) };
    let mut round = 0;
    loop {
        let verdict = verdict(shared, position, &known, patience).await;
        round += 1;
        if !verdict.is_fine() && round < AGAIN {
            let Some(now) = load(shared, position).await? else { return Ok(None) };
            if (now.entries.len(), now.loaded.rev, now.dead) != (known.entries.len(), known.loaded.rev, known.dead) {
                known = now;
                continue;
            }
        }
        let build = decode_all(&known.entries).ok().and_then(|entries| began(&entries));
        let to = known.envelope.ok().map(|envelope| envelope.to.clone());
        return Ok(Some(Tried { request: shared.id(position), to, build, dead: known.dead, verdict }));
    }
}

fn began(entries: &[Entry]) -> Option<String> {
    entries.iter().find_map(|entry| match entry {
        Entry::Began { build, .. } => Some(build.clone()),
        _ => None,
    })
}

async fn load(shared: &Arc<Shared>, position: Position) -> Result<Option<Known>> {
    let entries = shared.backend.journal(position).await?;
    let (envelope, attempt, dead) = match shared.backend.lookup(position).await? {
        Lookup::Waiting(stored) => {
            let attempt = stored.failures.len() as u32 + 1;
            (stored.envelope.map_err(|undecodable| undecodable.reason), attempt, false)
        }
        Lookup::Dead(dead) => {
            let envelope = dead.envelope.map(Arc::new).ok_or_else(|| "its bytes are no message".to_owned());
            // It begins anew when it is put back.
            (envelope, 1, true)
        }
        Lookup::Unknown | Lookup::Expired | Lookup::Lost | Lookup::Ended(_) => return Ok(None),
    };
    let loaded = match &envelope {
        Ok(envelope) => shared.backend.load(vec![envelope.to.clone()]).await?.pop().unwrap_or_default(),
        Err(_) => Loaded::default(),
    };
    Ok(Some(Known { envelope, attempt, dead, entries, loaded }))
}

async fn verdict(shared: &Arc<Shared>, position: Position, known: &Known, patience: Duration) -> Verdict {
    let unreadable = |why: String| Verdict::Followed(Followed::Unreadable(why));
    let envelope = match &known.envelope {
        Ok(envelope) => envelope.clone(),
        Err(why) => return unreadable(why.clone()),
    };
    let Some(kind) = shared.kinds.get(envelope.to.kind()) else { return Verdict::UnknownKind };
    let entries = match decode_all(&known.entries) {
        Ok(entries) => entries,
        Err(error) => return unreadable(error.to_string()),
    };
    if began(&entries).is_none() {
        return Verdict::NotBegun;
    }
    let (now, attempt) = (shared.clock.now(), known.attempt);
    let about = About { address: envelope.to.clone(), position, attempt, now, envelope };
    let dry = Dry { about, doc: known.loaded.doc.clone(), entries, patience };
    Verdict::Followed(kind.follow(shared, dry).await)
}
