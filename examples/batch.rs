//! Fan out, and go on when all is done: a file of rows is imported, each row by an actor of its own, and the
//! importer is told once, with exact counts, also of those that failed.

use greenroom::{BatchDone, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

struct Importer {
    says: mpsc::UnboundedSender<BatchDone>,
}

#[derive(Serialize, Deserialize)]
enum Command {
    File(Vec<i64>),
    Done(BatchDone),
}

impl Actor for Importer {
    const KIND: &'static str = "importer";
    type State = ();
    type Command = Command;
    type Reply = ();

    async fn handle(&self, _: &mut (), command: Command, cx: &Context<Self>) -> Result<()> {
        match command {
            Command::File(rows) => {
                let batch = cx.batch("rows").then(cx.me(), Command::Done);
                for (n, amount) in rows.into_iter().enumerate() {
                    batch.add(Row::at(format!("{n}")), amount);
                }
            }
            Command::Done(done) => self.says.send(done)?,
        }
        Ok(())
    }
}

struct Row;

impl Actor for Row {
    const KIND: &'static str = "row";
    type State = i64;
    type Command = i64;
    type Reply = ();

    async fn handle(&self, amount: &mut i64, new: i64, _: &Context<Self>) -> Result<()> {
        if new < 0 {
            return Err(Error::terminal(format!("{new} is less than nothing")).code("negative"));
        }
        *amount = new;
        Ok(())
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (says, mut heard) = mpsc::unbounded_channel();
    let feature = Feature::new(Importer { says }).actor(Row);
    App::embedded(data.path()).feature(feature).run_until(|node| async move {
        let rows = (0..2_000).map(|n| if n % 1_000 == 500 { -n } else { n }).collect();
        node.tell(Importer::at("monday"), Command::File(rows)).await?;
        let done = heard.recv().await.ok_or_else(|| Error::new("nobody was told"))?;
        println!("{} rows: {} imported, {} failed", done.total, done.ends.completed, done.ends.failed);
        for failed in done.failures {
            println!("  {}: {}", failed.to, failed.message);
        }
        Ok(())
    })
}
