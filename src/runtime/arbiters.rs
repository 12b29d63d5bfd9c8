//! The threads of a node and which partitions live on which.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Addr, Arbiter};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    partition::{Cancel, Drain, Opening, Partition, Running, open},
    shared::Shared,
    supervisor::{Beat, watch},
};
use crate::{
    envelope::Position,
    error::{Error, Result},
};

/// All partitions of a node, by number, and the threads they are on: partition `p` is on thread
/// `p % threads`.
pub(crate) struct Arbiters {
    shared: Arc<Shared>,
    places: Mutex<Places>,
}

struct Places {
    partitions: Vec<Addr<Partition>>,
    threads: Vec<Thread>,
}

struct Thread {
    arbiter: Arbiter,
    beat: Arc<Beat>,
}

impl Thread {
    fn start(stall: Duration) -> Self {
        let (arbiter, beat) = (Arbiter::new(), Arc::<Beat>::default());
        arbiter.spawn(beat.clone().keep(stall / 8));
        Self { arbiter, beat }
    }
}

impl Arbiters {
    /// Opens every partition, spread over the configured threads, and watches those.
    pub(crate) async fn start(shared: Arc<Shared>) -> Result<Arc<Self>> {
        let stall = shared.settings.stall;
        let threads: Vec<Thread> = (0..shared.settings.arbiters).map(|_| Thread::start(stall)).collect();
        let opening = (0..shared.backend.partitions()).map(|partition| {
            let thread = threads.get(usize::from(partition) % threads.len().max(1));
            let beat = thread.map(|thread| thread.beat.clone()).unwrap_or_default();
            open_on(thread, Opening { shared: shared.clone(), partition, beat, blamed: None })
        });
        let opened = join_all(opening.collect::<Vec<_>>()).await;
        let partitions = opened.into_iter().map(|opened| opened?).collect::<Result<_>>()?;
        let watched = !threads.is_empty();
        let arbiters = Arc::new(Self { shared, places: Mutex::new(Places { partitions, threads }) });
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

    /// Moves a thread's partitions to a new one; the message it was running is quarantined.
    pub(crate) async fn replace(&self, thread: usize, blamed: Option<Position>) -> Result<()> {
        let fresh = Thread::start(self.shared.settings.stall);
        let (count, partitions) = {
            let places = self.places();
            (places.threads.len(), places.partitions.len())
        };
        for partition in (0..partitions).filter(|partition| partition % count == thread) {
            let blamed = blamed.filter(|position| usize::from(position.partition()) == partition);
            let opening =
                Opening { shared: self.shared.clone(), partition: partition as u16, beat: fresh.beat.clone(), blamed };
            let opened = open_on(Some(&fresh), opening).await??;
            self.places().partitions[partition] = opened;
        }
        let old = std::mem::replace(&mut self.places().threads[thread], fresh);
        // It ends when whatever blocks it returns.
        old.arbiter.stop();
        Ok(())
    }

    fn partition(&self, position: Position) -> Option<Addr<Partition>> {
        self.places().partitions.get(usize::from(position.partition())).cloned()
    }

    /// Which attempt of a message runs, if any.
    pub(crate) async fn running(&self, position: Position) -> Option<u32> {
        self.partition(position)?.send(Running(position)).await.ok()?
    }

    /// Cancels a message that no attempt has begun of.
    pub(crate) async fn cancel(&self, position: Position) -> Result<bool> {
        let partition = self.partition(position).ok_or_else(|| Error::terminal("no such partition"))?;
        partition.send(Cancel(position)).await?
    }

    /// Drains all partitions; how many had not finished in time.
    pub(crate) async fn drain(&self, deadline: Duration) -> usize {
        let partitions = self.places().partitions.clone();
        let drained = join_all(partitions.iter().map(|partition| partition.send(Drain(deadline)))).await;
        for thread in &self.places().threads {
            thread.arbiter.stop();
        }
        drained.into_iter().filter(|drained| !matches!(drained, Ok(true))).count()
    }
}

/// Opens a partition on a thread, or on this one.
fn open_on(thread: Option<&Thread>, opening: Opening) -> oneshot::Receiver<Result<Addr<Partition>>> {
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
