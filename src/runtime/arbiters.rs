//! The threads of a node, and which partitions are open on which: partition `p` is on thread
//! `p % threads`.
//!
//! Invariant: a place changes hands by its tenure. Whoever began to open or to close a partition
//! finishes only if the place still has that tenure; if not, somebody has decided otherwise since, and
//! what was opened is closed again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::Addr;
use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error};

use super::{
    cancel::Cancel,
    partition::{Close, Opened, Opening, Parting, Partition, Running, open},
    plan::Standing,
    shared::Shared,
    supervisor::{Beat, Thread, watch},
    sweep::{Part, Sweep},
    tenure::Tenure,
};
use crate::{
    envelope::Position,
    error::{Error, Result},
};

/// All partitions of a node, and its threads.
pub(crate) struct Arbiters {
    shared: Arc<Shared>,
    places: Mutex<Places>,
    /// A place has changed.
    moved: Notify,
}

struct Places {
    partitions: Vec<Place>,
    /// By number: on which threads former tenures have not ended.
    parting: Vec<Vec<Arc<Beat>>>,
    threads: Vec<Thread>,
}

impl Places {
    /// The thread of a partition, or this one.
    fn thread(&self, partition: u16) -> Option<&Thread> {
        self.threads.get(usize::from(partition) % self.threads.len().max(1))
    }

    fn beat(&self, partition: u16) -> Arc<Beat> {
        self.thread(partition).map(|thread| thread.beat.clone()).unwrap_or_default()
    }
}

/// How a partition stands here.
#[derive(Default)]
enum Place {
    #[default]
    Vacant,
    Opening(Arc<Tenure>),
    Open(Arc<Tenure>, Addr<Partition>),
    Closing(Arc<Tenure>),
}

impl Place {
    fn tenure(&self) -> Option<&Arc<Tenure>> {
        match self {
            Self::Vacant => None,
            Self::Opening(tenure) | Self::Open(tenure, _) | Self::Closing(tenure) => Some(tenure),
        }
    }

    fn has(&self, tenure: &Arc<Tenure>) -> bool {
        self.tenure().is_some_and(|present| Arc::ptr_eq(present, tenure))
    }

    fn standing(&self) -> Standing {
        match self {
            Self::Vacant => Standing::Vacant,
            Self::Opening(_) => Standing::Opening,
            Self::Open(..) => Standing::Open,
            Self::Closing(_) => Standing::Closing,
        }
    }
}

