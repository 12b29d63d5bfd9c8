//! Nodes of two builds on one store, as while a rolling deploy lasts: what only one of them can read.

use serde::{Deserialize, Serialize};

use super::{
    town::{Resident, Town},
    *,
};
use crate::{backend::Mailbox, runtime::node::Accept};

/// So long that nothing in a test happens because it is over.
const LONG: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 16;

/// What was handled: by which build, of which key.
type Log = Arc<Mutex<Vec<(&'static str, String, u64)>>>;

/// A list of numbers, as the old build has it.
#[derive(Clone)]
struct OldBook(Log);

#[derive(Serialize, Deserialize)]
enum OldCommand {
    Add(u64),
}

impl Actor for OldBook {
    const KIND: &'static str = "book";
    type State = Vec<u64>;
    type Command = OldCommand;
    type Reply = usize;

    async fn handle(&self, pages: &mut Vec<u64>, OldCommand::Add(n): OldCommand, cx: &Context<Self>) -> Result<usize> {
        self.0.lock().unwrap().push(("old", cx.key().to_owned(), n));
        pages.push(n);
        Ok(pages.len())
    }
}

/// The same, as the new build has it: it knows one more command, and may keep its state in another way.
#[derive(Clone)]
struct NewBook(Log);

#[derive(Serialize, Deserialize)]
enum NewCommand {
    Add(u64),
    Mark(u64),
    Bind(u64),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Pages {
    Loose(Vec<u64>),
    Bound { pages: Vec<u64> },
}

impl Default for Pages {
    fn default() -> Self {
        Self::Loose(Vec::new())
    }
}

impl Actor for NewBook {
    const KIND: &'static str = "book";
    type State = Pages;
    type Command = NewCommand;
    type Reply = usize;

    async fn handle(&self, book: &mut Pages, command: NewCommand, cx: &Context<Self>) -> Result<usize> {
        let (NewCommand::Add(n) | NewCommand::Mark(n) | NewCommand::Bind(n)) = command;
        self.0.lock().unwrap().push(("new", cx.key().to_owned(), n));
        let (Pages::Loose(pages) | Pages::Bound { pages }) = book;
        pages.push(n);
        let count = pages.len();
        if matches!(command, NewCommand::Bind(_)) {
            *book = Pages::Bound { pages: std::mem::take(pages) };
        }
        Ok(count)
    }
}

/// Of a kind that only the new build has.
#[derive(Clone)]
struct Fresh(Log);

impl Actor for Fresh {
    const KIND: &'static str = "fresh";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), n: u64, cx: &Context<Self>) -> Result<()> {
        self.0.lock().unwrap().push(("new", cx.key().to_owned(), n));
        Ok(())
    }
}

async fn old(town: &Arc<Town>, log: &Log) -> Resident {
    town.start_build("old", vec![Feature::new(OldBook(log.clone()))]).await
}

async fn new(town: &Arc<Town>, log: &Log) -> Resident {
    let features = vec![Feature::new(NewBook(log.clone())), Feature::new(Fresh(log.clone()))];
    town.start_build("new", features).await
}

/// What was handled of a key, in order.
fn of(log: &Log, key: &str) -> Vec<u64> {
    log.lock().unwrap().iter().filter(|(_, of, _)| of == key).map(|(_, _, n)| *n).collect()
}

async fn all_ended(node: &Node) {
    until("everything has ended", async || node.ledger().await.unwrap().in_flight() == 0).await;
    let audit = node.audit().await.unwrap();
    assert!(audit.balanced && audit.dead == 0, "{audit:?}");
}

/// A key of a kind whose partition belongs to `owner`.
async fn key_of(node: &Node, kind: &str, owner: u64) -> (String, u16) {
    let partitions = node.partitions().await.unwrap();
    let partition = |key: &String| Address::new(kind, key.as_str()).unwrap().partition(PARTITIONS);
    let key = (0..).map(|n| format!("key{n}")).find(|key| partitions[usize::from(partition(key))].node == Some(owner));
    let key = key.unwrap();
    let partition = partition(&key);
    (key, partition)
}

async fn owners(node: &Node) -> Vec<Option<u64>> {
    node.partitions().await.unwrap().into_iter().map(|partition| partition.node).collect()
}

async fn settled(town: &Town, members: usize) {
    until("every partition is where it belongs", async || town.shares().len() == members && town.is_settled()).await;
}

#[test]
fn commands_of_the_new_build_are_left_to_it_in_their_order() {
    play(async || {
        let (town, log) = (Town::new(PARTITIONS, LONG), Log::default());
        let (old, new) = (old(&town, &log).await, new(&town, &log).await);
        settled(&town, 2).await;
        let before = owners(&new.node).await;
        let (key, partition) = key_of(&new.node, "book", old.id()).await;
        let book = || NewBook::at(key.as_str());
        for n in [NewCommand::Add(1), NewCommand::Mark(2), NewCommand::Add(3), NewCommand::Mark(4)] {
            new.node.tell(book(), n).await.unwrap();
        }
        assert_eq!(new.node.ask(book(), NewCommand::Add(5)).await.unwrap(), 5);
        assert_eq!(of(&log, &key), [1, 2, 3, 4, 5]);
        all_ended(&new.node).await;
        // Only the partition that had such a command has moved.
        let mut expected = before;
        expected[usize::from(partition)] = Some(new.id());
        assert_eq!(owners(&new.node).await, expected);
        assert_eq!(old.node.ask(OldBook::at(key.as_str()), OldCommand::Add(6)).await.unwrap(), 6);
    });
}

#[test]
fn kinds_of_the_new_build_are_left_to_it_in_their_order() {
    play(async || {
        let (town, log) = (Town::new(PARTITIONS, LONG), Log::default());
        let (old, new) = (old(&town, &log).await, new(&town, &log).await);
        settled(&town, 2).await;
        let keys = 0..100;
        for n in 1..=3 {
            for key in keys.clone() {
                new.node.tell(Fresh::at(format!("{key}")), n).await.unwrap();
            }
        }
        all_ended(&old.node).await;
        for key in keys {
            assert_eq!(of(&log, &format!("{key}")), [1, 2, 3], "key {key}");
        }
    });
}

#[test]
fn states_of_the_new_build_are_left_to_it_when_the_old_one_takes_over() {
    play(async || {
        let (town, log) = (Town::new(PARTITIONS, LONG), Log::default());
        let (_old, first) = (old(&town, &log).await, new(&town, &log).await);
        settled(&town, 2).await;
        for key in 0..40 {
            first.node.tell(NewBook::at(format!("{key}")), NewCommand::Bind(1)).await.unwrap();
        }
        all_ended(&first.node).await;
        let second = new(&town, &log).await;
        first.node.drain(LONG).await;
        for key in 0..40 {
            second.node.tell(NewBook::at(format!("{key}")), NewCommand::Add(2)).await.unwrap();
            second.node.tell(NewBook::at(format!("{key}")), NewCommand::Add(3)).await.unwrap();
        }
        all_ended(&second.node).await;
        for key in 0..40 {
            assert_eq!(of(&log, &format!("{key}")), [1, 2, 3], "key {key}");
        }
    });
}

/// Sends to a kind that no build has.
async fn send_to_nobody(node: &Node, key: &str) {
    let accept = Accept {
        to: Address::new("nobody", key).unwrap(),
        command: serde_json::value::to_raw_value(&1).unwrap(),
        due: None,
        trace: None,
        idempotency: None,
        fence: None,
        wait: false,
    };
    node.accept(accept).await.unwrap();
}

async fn dead(node: &Node) -> Vec<String> {
    let dead = node.dead(Default::default(), None, 9).await.unwrap();
    dead.into_iter().map(|dead| dead.failures.last().unwrap().code.to_string()).collect()
}

#[test]
fn what_no_build_can_read_is_given_up_when_only_one_is_left() {
    play(async || {
        let (town, log) = (Town::new(PARTITIONS, LONG), Log::default());
        let old = old(&town, &log).await;
        send_to_nobody(&old.node, "a").await;
        until("it is given up", async || dead(&old.node).await == ["unknown_kind"]).await;
        let new = new(&town, &log).await;
        settled(&town, 2).await;
        for key in ["b", "c", "c"] {
            send_to_nobody(&old.node, key).await;
        }
        let (key, _) = key_of(&new.node, "book", old.id()).await;
        old.node.tell(NewBook::at(key.as_str()), NewCommand::Bind(7)).await.unwrap();
        until("what can be read is", async || of(&log, &key) == [7]).await;
        until("the others are set aside", async || {
            let (mut after, mut parked) = (None, 0);
            for partition in 0..PARTITIONS {
                let blocked = town.store.blocked(partition, after.take(), 9).await.unwrap();
                parked += blocked.len();
            }
            parked == 2
        })
        .await;
        assert_eq!(dead(&old.node).await.len(), 1);
        // The state that only the new build can read goes with it.
        old.node.tell(OldBook::at(key.as_str()), OldCommand::Add(8)).await.unwrap();
        new.node.drain(LONG).await;
        until("all is given up", async || old.node.ledger().await.unwrap().in_flight() == 0).await;
        let mut dead = dead(&old.node).await;
        dead.sort();
        assert_eq!(dead, ["state_unreadable", "unknown_kind", "unknown_kind", "unknown_kind", "unknown_kind"]);
        assert!(old.node.audit().await.unwrap().balanced);
    });
}

#[test]
fn a_node_whose_clock_is_a_day_ahead_of_the_store_fires_no_timer_early() {
    const DAY: i64 = 86_400_000;
    play(async || {
        let hold = Arc::<Hold>::default();
        hold.behind.store(DAY, std::sync::atomic::Ordering::SeqCst);
        let node = held(&hold, Feature::new(Counter::open()), Clock::System).await;
        let store = || Clock::System.now() - DAY;
        assert!((node.clock().now() - store()).abs() < 1_000);
        let due = store() + 300;
        let accept = Accept {
            to: Counter::at("a").address().unwrap(),
            command: serde_json::value::to_raw_value(&1).unwrap(),
            due: Some(due),
            trace: None,
            idempotency: None,
            fence: None,
            wait: true,
        };
        node.accept(accept).await.unwrap().ended.unwrap().await.unwrap();
        assert!(store() >= due);
    });
}
