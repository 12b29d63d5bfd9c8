//! A store's page may end before its limit: a reader goes on until there is nothing more.

use std::sync::atomic::Ordering;

use super::*;
use crate::{clock::Virtual, runtime::node::Accept, testing::Which};

/// Handles numbered messages of any size, after a gate.
#[derive(Clone)]
struct Sorter {
    gate: Arc<Semaphore>,
    /// Key and number of what was handled, in order.
    handled: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Sorter {
    fn shut() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), handled: Arc::default() }
    }

    fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn handled(&self) -> usize {
        self.handled.lock().unwrap().len()
    }

    fn of(&self, key: &str) -> Vec<u32> {
        self.handled.lock().unwrap().iter().filter(|(of, _)| of == key).map(|(_, number)| *number).collect()
    }
}

impl Actor for Sorter {
    const KIND: &'static str = "sorter";
    type State = ();
    type Command = (u32, String);
    type Reply = ();

    async fn handle(&self, (): &mut (), (number, _): (u32, String), cx: &Context<Self>) -> Result<()> {
        self.gate.acquire().await?.forget();
        self.handled.lock().unwrap().push((cx.key().to_owned(), number));
        Ok(())
    }
}

/// Sends `count` messages of `size` bytes to a few keys while nothing is handled, and then lets all be handled.
async fn sorted(node: &Node, sorter: &Sorter, count: u32, size: usize) {
    const KEYS: [&str; 3] = ["a", "b", "c"];
    for number in 0..count {
        let key = KEYS[number as usize % KEYS.len()];
        node.tell(Sorter::at(key), (number, "x".repeat(size))).await.unwrap();
    }
    sorter.open();
    until("all is handled", async || sorter.handled() == count as usize).await;
    for (nth, key) in (0..).zip(KEYS) {
        assert_eq!(sorter.of(key), (0..count).filter(|number| number % 3 == nth).collect::<Vec<_>>(), "{key}");
    }
    until("all has ended", async || node.ledger().await.unwrap().in_flight() == 0).await;
}

#[test]
fn messages_behind_a_short_page_are_handled_in_their_order() {
    play(async || {
        let (sorter, hold) = (Sorter::shut(), Arc::<Hold>::default());
        hold.most.store(2, Ordering::SeqCst);
        let settings = Settings { arbiters: 0, window_messages: 8, ..Settings::default() };
        let feature = Feature::new(sorter.clone());
        let node = held_with(memory(), settings, Arc::default(), &hold, feature, Clock::System).await;
        sorted(&node, &sorter, 40, 1).await;
    });
}

#[test]
fn timers_behind_a_short_page_all_fall_due() {
    play(async || {
        let (sorter, hold, clock) = (Sorter::shut(), Arc::<Hold>::default(), Virtual::at(1_000_000));
        hold.most.store(2, Ordering::SeqCst);
        let settings = Settings { arbiters: 0, window_messages: 8, ..Settings::default() };
        let (feature, time) = (Feature::new(sorter.clone()), Clock::Virtual(clock.clone()));
        let node = held_with(memory(), settings, Arc::default(), &hold, feature, time).await;
        for number in 0..40 {
            let timer = Accept {
                to: Sorter::at(format!("{number}")).address().unwrap(),
                command: serde_json::value::to_raw_value(&(number, "")).unwrap(),
                due: Some(1_001_000 + i64::from(number % 5)),
                trace: None,
                idempotency: None,
                fence: None,
                wait: false,
            };
            node.accept(timer).await.unwrap();
        }
        clock.advance(Duration::from_secs(2));
        // Most are passed over meanwhile.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        sorter.open();
        until("all are handled", async || sorter.handled() == 40).await;
    });
}

/// A page of the mailbox has 4 MiB at the most.
#[test]
fn large_messages_are_handled_in_their_order_however_many_wait() {
    play(async || {
        let sorter = Sorter::shut();
        let store = Which::Redis.open(&Options { partitions: 1, ..Options::default() }).unwrap();
        let settings = Settings { arbiters: 0, window_messages: 128, window_bytes: 64 << 20, ..Settings::default() };
        let start =
            Start { backend: store, features: vec![Feature::new(sorter.clone())], settings, clock: Clock::System };
        let node = Node::start_with(start, Faults::default(), 1).await.unwrap();
        sorted(&node, &sorter, 300, 64 << 10).await;
        node.drain(Duration::from_secs(10)).await;
    });
}
