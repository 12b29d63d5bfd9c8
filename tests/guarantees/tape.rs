//! An actor that remembers everything it was told, for tests that ask what happened and in which
//! order. `Flaky` fails its first attempts after it has changed everything, `Pass` tells others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// Remember a number.
    Write(u64),
    /// Remember it, but fail so many attempts first.
    Flaky(u64, u32),
    /// Remember it and tell others to.
    Pass(u64, Vec<String>),
    /// Remember it later.
    Later(u64, u64),
    /// A terminal error, after having changed the state and told others.
    Refuse(u64),
    /// Panic, after the same.
    Panic(u64),
    /// Never come back.
    Hang,
    /// Remember it after having waited so many milliseconds.
    Slow(u64, u64),
}

/// Key, number, attempt, time.
type Attempt = (String, u64, u32, i64);

/// What happened outside of the store: every attempt that began, in order.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    pub(crate) attempts: Arc<Mutex<Vec<Attempt>>>,
    pub(crate) vendor: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

#[derive(Clone, Default)]
pub(crate) struct Tape {
    pub(crate) witness: Witness,
    pub(crate) clock: Option<greenroom::clock::Clock>,
}

impl Actor for Tape {
    const KIND: &'static str = "tape";
    type State = Vec<u64>;
    type Command = Tell;
    type Reply = usize;

    fn retry(&self) -> Retry {
        Retry::times(4).backoff(Duration::from_secs(10), Duration::from_secs(60))
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn handle(&self, tape: &mut Vec<u64>, tell: Tell, cx: &Context<Self>) -> Result<usize> {
        let number = match &tell {
            Tell::Write(n) | Tell::Flaky(n, _) | Tell::Pass(n, _) | Tell::Later(n, _) => *n,
            Tell::Refuse(n) | Tell::Panic(n) | Tell::Slow(n, _) => *n,
            Tell::Hang => 0,
        };
        self.witness.attempts.lock().unwrap().push((cx.key().to_owned(), number, cx.attempt(), cx.now()));
        let key = cx.idempotency_key();
        self.witness.vendor.lock().unwrap().entry(format!("{}/{number}", cx.key())).or_default().push(key);
        tape.push(number);
        match tell {
            Tell::Write(_) => {}
            Tell::Flaky(_, fails) if cx.attempt() <= fails => {
                cx.tell(Tape::at("leak"), Tell::Write(number));
                return Err(Error::from(std::io::Error::other("connection reset")).context("calling the vendor"));
            }
            Tell::Flaky(..) => {}
            Tell::Pass(n, to) => {
                for to in to {
                    cx.tell(Tape::at(to), Tell::Write(n));
                }
            }
            Tell::Later(n, seconds) => {
                tape.pop();
                cx.tell(cx.me(), Tell::Write(n)).after(Duration::from_secs(seconds));
            }
            Tell::Refuse(n) => {
                cx.tell(Tape::at("leak"), Tell::Write(n));
                return Err(Error::terminal("never").code("refused"));
            }
            Tell::Panic(n) => {
                cx.tell(Tape::at("leak"), Tell::Write(n));
                panic!("told to panic");
            }
            Tell::Hang => std::future::pending().await,
            Tell::Slow(_, wait) => {
                if let Some(clock) = &self.clock {
                    clock.sleep(Duration::from_millis(wait)).await;
                }
            }
        }
        Ok(tape.len())
    }
}
