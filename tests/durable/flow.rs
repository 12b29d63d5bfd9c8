//! The actors of these tests: a flow whose commands do one durable thing each or several, and a desk
//! that answers.

use std::time::Duration;

use greenroom::{prelude::*, testing::Vendor};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default)]
pub(crate) struct Flow {
    pub(crate) vendor: Vendor,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Do {
    /// These steps, one after the other.
    Steps(Vec<String>),
    /// So many steps, three at a time.
    Many(u32),
    /// Asks a desk for the double.
    Ask(String, u64),
    /// Asks a flow that will not answer, for so many seconds, then takes a step.
    Hurry(String, u64),
    /// Asks another flow to do something.
    Through(String, Box<Do>),
    /// Sleeps so many seconds, between two steps.
    Sleep(u64),
    /// Waits for a signal, at most so many seconds, then a step.
    Signal(Option<u64>),
    /// Which comes first: a signal, or so many seconds.
    Race(u64),
    /// Time, random number and id, before and after a sleep.
    Values,
    /// Steps that are undone when the last thing fails with this.
    Saga(Vec<String>, Fails),
    /// Fails, and asks another flow, which takes so many seconds, to undo what it did.
    SlowUndo(String, u64),
    /// Sleeps for a moment, and writes a second after that.
    Tick,
    /// So many rounds, each a command.
    Loop(u32),
    /// Nothing but its number, so that order can be seen.
    Write(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fails {
    Terminal,
    Never,
    Asking(String),
    /// Asks another flow for something that does not end by itself.
    Through(String),
    /// Waits until it is cancelled.
    Waits,
}

impl Actor for Flow {
    const KIND: &'static str = "flow";
    type State = Vec<u64>;
    type Command = Do;
    type Reply = u64;

    fn retry(&self) -> Retry {
        Retry::times(3).backoff(Duration::from_millis(100), Duration::from_secs(1))
    }

    async fn handle(&self, written: &mut Vec<u64>, command: Do, cx: &Context<Self>) -> Result<u64> {
        let step = |name: &str| {
            let name = name.to_owned();
            let vendor = self.vendor.clone();
            cx.run(&name.clone(), move |key| {
                let (vendor, name) = (vendor.clone(), name.clone());
                async move { vendor.call(&name, &key).await }
            })
        };
        match command {
            Do::Steps(names) => {
                let mut sum = 0;
                for name in names {
                    sum += step(&name).await?;
                    written.push(sum);
                }
                Ok(sum)
            }
            Do::Many(count) => {
                let receipts = cx.all(3, (0..count).map(|_| step("many"))).await?;
                written.push(receipts.len() as u64);
                Ok(receipts.len() as u64)
            }
            Do::Ask(desk, number) => {
                let double = cx.ask(Desk::at(desk), Question::Double(number)).await?;
                written.push(double);
                Ok(double)
            }
            Do::Hurry(other, seconds) => {
                let asked = cx.ask(Flow::at(other), Do::Signal(None));
                match asked.within(Duration::from_secs(seconds)).await {
                    Err(error) if error.has_code("deadline") => step("went on").await,
                    answer => answer,
                }
            }
            Do::Through(other, what) => cx.ask(Flow::at(other), *what).await,
            Do::Sleep(seconds) => {
                let before = step("before").await?;
                cx.sleep(Duration::from_secs(seconds)).await?;
                written.push(before);
                step("after").await
            }
            Do::Signal(seconds) => {
                let signal = cx.signal::<u64>("go");
                let value = match seconds {
                    Some(seconds) => signal.within(Duration::from_secs(seconds)).await?,
                    None => signal.await?,
                };
                written.push(value);
                step("after").await?;
                Ok(value)
            }
            Do::Race(seconds) => {
                tokio::select! {
                    biased;
                    value = cx.signal::<u64>("go") => { step("signalled").await?; value }
                    slept = cx.sleep(Duration::from_secs(seconds)) => { slept?; step("slept").await?; Ok(0) }
                }
            }
            Do::Values => {
                let before = (cx.now(), cx.random(), cx.uuid());
                step("first").await?;
                cx.sleep(Duration::from_secs(60)).await?;
                step("second").await?;
                // A state has no numbers above i64::MAX.
                written.extend([before.0 as u64, before.1 >> 1, before.2.as_u128() as u64 >> 1, cx.now() as u64]);
                Ok(0)
            }
            Do::Saga(names, fails) => {
                for name in names {
                    let receipt = step(&name).await?;
                    cx.undo(&name.clone(), async move |flow: &Flow, cx: &Context<Flow>| {
                        let name = format!("undo {name} {receipt}");
                        let undone = cx.run(&name, |key| {
                            let (vendor, name) = (flow.vendor.clone(), name.clone());
                            async move { vendor.call(&name, &key).await }
                        });
                        undone.retry(Retry::times(2)).await?;
                        cx.tell(Desk::at("told"), Question::Note(receipt));
                        Ok(())
                    });
                }
                match fails {
                    Fails::Terminal => Err(Error::terminal("no").code("declined")),
                    Fails::Never => Ok(1),
                    Fails::Asking(desk) => cx.ask(Desk::at(desk), Question::Refuse).await,
                    Fails::Through(flow) => cx.ask(Flow::at(flow), Do::Saga(vec!["there".into()], Fails::Waits)).await,
                    Fails::Waits => cx.signal("never").await,
                }
            }
            Do::SlowUndo(other, seconds) => {
                cx.undo("slow", async move |_: &Flow, cx: &Context<Flow>| {
                    cx.ask(Flow::at(other), Do::Sleep(seconds)).await.map(drop)
                });
                Err(Error::terminal("no").code("declined"))
            }
            Do::Tick => {
                cx.sleep(Duration::from_millis(20)).await?;
                cx.tell(cx.me(), Do::Write(1)).after(Duration::from_secs(1));
                Ok(0)
            }
            Do::Loop(rounds) => {
                step("round").await?;
                written.push(u64::from(rounds));
                if rounds > 1 {
                    return cx.again(Do::Loop(rounds - 1));
                }
                Ok(99)
            }
            Do::Write(number) => {
                written.push(number);
                Ok(number)
            }
        }
    }
}

/// Answers, or does not.
pub(crate) struct Desk;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    Double(u64),
    Refuse,
    /// Fails until it is given up.
    Broken,
    Note(u64),
}

impl Actor for Desk {
    const KIND: &'static str = "desk";
    type State = Vec<u64>;
    type Command = Question;
    type Reply = u64;

    fn retry(&self) -> Retry {
        Retry::times(2).backoff(Duration::from_millis(100), Duration::from_secs(1))
    }

    async fn handle(&self, asked: &mut Vec<u64>, question: Question, _: &Context<Self>) -> Result<u64> {
        match question {
            Question::Double(number) => {
                asked.push(number);
                Ok(number * 2)
            }
            Question::Refuse => Err(Error::terminal("not today").code("refused")),
            Question::Broken => Err(Error::new("out of order")),
            Question::Note(number) => {
                asked.push(number);
                Ok(0)
            }
        }
    }
}

/// What these tests run, with one vendor.
pub(crate) fn features(vendor: &Vendor) -> impl Fn() -> Vec<Feature> + 'static {
    let vendor = vendor.clone();
    move || vec![Feature::new(Flow { vendor: vendor.clone() }).actor(Desk)]
}

/// Steps of these names.
pub(crate) fn steps(names: &[&str]) -> Do {
    Do::Steps(names.iter().map(|name| (*name).to_owned()).collect())
}
