//! A vendor that is down: the command is retried, then set aside as a dead letter with its whole
//! story, and redriven when the vendor is back. Nothing is lost and nobody had to write it down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenroom::{
    backend::DeadFilter,
    prelude::*,
    runtime::view::{Found, State, View},
};

struct Mailer {
    vendor_up: Arc<AtomicBool>,
}

impl Actor for Mailer {
    const KIND: &'static str = "mailer";
    type State = Vec<String>;
    type Command = String;
    type Reply = usize;

    async fn handle(&self, sent: &mut Vec<String>, text: String, cx: &Context<Self>) -> Result<usize> {
        if text.is_empty() {
            // Trying again cannot help: fails at once.
            return Err(Error::terminal("a letter needs words").code("empty_letter"));
        }
        if !self.vendor_up.load(Ordering::SeqCst) {
            println!("attempt {}: the vendor is down", cx.attempt());
            return Err(Error::new("connection refused").context("sending the letter"));
        }
        sent.push(text);
        Ok(sent.len())
    }

    fn retry(&self) -> Retry {
        Retry::times(3).backoff(Duration::from_millis(50), Duration::from_millis(200))
    }
}

/// Waits until the request ended.
async fn ended(node: &Node, id: RequestId) -> Result<View> {
    let mut changes = node.watch(id).await.ok_or_else(|| Error::new("no such request"))?;
    loop {
        match node.request(id).await? {
            Found::Here(view) if view.status.ended() => return Ok(view),
            _ => changes.changed().await?,
        }
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let vendor_up = Arc::new(AtomicBool::new(false));
    let mailer = Mailer { vendor_up: vendor_up.clone() };
    App::embedded(data.path()).feature(Feature::new(mailer)).run_until(|node| async move {
        let refused = node.tell(Mailer::at("office"), String::new()).await?;
        let view = ended(&node, refused).await?;
        assert_eq!((view.status, view.attempts), (State::Failed, 1));

        let letter = node.tell(Mailer::at("office"), "hello".to_owned()).await?;
        let view = ended(&node, letter).await?;
        assert_eq!((view.status, view.attempts), (State::DeadLettered, 3));

        let dead = node.dead(DeadFilter::default(), None, 10).await?;
        for failure in &dead[0].failures {
            println!("dead letter, attempt {}: {}: {:?}", failure.attempt, failure.message, failure.causes);
        }
        assert_eq!(dead[0].failures.len(), 3);

        vendor_up.store(true, Ordering::SeqCst);
        assert_eq!(node.redrive(vec![dead[0].position]).await?, 1);
        let view = ended(&node, letter).await?;
        println!("redriven: {:?}", view.status);
        assert_eq!(view.status, State::Completed);
        assert_eq!(node.state::<Mailer>("office").await?, Some(vec!["hello".to_owned()]));
        Ok(())
    })
}
