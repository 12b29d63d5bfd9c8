//! A message that is being cancelled does not begin, nor does what is behind it, until the store has
//! said whether it is.

use tokio::sync::oneshot;

use super::*;
use crate::{clock::Virtual, envelope::Position, runtime::node::Cancel};

/// Asks to cancel the second of three commands, lets the first one end, and then lets the store give
/// its verdict; what began.
async fn cancelled_late(verdict: bool) -> Vec<u64> {
    let (counter, hold) = (Counter::shut(), Arc::<Hold>::default());
    let (say, said) = oneshot::channel();
    *hold.verdict.lock().unwrap() = Some(said);
    let node = held(&hold, Feature::new(counter.clone()), Clock::System).await;
    let tell = async |command| node.tell(Counter::at("a"), command).await.unwrap();
    let (first, second, _) = (tell(1).await, tell(2).await, tell(3).await);
    until("the first runs", async || counter.begun() == [1]).await;
    assert!(matches!(node.cancel(first).await.unwrap(), Cancel::Refused(_)), "an attempt runs");
    let cancelling = actix::spawn({
        let node = node.clone();
        async move { node.cancel(second).await.unwrap() }
    });
    hold.asked.notified().await;
    counter.let_through(3);
    until("the first has ended", async || node.ledger().await.unwrap().completed == 1).await;
    // Everything else that could happen has had its chance.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counter.begun(), [1], "something began before the verdict");
    say.send(verdict).unwrap();
    assert_eq!(matches!(cancelling.await.unwrap(), Cancel::Cancelled), verdict);
    until("all is done", async || node.ledger().await.unwrap().in_flight() == 0).await;
    assert!(node.audit().await.unwrap().balanced);
    counter.begun()
}

#[test]
fn what_is_cancelled_never_begins() {
    play(async || assert_eq!(cancelled_late(true).await, [1, 3]));
}

#[test]
fn what_is_not_cancelled_after_all_is_handled_in_its_turn() {
    play(async || assert_eq!(cancelled_late(false).await, [1, 2, 3]));
}

/// Fails at first what is odd.
#[derive(Clone, Default)]
struct Odd(Arc<Mutex<Vec<(u64, u32)>>>);

impl Actor for Odd {
    const KIND: &'static str = "odd";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, (): &mut (), n: u64, cx: &Context<Self>) -> Result<()> {
        self.0.lock().unwrap().push((n, cx.attempt()));
        if n % 2 == 1 && cx.attempt() == 1 { Err(Error::new("odd")) } else { Ok(()) }
    }
}

/// It waits in the store behind a retry; when that is due the page of both is long on its way to their actor.
#[test]
fn what_is_cancelled_while_it_is_fetched_never_begins() {
    play(async || {
        let (odd, hold, clock) = (Odd::default(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        let node = held(&hold, Feature::new(odd.clone()), Clock::Virtual(clock.clone())).await;
        let tell = async |command| node.tell(Odd::at("a"), command).await.unwrap();
        tell(1).await;
        until("it has failed", async || odd.0.lock().unwrap().len() == 1).await;
        let (second, _) = (tell(2).await, tell(4).await);
        let (address, start) = (Odd::at("a").address().unwrap(), Position::new(0, 0));
        let parked = async || node.shared.backend.parked(&address, start, 9).await.unwrap().len();
        until("what comes behind it is parked", async || parked().await == 3).await;
        let send = hold_back(&hold.parked);
        clock.advance(Duration::from_secs(60));
        hold.asked.notified().await;
        assert!(matches!(node.cancel(second).await.unwrap(), Cancel::Cancelled));
        send.send(()).unwrap();
        until("all is done", async || node.ledger().await.unwrap().in_flight() == 0).await;
        assert_eq!(*odd.0.lock().unwrap(), [(1, 1), (1, 2), (4, 1)]);
    });
}
