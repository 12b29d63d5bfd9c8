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
}

impl Actor for Kettle {
    const KIND: &'static str = "kettle";
    type State = u32;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, boiled: &mut u32, command: Command, cx: &Context<Self>) -> Result<()> {
        match command {
            Command::On => cx.tell(cx.me(), Command::Boiled { since: cx.now() }).after(WAIT),
            Command::Boiled { since } => {
                *boiled += 1;
                self.whistle.send(cx.now() - since)?;
            }
        }
        Ok(())
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
        assert_eq!(node.state::<Kettle>("kitchen").await?, Some(1), "once");
        Ok(())
    })
}
