//! Locks: one holder at a time, in order, with tokens that rise; let go however a command ends; lost in
//! time by whoever is not heard of.

mod commands;
mod guards;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenroom::{
    Guard, RequestId,
    backend::Fence,
    prelude::*,
    runtime::{
        node::Node,
        view::{State, View},
    },
    testing::{Point, Which, World},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// What happened under the lock, who is inside now, and whether another build runs.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<Inside>>, Arc<AtomicBool>);

#[derive(Default)]
struct Inside {
    who: Option<String>,
    tokens: Vec<u64>,
    order: Vec<String>,
}

impl Room {
    /// Somebody comes in. Entering twice is what a step does whose record a crash has prevented.
    fn enter(&self, who: &str, token: u64) {
        let mut inside = self.0.lock().unwrap();
        if inside.who.as_deref() == Some(who) {
            return;
        }
        assert_eq!(inside.who, None, "{who} comes in");
        assert!(inside.tokens.last().is_none_or(|last| *last < token), "{token} after {:?}", inside.tokens);
        inside.who = Some(who.to_owned());
        inside.tokens.push(token);
        inside.order.push(who.to_owned());
    }

    fn leave(&self, who: &str) {
        self.0.lock().unwrap().who.take_if(|inside| inside == who);
    }

    fn order(&self) -> Vec<String> {
        self.0.lock().unwrap().order.clone()
    }
}

/// Takes a lock, waits for the signal `go`, and ends.
struct Holder(Room);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
enum How {
    Completes,
    Fails,
    Dies,
    Hangs,
    /// Lets go, and waits for the signal `end`.
    Releases,
    /// Goes on as another command.
    Again,
    /// Does something else when it is run again.
    Changes,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Do {
    Hold(How),
    /// The same, beside others of its key.
    Share(How),
    /// Waits no longer than so many seconds.
    Within(u64),
    /// Takes the first, and then the second, waiting so long.
    Both(String, String, Option<u64>),
    /// Takes it, and asks the key to take it too.
    AskUnder(String),
    /// Asks another to do it.
    Ask(String, Box<Do>),
    /// Takes it and waits for the signal `go`.
    Stay,
    Nothing,
}

impl Holder {
    async fn hold(&self, how: How, cx: &Context<Self>) -> Result<u64> {
        let lock = cx.lock("hot").await?;
        let (who, token) = (cx.key(), lock.token());
        let entering = |_| {
            self.0.enter(who, token);
            async { Ok(()) }
        };
        cx.run("enter", entering).await?;
        if how == How::Changes && self.0.1.load(Ordering::SeqCst) {
            self.0.leave(who);
            cx.run("what is new", |_| async { Ok(()) }).await?;
        }
        if let Err(cancelled) = cx.signal::<()>("go").await {
            // A cancelled command runs no more steps.
            self.0.leave(who);
            return Err(cancelled);
        }
        lock.check().await?;
        let leaving = |_| {
            self.0.leave(who);
            async { Ok(()) }
        };
        cx.run("leave", leaving).await?;
        match how {
            How::Completes | How::Changes => {}
            How::Fails => return Err(Error::terminal("no").code("no")),
            How::Dies => return Err(Error::new("never")),
            How::Hangs => std::future::pending().await,
            How::Releases => {
                lock.release().await?;
                cx.signal::<()>("end").await?;
            }
            How::Again => return cx.again(Do::Nothing),
        }
        Ok(token)
    }
}

impl Actor for Holder {
    const KIND: &'static str = "holder";
    type State = u64;
    type Command = Do;
    type Reply = u64;

    fn retry(&self) -> Retry {
        Retry::times(1)
    }

    /// Less than what a lock waits before it looks itself whether its holder has ended.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn waits(command: &Do) -> Waits {
        if matches!(command, Do::Share(_)) { Waits::Shared } else { Waits::Alone }
    }

    async fn handle(&self, _: &mut u64, command: Do, cx: &Context<Self>) -> Result<u64> {
        match command {
            Do::Hold(how) | Do::Share(how) => self.hold(how, cx).await,
            Do::Within(seconds) => {
                let waited = cx.lock("hot").within(Duration::from_secs(seconds)).await;
                match waited {
                    Ok(lock) => Ok(lock.token()),
                    Err(error) => {
                        // What follows shows that it holds nothing.
                        cx.signal::<()>("end").await?;
                        Err(error)
                    }
                }
            }
            Do::Both(first, second, within) => {
                let _first = cx.lock(&first).await?;
                cx.signal::<()>("go").await?;
                let second = cx.lock(&second);
                let second = match within {
                    Some(seconds) => second.within(Duration::from_secs(seconds)).await?,
                    None => second.await?,
                };
                Ok(second.token())
            }
            Do::AskUnder(other) => {
                let _lock = cx.lock("hot").await?;
                cx.ask(Holder::at(other), Do::Hold(How::Completes)).await
            }
            Do::Ask(other, what) => cx.ask(Holder::at(other), *what).await,
            Do::Stay => {
                let lock = cx.lock("hot").await?;
                cx.signal::<()>("go").await.map(|()| lock.token())
            }
            Do::Nothing => Ok(0),
        }
    }
}

/// Writes down which tokens it was told, in order.
struct Log;

impl Actor for Log {
    const KIND: &'static str = "log";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = ();

    async fn handle(&self, seen: &mut Vec<u64>, token: u64, _: &Context<Self>) -> Result<()> {
        seen.push(token);
        Ok(())
    }
}

fn world(room: &Room) -> World {
    let room = room.clone();
    World::new(move || vec![Feature::new(Holder(room.clone())), Feature::new(Log)])
}

async fn tell(world: &mut World, key: &str, command: Do) -> RequestId {
    let told = world.tell(Holder::at(key), command).await.unwrap();
    world.settle().await;
    told
}

fn code(view: &View) -> &str {
    view.error.as_ref().map_or("", |failure| &failure.code)
}

async fn is_free(node: &Node) -> bool {
    match node.try_lock("hot").await.unwrap() {
        Some(guard) => guard.release().await.map(|()| true).unwrap(),
        None => false,
    }
}
