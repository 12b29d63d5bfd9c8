//! A cache on each node, emptied by a broadcast when what it caches has changed: now, on all nodes that
//! listen, and at most once. What may be missed must not matter, so what is cached also has an age.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use greenroom::{prelude::*, runtime::broadcast::Heard};

/// A price is an actor: its state is the truth.
struct Price;

impl Actor for Price {
    const KIND: &'static str = "price";
    type State = u64;
    type Command = u64;
    type Reply = ();

    async fn handle(&self, price: &mut u64, new: u64, cx: &Context<Self>) -> Result<()> {
        *price = new;
        // Said once it is committed, so that whoever looks then sees the new one.
        cx.broadcast("prices", &cx.key());
        Ok(())
    }
}

/// What a node remembers of prices.
#[derive(Clone, Default)]
struct Cache(Arc<Mutex<HashMap<String, (u64, Instant)>>>);

impl Cache {
    /// A broadcast that was missed is made up for after this long.
    const AGE: Duration = Duration::from_secs(60);

    async fn price(&self, node: &Node, article: &str) -> Result<u64> {
        if let Some((price, since)) = self.lock().get(article)
            && since.elapsed() < Self::AGE
        {
            return Ok(*price);
        }
        let price = node.state::<Price>(article).await?.unwrap_or_default();
        self.lock().insert(article.to_owned(), (price, Instant::now()));
        println!("looked {article} up: {price}");
        Ok(price)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what has changed.
    fn hear(&self, heard: &Heard<String>) {
        match heard {
            Heard::Value(article) => drop(self.lock().remove(article)),
            // Nobody knows which.
            Heard::Missed(_) => self.lock().clear(),
        }
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    App::embedded(data.path()).feature(Feature::new(Price)).run_until(|node| async move {
        let cache = Cache::default();
        node.ask(Price::at("tea"), 400).await?;
        // First listen, then look: what changes in between is heard.
        let mut prices = node.listen::<String>("prices");
        for _ in 0..3 {
            println!("tea costs {}", cache.price(&node, "tea").await?);
        }
        node.ask(Price::at("tea"), 450).await?;
        // A product does this in a task of its own, for ever.
        cache.hear(&prices.next().await?);
        println!("tea costs {} now", cache.price(&node, "tea").await?);
        Ok(())
    })
}
