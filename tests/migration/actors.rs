//! The actors whose messages and states are in the stores.

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};

/// Appends its number to its state, and answers how many there are.
pub(crate) struct Tally;

impl Actor for Tally {
    const KIND: &'static str = "tally";
    type State = Vec<u32>;
    type Command = u32;
    type Reply = usize;

    async fn handle(&self, seen: &mut Vec<u32>, number: u32, _: &Context<Self>) -> Result<usize> {
        seen.push(number);
        Ok(seen.len())
    }
}

/// Has no state.
pub(crate) struct Bell;

impl Actor for Bell {
    const KIND: &'static str = "bell";
    type State = ();
    type Command = u32;
    type Reply = u32;

    async fn handle(&self, (): &mut (), number: u32, _: &Context<Self>) -> Result<u32> {
        Ok(number)
    }
}

/// Waits, asks and takes steps.
pub(crate) struct Flow;

#[derive(Serialize, Deserialize)]
pub(crate) enum Do {
    /// Takes a step, waits for the signal `go`, and writes down what came.
    Signal,
    /// Asks another flow for that, and writes down what it answers.
    Through(String),
    /// Takes so many steps.
    Steps(u64),
    /// Writes a number down.
    Write(u64),
}

impl Actor for Flow {
    const KIND: &'static str = "flow";
    type State = Vec<u64>;
    type Command = Do;
    type Reply = u64;

    async fn handle(&self, written: &mut Vec<u64>, command: Do, cx: &Context<Self>) -> Result<u64> {
        let step = |number: u64| cx.run("step", move |_| async move { Ok::<_, Error>(number) });
        let value = match command {
            Do::Signal => {
                let step = step(7).await?;
                cx.signal::<u64>("go").await? + step
            }
            Do::Through(other) => cx.ask(Flow::at(other), Do::Signal).await?,
            Do::Steps(count) => {
                let mut sum = 0;
                for number in 0..count {
                    sum += step(number).await?;
                }
                sum
            }
            Do::Write(number) => number,
        };
        written.push(value);
        Ok(value)
    }
}

/// All of them.
pub(crate) fn features() -> Vec<Feature> {
    vec![Feature::new(Tally), Feature::new(Bell), Feature::new(Flow)]
}

/// Their kinds, and whether they have state.
pub(crate) const KINDS: [(&str, bool); 3] = [("tally", true), ("bell", false), ("flow", true)];
