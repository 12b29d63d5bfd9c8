//! What is paused: as every thread of a node knows it, how a node comes to know it, and what a partition does
//! when it changes.
//!
//! Invariant: nothing paused is begun on a node that knows of it; what runs then goes on until it ends or waits.

use std::{
    collections::{BTreeMap, HashSet},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    letter::Letter,
    node::Node,
    reader::wake_parked,
    room::{Room, Signal},
    shared::Shared,
};
use crate::{
    address::Address,
    backend::{Paused, Scope},
    error::{Error, Result},
};

/// How often a node that shares its store looks what is paused, without having been told.
const LOOK: Duration = Duration::from_secs(2);

/// What is paused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pausing {
    kinds: HashSet<String>,
    keys: HashSet<Address>,
    since: BTreeMap<Scope, i64>,
}

impl Pausing {
    fn new(paused: Vec<Paused>) -> Self {
        let mut pausing = Self::default();
        for Paused { scope, since } in paused {
            match &scope.key {
                None => drop(pausing.kinds.insert(scope.kind.clone())),
                // What is no address covers nothing.
                Some(key) => drop(Address::new(&scope.kind, key).map(|address| pausing.keys.insert(address))),
            }
            pausing.since.insert(scope, since);
        }
        pausing
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Whether an actor is paused.
    pub(crate) fn covers(&self, address: &Address) -> bool {
        !self.is_empty() && (self.kinds.contains(address.kind()) || self.keys.contains(address))
    }

    pub(crate) fn contains(&self, scope: &Scope) -> bool {
        self.since.contains_key(scope)
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> + '_ {
        self.since.keys().cloned()
    }
}

/// What a node knows to be paused.
pub(crate) struct Known {
    any: AtomicBool,
    now: watch::Sender<Arc<Pausing>>,
}

impl Default for Known {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), now: watch::Sender::new(Arc::default()) }
    }
}

impl Known {
    /// Whether an actor is paused. Where nothing is, this is one load.
    pub(crate) fn covers(&self, address: &Address) -> bool {
        self.any.load(Ordering::Acquire) && self.now.borrow().covers(address)
    }

    /// All of it.
    pub(crate) fn now(&self) -> Arc<Pausing> {
        self.now.borrow().clone()
    }

    fn learn(&self, pausing: Pausing) {
        self.now.send_if_modified(|known| {
            let changed = **known != pausing;
            if changed {
                self.any.store(!pausing.is_empty(), Ordering::Release);
                *known = Arc::new(pausing);
            }
            changed
        });
    }
}

/// Reads what is paused.
pub(super) async fn look(shared: &Shared) -> Result<()> {
    let _one = shared.looking.lock().await;
    let paused = shared.backend.paused().await?;
    shared.metrics.paused(paused.len());
    shared.pausing.learn(Pausing::new(paused));
    Ok(())
}

/// Goes on looking, where others may pause something.
pub(super) async fn keep_looking(shared: Arc<Shared>) {
    while !shared.draining() {
        shared.clock.rest(LOOK).await;
        if let Err(error) = look(&shared).await {
            warn!(%error, "what is paused could not be read, trying again");
        }
    }
}

impl Node {
    /// Pauses a kind of actors, or one of them: what they are told is accepted and waits, and nothing of it
    /// is handled before it is [resumed](Self::resume), on whichever node and over restarts. What runs goes on
    /// until it ends, or waits for something; then it waits for that and for being resumed. When this returns
    /// nothing more begins on this node, and within seconds on none. `false` when it was paused already.
    /// Terminal error when there is no such kind, or [too much](crate::backend::MOST_PAUSED) is paused.
    pub async fn pause(&self, kind: &str, key: Option<&str>) -> Result<bool> {
        let scope = self.scope(kind, key)?;
        let paused = self.shared.backend.pause(scope.clone(), self.shared.clock.now()).await?;
        if paused {
            info!(%scope, "paused");
        }
        self.tell_paused().await?;
        Ok(paused)
    }

    /// Resumes what was paused; `false` when it was not. A key whose kind is paused stays paused with it, and
    /// one that is paused by itself when its kind is resumed.
    pub async fn resume(&self, kind: &str, key: Option<&str>) -> Result<bool> {
        let scope = Scope { kind: kind.to_owned(), key: key.map(str::to_owned) };
        let resumed = self.shared.backend.resume(scope.clone()).await?;
        if resumed {
            info!(%scope, "resumed");
        }
        self.tell_paused().await?;
        Ok(resumed)
    }

    /// All that is paused, in order of kind and key.
    pub async fn paused(&self) -> Result<Vec<Paused>> {
        self.shared.backend.paused().await
    }

    /// A kind that there is, or one of it.
    pub(super) fn scope(&self, kind: &str, key: Option<&str>) -> Result<Scope> {
        if !self.shared.kinds.contains_key(kind) {
            let error = format!("there is no kind {kind:?}: expected one of {}", self.kinds().join(", "));
            return Err(Error::terminal(error).code("unknown_kind"));
        }
        key.map_or_else(|| Ok(Scope::kind(kind)), |key| Ok(Address::new(kind, key)?.into()))
    }

    async fn tell_paused(&self) -> Result<()> {
        look(&self.shared).await?;
        let (me, Some(others)) = (self.shared.backend.me(), &self.shared.others) else { return Ok(()) };
        for member in others.members().iter().filter(|member| member.id != me) {
            others.write(member.id, &Letter::Paused);
        }
        Ok(())
    }
}

/// Lets a partition follow what is paused.
pub(super) async fn follow(room: Rc<Room>) {
    let mut known = room.shared.pausing.now.subscribe();
    let mut before = room.lanes.borrow().pausing();
    loop {
        let now = known.borrow_and_update().clone();
        if *now != *before {
            room.lanes.borrow_mut().pause(now.clone());
            turn(&room, &before, &now).await;
            before = now;
        }
        if known.changed().await.is_err() || room.stopping() {
            return;
        }
    }
}

/// What has been paused gives back what it has in memory; what has been resumed goes on.
async fn turn(room: &Rc<Room>, before: &Pausing, now: &Pausing) {
    for (address, slot) in room.slots.borrow().iter() {
        match (before.covers(address), now.covers(address)) {
            (false, true) => slot.send(Signal::Park),
            (true, false) => slot.send(Signal::Wake),
            _ => {}
        }
    }
    room.look_again();
    if before.scopes().any(|scope| !now.contains(&scope)) {
        wake_parked(room, |address| before.covers(address) && !now.covers(address)).await;
    }
}
