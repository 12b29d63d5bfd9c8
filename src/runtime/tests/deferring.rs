//! A retry runs when it is due, however late the store says that an earlier one was.

use tokio::sync::oneshot;

use super::*;
use crate::{clock::Virtual, runtime::view::Found};

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
        let (send, sent) = oneshot::channel();
        *hold.due.lock().unwrap() = Some(sent);
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
