//! Nothing of what is paused goes on from the moment on that the node knows of it, though its partition is busy
//! with what was resumed before.

use serde_json::value::RawValue;

use super::*;
use crate::{
    backend::Pauses,
    clock::Virtual,
    durable::entry::Entry,
    runtime::{
        journaled::decode_all,
        outside::{SignalId, Signalled},
    },
};

/// Waits for a signal.
#[derive(Clone, Default)]
struct Waiter(Arc<Mutex<u32>>);

impl Actor for Waiter {
    const KIND: &'static str = "waiter";
    type State = ();
    type Command = ();
    type Reply = ();

    async fn handle(&self, (): &mut (), (): (), cx: &Context<Self>) -> Result<()> {
        cx.signal::<()>("go").await?;
        *self.0.lock().unwrap() += 1;
        Ok(())
    }
}

#[test]
fn a_signal_for_a_command_that_waits_in_memory_does_not_let_it_go_on_while_it_is_paused() {
    play(async || {
        let (waiter, hold, clock) = (Waiter::default(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        let (at_start, store) = (hold_back(&hold.blocked), memory());
        store.pause(Waiter::at("b").address().unwrap().into(), 0).await.unwrap();
        let (feature, time) = (Feature::new(waiter.clone()), Clock::Virtual(clock.clone()));
        let node = held_on(&store, Arc::default(), &hold, feature, time).await;
        until("it looks who has anything parked", async || is_asked(&hold.blocked)).await;
        at_start.send(()).unwrap();
        let request = node.tell(Waiter::at("a"), ()).await.unwrap();
        let position = node.shared.position(request).await.unwrap().unwrap();
        until("it waits", async || node.arbiters.running(position).await.is_some()).await;
        let resuming = hold_back(&hold.blocked);
        node.resume("waiter", Some("b")).await.unwrap();
        until("what was resumed is being woken", async || is_asked(&hold.blocked)).await;
        node.pause("waiter", Some("a")).await.unwrap();
        let id = SignalId { request, name: "go".into() };
        let signalled = node.signal(&id, RawValue::NULL.to_owned(), None).await;
        assert!(matches!(signalled, Ok(Signalled::Taken)));
        let written = async || {
            let entries = decode_all(&node.shared.backend.journal(position).await.unwrap()).unwrap();
            entries.iter().any(|entry| matches!(entry, Entry::Signalled { .. }))
        };
        until("the signal is written", async || written().await || *waiter.0.lock().unwrap() > 0).await;
        resuming.send(()).unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*waiter.0.lock().unwrap(), 0, "it is paused");
        clock.advance(Duration::from_secs(1));
        node.resume("waiter", Some("a")).await.unwrap();
        until("it goes on", async || *waiter.0.lock().unwrap() == 1).await;
        until("all is done", async || node.ledger().await.unwrap().in_flight() == 0).await;
    });
}
