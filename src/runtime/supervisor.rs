//! Watching the threads: one that no longer answers is blocked by a handler that never awaits. Its
//! partitions are taken over by a new thread under new epochs, which is what keeps the old one from
//! committing anything (G4), and the message it was running is quarantined (G6).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix::Arbiter;
use tracing::error;

use super::arbiters::Arbiters;
use crate::envelope::Position;

/// A thread's sign of life, and what it is running.
pub(crate) struct Beat {
    born: Instant,
    at: AtomicU64,
    /// The packed position of the message whose handler is being polled; -1 when none is.
    running: AtomicI64,
    given_up: AtomicBool,
}

impl Default for Beat {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            at: AtomicU64::new(0),
            running: AtomicI64::new(-1),
            given_up: AtomicBool::new(false),
        }
    }
}

impl Beat {
    /// Gives a sign of life for ever; runs on the thread itself.
    pub(crate) async fn keep(self: Arc<Self>, every: Duration) {
        loop {
            self.at.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
            tokio::time::sleep(every).await;
        }
    }

    /// How long the thread has given no sign of life.
    fn silent(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.at.load(Ordering::Relaxed)))
    }

    /// The thread is blocked, and another one does its work: what it holds is never given back.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The message being handled.
    fn blamed(&self) -> Option<Position> {
        let running = self.running.load(Ordering::Relaxed);
        (running >= 0).then(|| Position::from_packed(running))
    }
}

/// A handler that says which message it is while it is being polled.
pub(crate) struct Blame<F> {
    beat: Arc<Beat>,
    position: i64,
    handler: Pin<Box<F>>,
}

impl<F: Future> Blame<F> {
    pub(crate) fn new(beat: &Arc<Beat>, position: Position, handler: F) -> Self {
        Self { beat: beat.clone(), position: position.packed(), handler: Box::pin(handler) }
    }
}

impl<F: Future> Future for Blame<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.beat.running.store(self.position, Ordering::Relaxed);
        let polled = self.handler.as_mut().poll(cx);
        self.beat.running.store(-1, Ordering::Relaxed);
        polled
    }
}

/// A thread that runs partitions.
pub(crate) struct Thread {
    pub(super) arbiter: Arbiter,
    pub(super) beat: Arc<Beat>,
}

impl Thread {
    pub(super) fn start(stall: Duration) -> Self {
        let (arbiter, beat) = (Arbiter::new(), Arc::<Beat>::default());
        arbiter.spawn(beat.clone().keep(stall / 8));
        Self { arbiter, beat }
    }

    /// Lets the others go on without it. It ends when whatever blocks it returns.
    pub(super) fn give_up(&self) {
        self.beat.give_up();
        self.arbiter.stop();
    }
}

/// Watches all threads of a node for ever.
pub(crate) async fn watch(arbiters: Arc<Arbiters>) {
    let stall = arbiters.shared().settings.stall;
    loop {
        tokio::time::sleep(stall / 8).await;
        if arbiters.shared().draining() {
            return;
        }
        for (thread, beat) in arbiters.beats().into_iter().enumerate() {
            let silent = beat.silent();
            if silent < stall {
                continue;
            }
            let blamed = beat.blamed();
            error!(
                thread,
                silent_ms = silent.as_millis() as u64,
                position = blamed.map(|position| position.to_string()),
                "a thread is blocked, its partitions move to a new one"
            );
            arbiters.replace(thread, blamed);
        }
    }
}
