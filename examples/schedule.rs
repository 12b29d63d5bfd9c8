//! Told by the clock: what a feature declares, and what an actor wishes for one customer.
//!
//! The shop reports every second. Its process ends, and nobody is there for a while; the next one makes up
//! for the seconds that were missed, each once and in order. A customer is reminded by a schedule of her own,
//! which outlives the process that made it and leaves nothing behind.

use std::time::Duration;

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

struct Shop {
    says: mpsc::UnboundedSender<Says>,
}

#[derive(Debug)]
enum Says {
    /// The report of a second.
    Report(i64),
    Remind(String),
}

#[derive(Serialize, Deserialize)]
enum Command {
    Report,
    /// By a customer, who wants to be reminded in so many milliseconds.
    Cart(String, i64),
    Remind(String),
}

impl Actor for Shop {
    const KIND: &'static str = "shop";
    type State = ();
    type Command = Command;
    type Reply = ();

    async fn handle(&self, _: &mut (), command: Command, cx: &Context<Self>) -> Result<()> {
        match command {
            // Which second it is for, however late it comes.
            Command::Report => self.says.send(Says::Report(cx.slot().unwrap_or_default() / 1000))?,
            Command::Cart(customer, wait) => {
                let reminder = Schedule::once(cx.now() + wait);
                cx.schedule(format!("cart/{customer}"), reminder, cx.me(), Command::Remind(customer));
            }
            Command::Remind(customer) => self.says.send(Says::Remind(customer))?,
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (says, mut heard) = mpsc::unbounded_channel();
    let app = |says| {
        let every_second = Schedule::cron("* * * * * *").missed(Missed::All { most: 100 });
        App::embedded(data.path()).feature(Feature::new(Shop { says }).schedule(
            "report",
            every_second,
            Shop::at("berlin"),
            Command::Report,
        ))
    };
    let first = app(says.clone()).run_until(|node| async move {
        node.tell(Shop::at("berlin"), Command::Cart("ann".to_owned(), 1_500)).await?;
        match heard.recv().await {
            Some(Says::Report(second)) => Ok((second, heard)),
            other => Err(Error::new(format!("first the shop reports, and not {other:?}"))),
        }
    });
    let (first, mut heard) = first?;
    println!("the shop reported, and its process has ended");
    std::thread::sleep(Duration::from_millis(2_500));
    app(says).run_until(|node| async move {
        let (mut reports, mut reminded) = (vec![first], None);
        while reports.len() < 4 || reminded.is_none() {
            match heard.recv().await {
                Some(Says::Report(second)) => reports.push(second),
                Some(Says::Remind(customer)) => reminded = Some(customer),
                None => break,
            }
        }
        let seconds: Vec<i64> = (first..first + reports.len() as i64).collect();
        assert_eq!(reports, seconds, "every second once, in order, also those that passed while nobody was there");
        println!("{} seconds were reported, each once", reports.len());
        println!("{} was reminded", reminded.unwrap_or_default());
        assert!(node.scheduled("cart/ann").await?.is_none(), "and nothing of that is left");
        Ok(())
    })
}
