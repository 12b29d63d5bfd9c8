//! Many commands at once: in one call against one by one, and counted as a batch against not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use greenroom::{Actor, BatchDone, Context, Feature, Node, Result};
use serde::{Deserialize, Serialize};

use super::{Open, start};

const MANY: u64 = 20_000;
/// Members of a batch.
const ROWS: u64 = 10_000;

#[derive(Clone, Default)]
struct Row {
    done: Arc<AtomicU64>,
}

impl Actor for Row {
    const KIND: &'static str = "row";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), _: u64, _: &Context<Self>) -> Result<()> {
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Do {
    Tell,
    Batch,
    Done(BatchDone),
}

struct Import(Arc<AtomicU64>);

impl Actor for Import {
    const KIND: &'static str = "import";
    type State = ();
    type Command = Do;
    type Reply = ();

    async fn handle(&self, _: &mut (), what: Do, cx: &Context<Self>) -> Result<()> {
        match what {
            Do::Tell => {
                for n in 0..ROWS {
                    cx.tell(Row::at(format!("{}", n % 1_000)), n);
                }
            }
            Do::Batch => {
                let batch = cx.batch("rows").then(cx.me(), Do::Done);
                for n in 0..ROWS {
                    batch.add(Row::at(format!("{}", n % 1_000)), n);
                }
            }
            Do::Done(done) => {
                self.0.fetch_add(done.total as u64, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

async fn until(count: &AtomicU64, is: u64) {
    while count.load(Ordering::SeqCst) < is {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    count.store(0, Ordering::SeqCst);
}

/// The same commands in one call, all by themselves at once, and one after the other; commands accepted a second.
pub(crate) async fn bulk(store: &str, open: Open<'_>) {
    let row = Row::default();
    let node = start(open("bulk"), vec![Feature::new(row.clone())]).await;
    for round in 1..=3 {
        let at = |n: u64| Row::at(format!("{}", n % 1_000));
        let begun = Instant::now();
        for told in node.tell_all((0..MANY).map(|n| (at(n), n))).await.unwrap() {
            told.unwrap();
        }
        let together = MANY as f64 / begun.elapsed().as_secs_f64();
        until(&row.done, MANY).await;
        let begun = Instant::now();
        for told in join_all((0..MANY).map(|n| node.tell(at(n), n))).await {
            told.unwrap();
        }
        let at_once = MANY as f64 / begun.elapsed().as_secs_f64();
        until(&row.done, MANY).await;
        let (begun, few) = (Instant::now(), MANY / 20);
        for n in 0..few {
            node.tell(at(n), n).await.unwrap();
        }
        let one_by_one = few as f64 / begun.elapsed().as_secs_f64();
        until(&row.done, few).await;
        println!(
            "bulk {round} on {store}: one call {together:.0}/s; each by itself, all at once {at_once:.0}/s ({:.1} times); one after the other {one_by_one:.0}/s ({:.0} times)",
            together / at_once,
            together / one_by_one
        );
    }
    node.drain(Duration::from_secs(10)).await;
}

async fn import(node: &Node, what: Do, count: &AtomicU64) -> f64 {
    let begun = Instant::now();
    node.tell(Import::at("a"), what).await.unwrap();
    until(count, ROWS).await;
    begun.elapsed().as_secs_f64() / ROWS as f64 * 1e6
}

/// A handler tells many, or makes a batch of them; until all are handled, or it was told so, in µs for each.
pub(crate) async fn batch(store: &str, open: Open<'_>) {
    let (row, done) = (Row::default(), Arc::<AtomicU64>::default());
    let node = start(open("batch"), vec![Feature::new(row.clone()).actor(Import(done.clone()))]).await;
    import(&node, Do::Tell, &row.done).await;
    for round in 1..=3 {
        let told = import(&node, Do::Tell, &row.done).await;
        let batch = import(&node, Do::Batch, &done).await;
        row.done.store(0, Ordering::SeqCst);
        println!(
            "batch {round} on {store}: {told:.1} µs a command that is told; {batch:.1} µs a member of a batch of {ROWS} ({:.1} times)",
            batch / told
        );
    }
    node.drain(Duration::from_secs(10)).await;
}
