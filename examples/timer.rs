//! A durable timer: a message with a time. It outlives the process that set it.
//!
//! The first life of the program sets the timer and ends before it is due; the second one gets
//! it, never early and only once.

use std::time::Duration;

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const WAIT: Duration = Duration::from_millis(300);

struct Kettle {
    whistle: mpsc::UnboundedSender<i64>,
}

#[derive(Serialize, Deserialize)]
enum Command {
    On,
    Boiled { since: i64 },
    HowOften,
}

impl Actor for Kettle {
    const KIND: &'static str = "kettle";
    type State = u32;
    type Command = Command;
    type Reply = u32;

    async fn handle(&self, boiled: &mut u32, command: Command, cx: &Context<Self>) -> Result<u32> {
        match command {
            Command::On => {
                cx.tell(cx.me(), Command::Boiled { since: cx.now() }).after(WAIT);
            }
            Command::Boiled { since } => {
                *boiled += 1;
                // Only this example looks in from outside; and a whistle may sound twice, when the
                // process dies between it and the commit.
                self.whistle.send(cx.now() - since)?;
            }
            Command::HowOften => {}
        }
        Ok(*boiled)
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (whistle, mut heard) = mpsc::unbounded_channel();
    let app = |whistle| App::embedded(data.path()).feature(Feature::new(Kettle { whistle }));
    app(whistle.clone()).run_until(|node| async move { node.ask(Kettle::at("kitchen"), Command::On).await })?;
    println!("the kettle is on, and the process has ended");
    app(whistle).run_until(|node| async move {
        let after = heard.recv().await.ok_or_else(|| Error::new("the kettle is gone"))?;
        println!("it boiled after {after} ms");
        assert!(after >= WAIT.as_millis() as i64, "never early");
        assert_eq!(node.ask(Kettle::at("kitchen"), Command::HowOften).await?, 1, "once");
        Ok(())
    })
}
