//! Live connections: what an actor pushes with its commit reaches whoever follows the channel, and whoever
//! was away gets exactly what was missed.
//!
//! Here a program follows; `live.open(…)` in a route gives the same to browsers, as a WebSocket or as
//! server-sent events (docs/LIVE.md).

use greenroom::{
    coordination::live::program::{Following, Update},
    prelude::*,
};
use serde_json::json;

struct Auction;

impl Actor for Auction {
    const KIND: &'static str = "auction";
    type State = u64;
    type Command = u64;
    type Reply = bool;

    async fn handle(&self, highest: &mut u64, bid: u64, cx: &Context<Self>) -> Result<bool> {
        if bid <= *highest {
            return Ok(false);
        }
        *highest = bid;
        // Leaves with this commit: nobody is told of a bid that does not stand.
        cx.push(&format!("auction-{}", cx.key()), "bid", &json!({ "amount": bid }));
        Ok(true)
    }
}

/// The next thing a follower is told, and the id after which it goes on.
async fn next(following: &mut Following) -> Result<String> {
    let (what, id) = match following.next().await? {
        Update::Ready { id } => ("up to date".to_owned(), id),
        Update::Event { id, event, data } => (format!("{event} {data}"), id),
        Update::Gap { id } => ("something is missing".to_owned(), id),
    };
    println!("  told: {what}");
    Ok(id)
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    App::embedded(data.path()).feature(Feature::new(Auction)).run_until(|node| async move {
        let mut ann = node.follow("auction-7", None)?;
        next(&mut ann).await?;
        node.ask(Auction::at("7"), 100).await?;
        let id = next(&mut ann).await?;
        println!("ann's train enters a tunnel");
        drop(ann);
        for bid in [110, 105, 120] {
            let stands = node.ask(Auction::at("7"), bid).await?;
            println!("a bid of {bid}: {}", if stands { "stands" } else { "is too low" });
        }
        println!("ann comes back, perhaps to another node, and says which event was her last");
        let mut ann = node.follow("auction-7", Some(&id))?;
        for _ in 0..3 {
            next(&mut ann).await?;
        }
        Ok(())
    })
}
