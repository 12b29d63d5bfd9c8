//! A message that is being cancelled does not begin, nor does what is behind it, until the store has
//! said whether it is.

use tokio::sync::oneshot;

use super::*;
use crate::runtime::node::Cancel;

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