impl Arbiters {
    /// Starts the configured threads and watches them. Where there are no other nodes, every
    /// partition is opened, for good.
    pub(crate) async fn start(shared: Arc<Shared>) -> Result<Arc<Self>> {
        let stall = shared.settings.stall;
        let count = shared.backend.partitions();
        let partitions = (0..count).map(|_| Place::default()).collect();
        let threads: Vec<Thread> = (0..shared.settings.arbiters).map(|_| Thread::start(stall)).collect();
        let watched = !threads.is_empty();
        let places = Places { partitions, parting: vec![Vec::new(); usize::from(count)], threads };
        let alone = shared.others.is_none();
        let arbiters = Arc::new(Self { shared, places: Mutex::new(places), moved: Notify::new() });
        if alone {
            let opened = join_all((0..count).map(|partition| arbiters.open(partition))).await;
            for (partition, opened) in (0..count).zip(opened) {
                if !opened? {
                    return Err(Error::new(format!("partition {partition} is held by another node")));
                }
            }
        }
        if watched {
            actix::spawn(watch(arbiters.clone()));
        }
        Ok(arbiters)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Each thread's sign of life.
    pub(crate) fn beats(&self) -> Vec<Arc<Beat>> {
        self.places().threads.iter().map(|thread| thread.beat.clone()).collect()
    }

    /// Changes a place, if `which` says so of what is there; what was there.
    fn change(&self, partition: u16, to: Place, which: impl FnOnce(&Place) -> bool) -> Option<Place> {
        let mut places = self.places();
        let place = places.partitions.get_mut(usize::from(partition)).filter(|place| which(place))?;
        let was = std::mem::replace(place, to);
        let open = places.partitions.iter().filter(|place| !matches!(place, Place::Vacant)).count();
        drop(places);
        self.shared.set_open(open);
        self.moved.notify_waiters();
        Some(was)
    }

    /// Opens a partition; `false` when another node has it, or it is not vacant here.
    pub(crate) async fn open(self: &Arc<Self>, partition: u16) -> Result<bool> {
        let tenure = Arc::<Tenure>::default();
        let vacant = |place: &Place| matches!(place, Place::Vacant);
        if self.change(partition, Place::Opening(tenure.clone()), vacant).is_none() {
            return Ok(false);
        }
        self.take(partition, tenure, false, None).await
    }

    /// Opens a partition whose place is kept for this tenure; on a new thread if the last one was blocked.
    async fn take(
        self: &Arc<Self>,
        partition: u16,
        tenure: Arc<Tenure>,
        blocked: bool,
        blamed: Option<Position>,
    ) -> Result<bool> {
        let shared = self.shared.clone();
        let (beat, opening) = {
            let places = self.places();
            let (beat, tenure) = (places.beat(partition), tenure.clone());
            let opening = Opening { shared, partition, tenure, beat: beat.clone(), blocked, blamed };
            (beat, open_on(places.thread(partition), opening))
        };
        let opened = opening.await.map_err(Error::from).and_then(|opened| opened);
        let kept = |place: &Place| place.has(&tenure);
        match opened {
            Ok(Opened::Taken(address)) => {
                let taken = self.change(partition, Place::Open(tenure.clone(), address.clone()), kept).is_some();
                if !taken {
                    self.part(partition, address, beat, Duration::ZERO);
                }
                Ok(taken)
            }
            Ok(Opened::Held(node)) => {
                debug!(partition, node, "another node has it for now");
                self.change(partition, Place::Vacant, kept);
                Ok(false)
            }
            Err(error) => {
                self.change(partition, Place::Vacant, kept);
                Err(error)
            }
        }
    }

    /// Lets a partition go; whether that was done in order. `false` too when it is not open.
    pub(crate) async fn close(&self, partition: u16, parting: Parting, deadline: Duration) -> bool {
        let tenure = self.places().partitions.get(usize::from(partition)).and_then(Place::tenure).cloned();
        let Some(tenure) = tenure else { return false };
        let open = |place: &Place| place.has(&tenure) && matches!(place, Place::Open(..));
        let closing = self.change(partition, Place::Closing(tenure.clone()), open);
        let Some(Place::Open(_, address)) = closing else { return false };
        tenure.end();
        // A thread that is gone took the partition with it.
        let closed = address.send(Close(parting, deadline)).await.unwrap_or(false);
        self.change(partition, Place::Vacant, |place| place.has(&tenure));
        closed
    }

    /// Stops a partition that has lost its place, in the background and without a word to the store.
    fn part(self: &Arc<Self>, partition: u16, address: Addr<Partition>, thread: Arc<Beat>, deadline: Duration) {
        let at = usize::from(partition);
        self.places().parting.get_mut(at).into_iter().for_each(|parting| parting.push(thread.clone()));
        let arbiters = self.clone();
        actix::spawn(async move {
            // A thread that is gone took the partition with it.
            let _ = address.send(Close(Parting::Abandon, deadline)).await;
            if let Some(parting) = arbiters.places().parting.get_mut(at)
                && let Some(ended) = parting.iter().position(|on| Arc::ptr_eq(on, &thread))
            {
                parting.swap_remove(ended);
            }
        });
    }

    /// Stops everything at once: nothing begins any more, what runs may end until the deadline.
    pub(crate) fn abandon(self: &Arc<Self>, deadline: Duration) -> usize {
        self.evict(deadline, |_| true)
    }

    /// Clears up after partitions that another owner has taken over.
    pub(crate) fn dismiss_lost(self: &Arc<Self>) -> usize {
        self.evict(Duration::ZERO, |place| matches!(place, Place::Open(tenure, _) if tenure.lost()))
    }

    fn evict(self: &Arc<Self>, deadline: Duration, which: impl Fn(&Place) -> bool) -> usize {
        let count = self.places().partitions.len() as u16;
        let evicted = (0..count).filter_map(|partition| {
            let thread = self.places().beat(partition);
            let place =
                self.change(partition, Place::Vacant, |place| !matches!(place, Place::Vacant) && which(place))?;
            place.tenure()?.end();
            if let Place::Open(_, address) = place {
                self.part(partition, address, thread, deadline);
            }
            Some(partition)
        });
        evicted.count()
    }

    /// How each partition stands, by number.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        self.places().partitions.iter().map(Place::standing).collect()
    }

    /// Whether nothing of a partition is here, not even what remains of a former tenure; but what remains of one on a
    /// thread that was given up may remain for ever.
    pub(crate) fn is_free(&self, partition: u16) -> bool {
        let (places, at) = (self.places(), usize::from(partition));
        let over = |parting: &Vec<Arc<Beat>>| parting.iter().all(|thread| thread.is_given_up());
        matches!(places.partitions.get(at), Some(Place::Vacant)) && places.parting.get(at).is_some_and(over)
    }

