//! Nobody waits for the end of another tenant's flood: ann sends five thousand mails, then bob one. Pausing
//! holds everything back, and loses nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use greenroom::prelude::*;

struct Mail {
    sent: Arc<AtomicU64>,
}

impl Actor for Mail {
    const KIND: &'static str = "mail";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    /// Whoever's mail it is stands before the slash.
    fn tenant(key: &str) -> Option<&str> {
        key.split('/').next()
    }

    async fn handle(&self, count: &mut u64, _: u64, _: &Context<Self>) -> Result<u64> {
        *count += 1;
        Ok(self.sent.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

const FLOOD: u64 = 5_000;

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let sent = Arc::<AtomicU64>::default();
    App::embedded(data.path()).feature(Feature::new(Mail { sent: sent.clone() })).run_until(|node| async move {
        node.pause("mail", None).await?;
        let flood = (0..FLOOD).map(|n| (Mail::at(format!("ann/{}", n % 500)), n));
        let accepted = node.tell_all(flood).await?.into_iter().filter(Result::is_ok).count();
        println!("paused: {accepted} mails of ann are accepted, {} were sent", sent.load(Ordering::SeqCst));
        let bob = node.ask(Mail::at("bob/1"), 0);
        let resumed = async {
            tokio::task::yield_now().await;
            node.resume("mail", None).await
        };
        let (place, resumed) = tokio::join!(bob, resumed);
        resumed?;
        println!("resumed: bob's mail was sent before the flood had ended: {}", place? < FLOOD);
        while sent.load(Ordering::SeqCst) <= FLOOD {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        println!("all {} were sent", sent.load(Ordering::SeqCst));
        Ok(())
    })
}
