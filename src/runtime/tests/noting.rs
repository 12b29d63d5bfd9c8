//! What comes for a command that has ended leaves nothing behind.

use serde_json::value::RawValue;

use super::*;
use crate::{
    backend::Journals,
    clock::Virtual,
    envelope::Position,
    runtime::{outside::SignalId, partition::Partition},
};

/// Answers after a gate.
#[derive(Clone)]
struct Slow(Arc<Semaphore>);

impl Actor for Slow {
    const KIND: &'static str = "slow";
    type State = ();
    type Command = ();
    type Reply = ();

    async fn handle(&self, (): &mut (), (): (), _: &Context<Self>) -> Result<()> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

/// Asks it, and does not wait for long.
#[derive(Clone, Default)]
struct Hasty(Arc<Mutex<u32>>);

impl Actor for Hasty {
    const KIND: &'static str = "hasty";
    type State = ();
    type Command = ();
    type Reply = ();

    async fn handle(&self, (): &mut (), (): (), cx: &Context<Self>) -> Result<()> {
        let answer = cx.ask(Slow::at(cx.key()), ()).within(Duration::from_millis(10)).await;
        assert!(answer.is_err(), "it was answered in time");
        *self.0.lock().unwrap() += 1;
        Ok(())
    }
}

/// Does one thing before it waits for a signal; another build does another, after a gate.
#[derive(Clone)]
struct Changing {
    does: &'static str,
    gate: Arc<Semaphore>,
}

impl Actor for Changing {
    const KIND: &'static str = "changing";
    type State = ();
    type Command = ();
    type Reply = ();

    async fn handle(&self, (): &mut (), (): (), cx: &Context<Self>) -> Result<()> {
        self.gate.acquire().await?.forget();
        cx.run(self.does, |_| async { Ok(()) }).await?;
        cx.signal::<()>("go").await
    }
}

/// The first numbers of the messages of a partition that are in memory.
#[derive(actix::Message)]
#[rtype(result = "Vec<u64>")]
struct Held;

impl actix::Handler<Held> for Partition {
    type Result = Vec<u64>;

    fn handle(&mut self, Held: Held, _: &mut Self::Context) -> Vec<u64> {
        let lanes = self.room().lanes.borrow();
        (0..100).filter(|number| lanes.holds(Position::new(0, *number))).collect()
    }
}

/// How many messages of a partition are taken to have a journal.
#[derive(actix::Message)]
#[rtype(result = "usize")]
struct Journaled;

impl actix::Handler<Journaled> for Partition {
    type Result = usize;

    fn handle(&mut self, Journaled: Journaled, _: &mut Self::Context) -> usize {
        self.room().journaled.borrow().len()
    }
}

#[test]
fn answers_that_come_too_late_leave_nothing_in_memory() {
    play(async || {
        let (hasty, gate, clock) = (Hasty::default(), Arc::new(Semaphore::new(0)), Virtual::at(1_000_000));
        let feature = Feature::new(hasty.clone()).actor(Slow(gate.clone()));
        let node = held(&Arc::default(), feature, Clock::Virtual(clock.clone())).await;
        for key in 0..20 {
            node.tell(Hasty::at(format!("{key}")), ()).await.unwrap();
        }
        until("none waits any more", async || {
            clock.advance(Duration::from_millis(20));
            *hasty.0.lock().unwrap() == 20
        })
        .await;
        gate.add_permits(20);
        until("all has ended", async || node.ledger().await.unwrap().in_flight() == 0).await;
        let partition = node.arbiters.address(Position::new(0, 0)).unwrap();
        until("nothing is left", async || partition.send(Journaled).await.unwrap() == 0).await;
    });
}

#[test]
fn what_is_being_written_for_a_command_that_breaks_leaves_memory_with_it() {
    play(async || {
        let (store, plan, gate) = (memory(), Arc::<Plan>::default(), Arc::new(Semaphore::new(1)));
        let start = async |does, plan, hold: &Arc<Hold>| {
            let feature = Feature::new(Changing { does, gate: gate.clone() });
            held_on(&store, plan, hold, feature, Clock::System).await
        };
        let node = start("one", plan.clone(), &Arc::default()).await;
        let request = node.tell(Changing::at("a"), ()).await.unwrap();
        let position = node.shared.position(request).await.unwrap().unwrap();
        let written = async || !store.journal(position).await.unwrap().is_empty();
        until("the first is done", written).await;
        plan.die();
        let hold = Arc::<Hold>::default();
        let node = start("other", Arc::default(), &hold).await;
        until("it runs again", async || node.arbiters.running(position).await.is_some()).await;
        let answer = hold_back(&hold.commits);
        node.signal(&SignalId { request, name: "go".into() }, RawValue::NULL.to_owned(), None).await.unwrap();
        until("the signal is being written", async || is_asked(&hold.commits)).await;
        gate.add_permits(1);
        // The handler has every chance to do the other thing.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        answer.send(()).unwrap();
        until("it is a dead letter", async || node.audit().await.unwrap().dead == 1).await;
        let partition = node.arbiters.address(position).unwrap();
        until("nothing is left", async || partition.send(Held).await.unwrap().is_empty()).await;
    });
}