    /// Moves a thread's partitions to a new one; the message it was running is quarantined.
    pub(crate) fn replace(self: &Arc<Self>, thread: usize, blamed: Option<Position>) {
        let fresh = Thread::start(self.shared.settings.stall);
        let (beat, moving) = {
            let mut places = self.places();
            let count = places.threads.len();
            let Some(place) = places.threads.get_mut(thread) else { return };
            let blocked = std::mem::replace(place, fresh);
            blocked.give_up();
            let mut moving = Vec::new();
            for (partition, place) in (0u16..).zip(&mut places.partitions) {
                let Some(tenure) = place.tenure().filter(|_| usize::from(partition) % count == thread) else {
                    continue;
                };
                tenure.end();
                let tenure = Arc::<Tenure>::default();
                *place = Place::Opening(tenure.clone());
                moving.push((partition, tenure));
            }
            (blocked.beat, moving)
        };
        self.shared.give_up(&beat);
        for (partition, tenure) in moving {
            let blamed = blamed.filter(|position| position.partition() == partition);
            let arbiters = self.clone();
            // The other threads are watched meanwhile.
            actix::spawn(async move { arbiters.retake(partition, tenure, blamed).await });
        }
    }

    /// Opens a partition on its new thread. Where there are other nodes, one of them may have it by
    /// now, and what failed is tried again with the next beat; alone, it is tried until it works.
    async fn retake(self: &Arc<Self>, partition: u16, mut tenure: Arc<Tenure>, blamed: Option<Position>) {
        while let Err(error) = self.take(partition, tenure, true, blamed).await {
            error!(partition, %error, "the partition could not be moved, trying again");
            if self.shared.others.is_some() || self.shared.draining() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            tenure = Arc::default();
            let vacant = |place: &Place| matches!(place, Place::Vacant);
            if self.change(partition, Place::Opening(tenure.clone()), vacant).is_none() {
                return;
            }
        }
    }

    pub(super) fn address(&self, position: Position) -> Option<Addr<Partition>> {
        match self.places().partitions.get(usize::from(position.partition()))? {
            Place::Open(_, address) => Some(address.clone()),
            _ => None,
        }
    }

    /// Whether a message's partition is open here.
    pub(crate) fn has(&self, position: Position) -> bool {
        self.address(position).is_some()
    }

    /// Which attempt of a message runs here, if any.
    pub(crate) async fn running(&self, position: Position) -> Option<u32> {
        self.address(position)?.send(Running(position)).await.ok()?
    }

    /// Cancels a message of a partition that is open here and of which no attempt has begun.
    pub(crate) async fn cancel(&self, position: Position) -> Result<bool> {
        let partition = self.address(position).ok_or_else(|| Error::new("the request's partition is not open here"))?;
        partition.send(Cancel(position)).await?
    }

    /// Cancels some of what waits in a partition that is open here.
    pub(crate) async fn sweep(&self, sweep: Sweep) -> Result<Part> {
        let address = self.address(Position::new(sweep.partition, 0));
        address.ok_or_else(|| Error::new("the partition is not open here"))?.send(sweep).await?
    }

    /// Lets all partitions go in order, telling `released` of each that is; how many had not finished
    /// in time.
    pub(crate) async fn drain(self: &Arc<Self>, deadline: Duration, released: impl Fn(u16)) -> usize {
        let end = tokio::time::Instant::now() + deadline;
        let mut unfinished = HashSet::new();
        loop {
            let moved = self.moved.notified();
            let standing: Vec<(u16, Standing)> = (0u16..).zip(self.standing()).collect();
            let (open, rest): (Vec<_>, Vec<_>) = standing.into_iter().partition(|(_, is)| *is == Standing::Open);
            let closing = open.into_iter().map(async |(partition, _)| {
                let left = end.saturating_duration_since(tokio::time::Instant::now());
                let close = self.close(partition, Parting::Release, left);
                // A blocked thread does not even hear of it.
                let closed = tokio::time::timeout(left + Duration::from_secs(1), close).await.unwrap_or(false);
                if closed {
                    released(partition)
                }
                (partition, closed)
            });
            let closed = join_all(closing).await;
            unfinished.extend(closed.iter().filter(|(_, closed)| !closed).map(|(partition, _)| *partition));
            if !closed.is_empty() {
                continue;
            }
            // Being opened or handed over: until that is done they cannot be closed.
            let moving: Vec<u16> =
                rest.iter().filter(|(_, is)| *is != Standing::Vacant).map(|(partition, _)| *partition).collect();
            if moving.is_empty() || tokio::time::timeout_at(end, moved).await.is_err() {
                unfinished.extend(moving);
                return unfinished.len();
            }
        }
    }

    /// Stops the threads.
    pub(crate) fn stop(&self) {
        for thread in &self.places().threads {
            thread.arbiter.stop();
        }
    }
}

/// Opens a partition on a thread, or on this one.
fn open_on(thread: Option<&Thread>, opening: Opening) -> oneshot::Receiver<Result<Opened>> {
    let (reply, opened) = oneshot::channel();
    // The future is made on its own thread, which it never leaves. A starter that is gone takes the
    // node with it.
    let start = move || {
        actix::spawn(async move {
            let _ = reply.send(open(opening).await);
        });
    };
    match thread {
        Some(thread) => {
            // A thread that has stopped drops the function, and with it the reply.
            thread.arbiter.spawn_fn(start);
        }
        None => start(),
    }
    opened
}
