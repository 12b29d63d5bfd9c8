//! The actors of these tests: one that notes when it did what, under limits.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use greenroom::{clock::Clock, prelude::*, testing::World};
use serde::{Deserialize, Serialize};

/// What happened when, by the clock of the world.
#[derive(Clone, Default)]
pub(crate) struct Diary {
    clock: Arc<OnceLock<Clock>>,
    noted: Arc<Mutex<Vec<(i64, String)>>>,
}

impl Diary {
    /// Tells the time as this world does.
    pub(crate) fn by(&self, world: &World) -> i64 {
        // Every life of the process has the same clock.
        let _ = self.clock.set(world.node().clock().clone());
        world.now()
    }

    fn clock(&self) -> Clock {
        self.clock.get().expect("Diary::by comes first").clone()
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        let now = self.clock().now();
        self.noted.lock().unwrap().push((now, what.into()));
    }

    pub(crate) async fn pass(&self, ms: u64) {
        self.clock().sleep(Duration::from_millis(ms)).await;
    }

    pub(crate) fn all(&self) -> Vec<(i64, String)> {
        self.noted.lock().unwrap().clone()
    }

    /// What happened, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.all().into_iter().map(|(_, what)| what).collect()
    }

    /// When each thing happened, in milliseconds after `begin`.
    pub(crate) fn times(&self, begin: i64) -> Vec<i64> {
        self.all().into_iter().map(|(now, _)| now - begin).collect()
    }
}

/// Does things under limits, and notes each in the diary.
pub(crate) struct Worker {
    pub(crate) diary: Diary,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Do {
    /// Takes tokens, then a step.
    Take(String, u64),
    /// Takes tokens if they are there within so many milliseconds.
    TakeWithin(String, u64),
    /// A step that takes a token before each call, and fails so many times.
    Step(String, u32),
    /// A step that holds a permit for so many milliseconds.
    Hold(String, u64),
    /// Nothing but the state.
    Write(u64),
    /// A step that takes so long, in milliseconds.
    Busy(u64),
    /// Fails the first time.
    Flaky(u64),
}

impl Actor for Worker {
    const KIND: &'static str = "worker";
    type State = Vec<u64>;
    type Command = Do;
    type Reply = ();

    async fn handle(&self, done: &mut Vec<u64>, command: Do, cx: &Context<Self>) -> Result<()> {
        let (key, diary) = (cx.key().to_owned(), &self.diary);
        match command {
            Do::Take(limit, cost) => {
                cx.limit(&limit, cost).await?;
                let key = &key;
                cx.run("use", |_| async move {
                    diary.note(key);
                    Ok(())
                })
                .await?;
            }
            Do::TakeWithin(limit, within) => {
                cx.limit(&limit, 1).within(Duration::from_millis(within)).await?;
                diary.note(key);
            }
            Do::Step(limit, fails) => {
                cx.run("call", |id: Key| {
                    let (diary, key) = (diary.clone(), key.clone());
                    async move {
                        diary.note(format!("{key} {}", id.attempt()));
                        if id.attempt() <= fails { Err(Error::new("not yet")) } else { Ok(()) }
                    }
                })
                .limit(&limit, 1)
                .retry(Retry::times(8).backoff(Duration::from_millis(1), Duration::from_millis(1)))
                .await?;
            }
            Do::Hold(limit, time) => {
                cx.run("hold", |_| {
                    let (diary, key) = (diary.clone(), key.clone());
                    async move {
                        diary.note(format!("{key} in"));
                        diary.pass(time).await;
                        diary.note(format!("{key} out"));
                        Ok(())
                    }
                })
                .permit(&limit)
                .await?;
            }
            Do::Write(n) => {
                diary.note(format!("{key} {n}"));
                done.push(n);
            }
            Do::Busy(time) => {
                diary.note(format!("{key} in"));
                cx.run("busy", |_| async {
                    diary.pass(time).await;
                    Ok(())
                })
                .await?;
                diary.note(format!("{key} out"));
            }
            Do::Flaky(n) => {
                diary.note(format!("{key} {n} attempt {}", cx.attempt()));
                if cx.attempt() == 1 {
                    return Err(Error::new("not yet"));
                }
                done.push(n);
            }
        }
        Ok(())
    }

    fn retry(&self) -> Retry {
        Retry::times(5).backoff(Duration::from_millis(100), Duration::from_millis(100))
    }
}
