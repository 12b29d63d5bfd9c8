//! The smallest durable actor: a counter that remembers, whatever happens to the process.

use greenroom::prelude::*;

struct Counter;

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
        *total += add;
        Ok(*total)
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let app = App::embedded(data.path()).feature(Feature::new(Counter));
    let total = app.run_until(|node| async move { node.ask(Counter::at("visits"), 2).await })?;
    println!("visits: {total}");
    Ok(())
}
