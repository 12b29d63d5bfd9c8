//! Two actors that only tell each other things: nobody waits, nothing is lost in between.
//!
//! A `tell` leaves together with the sender's state, in one commit: there is no moment in which
//! the till is full and the ledger does not know.

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

struct Till;

impl Actor for Till {
    const KIND: &'static str = "till";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, cash: &mut u64, amount: u64, cx: &Context<Self>) -> Result<u64> {
        *cash += amount;
        cx.tell(Ledger::at("shop"), Entry { till: cx.key().to_owned(), amount });
        Ok(*cash)
    }
}

struct Ledger {
    seen: mpsc::UnboundedSender<u64>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    till: String,
    amount: u64,
}

impl Actor for Ledger {
    const KIND: &'static str = "ledger";
    type State = Vec<(String, u64)>;
    type Command = Entry;
    type Reply = ();

    async fn handle(&self, book: &mut Self::State, entry: Entry, _: &Context<Self>) -> Result<()> {
        book.push((entry.till, entry.amount));
        // Only this example looks in from outside; actors never need to.
        self.seen.send(book.iter().map(|(_, amount)| amount).sum())?;
        Ok(())
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (seen, mut sums) = mpsc::unbounded_channel();
    App::embedded(data.path()).feature(Feature::new(Till).actor(Ledger { seen })).run_until(|node| async move {
        for amount in 1..=4 {
            node.tell(Till::at(if amount % 2 == 0 { "left" } else { "right" }), amount).await?;
        }
        while let Some(sum) = sums.recv().await {
            println!("the ledger says {sum}");
            if sum == 10 {
                break;
            }
        }
        assert_eq!(node.ask(Till::at("left"), 0).await?, 6);
        Ok(())
    })
}
