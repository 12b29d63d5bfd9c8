//! What an earlier owner's commit has ended, and was finished when its actor was opened, is not handled again; what
//! comes of it afterwards is.

use serde_json::value::to_raw_value;

use super::*;
use crate::{backend::Home, clock::Virtual, envelope::Position, runtime::node::Accept};

/// A timer that is due in a second.
async fn later(node: &Node, clock: &Arc<Virtual>, add: u64) {
    let accept = Accept {
        to: Counter::at("a").address().unwrap(),
        command: to_raw_value(&add).unwrap(),
        due: Some(Clock::Virtual(clock.clone()).now() + 1_000),
        trace: None,
        idempotency: None,
        fence: None,
        wait: false,
    };
    node.accept(accept).await.unwrap();
}

/// A page of the mailbox is asked for, and is long on its way; meanwhile a timer of the same actor opens it, and that
/// finishes the commit that has ended the messages of the page.
#[test]
fn what_was_ended_while_the_page_with_it_was_on_its_way_is_not_handled() {
    play(async || {
        let (counter, hold, clock) = (Counter::open(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        let node = held(&hold, Feature::new(counter.clone()), Clock::Virtual(clock.clone())).await;
        later(&node, &clock, 1).await;
        let send = hold_back(&hold.page);
        node.tell(Counter::at("a"), 2).await.unwrap();
        hold.asked.notified().await;
        hold.finished.lock().unwrap().push((Position::new(0, 2), Home::Mailbox));
        clock.advance(Duration::from_secs(2));
        until("the timer has fired", async || counter.begun() == [1]).await;
        send.send(()).unwrap();
        node.tell(Counter::at("a"), 3).await.unwrap();
        until("what comes later has run", async || counter.begun().contains(&3)).await;
        assert_eq!(counter.begun(), [1, 3]);
    });
}

/// As a dead letter is that is put back: it was due when its actor was opened, and it is due again.
#[test]
fn what_was_ended_and_is_there_again_is_handled() {
    play(async || {
        let (counter, hold, clock) = (Counter::open(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        let node = held(&hold, Feature::new(counter.clone()), Clock::Virtual(clock.clone())).await;
        later(&node, &clock, 1).await;
        hold.finished.lock().unwrap().push((Position::new(0, 1), Home::Deferred));
        let signals = node.shared.backend.signals(0);
        clock.advance(Duration::from_secs(2));
        until("the actor was opened", async || hold.finished.lock().unwrap().is_empty()).await;
        until("it has run", async || {
            signals.deferred.notify_one();
            counter.begun() == [1]
        })
        .await;
    });
}
