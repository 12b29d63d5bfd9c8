//! What is deferred runs when it is due and in its order, however late the store says what it says.

use super::*;
use crate::{clock::Virtual, envelope::Position, runtime::view::Found};

/// Longer than any retry waits.
const WAIT: Duration = Duration::from_secs(2);

/// Says how often it was tried, and fails.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<u32>>);

impl Failing {
    fn tried(&self) -> u32 {
        *self.0.lock().unwrap()
    }
}

impl Actor for Failing {
    const KIND: &'static str = "failing";
    type State = ();
    type Command = ();
    type Reply = ();

    fn retry(&self) -> Retry {
        let wait = WAIT / 2;
        Retry::times(9).backoff(wait, wait)
    }

    async fn handle(&self, (): &mut (), (): (), _: &Context<Self>) -> Result<()> {
        *self.0.lock().unwrap() += 1;
        Err(Error::new("busy"))
    }
}

/// The page that says that the retry is due is long on its way; meanwhile a command that comes for the same
/// actor lets it fetch the retry by itself, which fails again.
#[test]
fn a_retry_that_was_fetched_before_it_was_handed_out_is_not_forgotten() {
    play(async || {
        let (failing, hold, clock) = (Failing::default(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        let node = held(&hold, Feature::new(failing.clone()), Clock::Virtual(clock.clone())).await;
        let first = node.tell(Failing::at("a"), ()).await.unwrap();
        // Attempts that are over.
        let failed = async || match node.request(first).await.unwrap() {
            Found::Here(view) if view.next_attempt_at > Some(Clock::Virtual(clock.clone()).now()) => view.attempts,
            _ => 0,
        };
        until("it has failed", async || failed().await == 1).await;
        let send = hold_back(&hold.due);
        clock.advance(WAIT);
        hold.asked.notified().await;
        node.tell(Failing::at("a"), ()).await.unwrap();
        until("it has failed again", async || failed().await == 2).await;
        send.send(()).unwrap();
        // Whoever has the page now has had every chance.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(failing.tried(), 2);
        clock.advance(WAIT);
        until("it has failed once more", async || failed().await == 3).await;
    });
}

/// Sleeps first where it is told nothing.
#[derive(Clone, Default)]
struct Sleeper(Arc<Mutex<Vec<u64>>>);

impl Actor for Sleeper {
    const KIND: &'static str = "sleeper";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, (): &mut (), n: u64, cx: &Context<Self>) -> Result<()> {
        if n == 0 {
            cx.sleep(WAIT).await?;
        }
        self.0.lock().unwrap().push(n);
        Ok(())
    }
}

/// Its process died, so that its attempts are counted before it goes on; and that takes long.
#[test]
fn what_is_parked_behind_a_sleeper_does_not_overtake_it_while_its_attempts_are_counted() {
    play(async || {
        let (sleeper, clock, store) = (Sleeper::default(), Virtual::at(1_000_000), memory());
        let start = async |plan, hold: &Arc<Hold>| {
            held_on(&store, plan, hold, Feature::new(sleeper.clone()), Clock::Virtual(clock.clone())).await
        };
        let (plan, hold) = (Arc::<Plan>::default(), Arc::<Hold>::default());
        let node = start(plan.clone(), &Arc::default()).await;
        node.tell(Sleeper::at("a"), 0).await.unwrap();
        let (address, first) = (Sleeper::at("a").address().unwrap(), Position::new(0, 0));
        let parked = async || node.shared.backend.parked(&address, first, 9).await.unwrap().len();
        until("it waits in the store", async || parked().await == 1).await;
        for n in 1..4 {
            node.tell(Sleeper::at("a"), n).await.unwrap();
        }
        until("what comes behind it is parked", async || parked().await == 4).await;
        plan.die();
        clock.advance(WAIT);
        let [due, blocked, counts, page] = [&hold.due, &hold.blocked, &hold.counts, &hold.parked].map(hold_back);
        let node = start(Arc::default(), &hold).await;
        until("all is asked", async || is_asked(&hold.due) && is_asked(&hold.blocked)).await;
        due.send(()).unwrap();
        // Whoever has the page now may have begun to count.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        blocked.send(()).unwrap();
        until("its actor fetches it", async || is_asked(&hold.parked)).await;
        counts.send(()).unwrap();
        page.send(()).unwrap();
        until("all is done", async || node.ledger().await.unwrap().in_flight() == 0).await;
        assert_eq!(*sleeper.0.lock().unwrap(), [0, 1, 2, 3]);
    });
}
