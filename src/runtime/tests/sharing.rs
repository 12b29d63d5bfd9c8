//! Several nodes on one store: joining, dying, leaving, being mistaken for dead, and answering for
//! each other.

use super::{
    town::{Resident, Town},
    *,
};
use crate::{
    backend::{Append, Leases, Mailbox},
    envelope::Envelope,
    runtime::{
        node::{Accept, Cancel},
        settings::Settings,
        view::{Found, State, View},
    },
};

const LEASE: Duration = Duration::from_millis(600);
/// So long that nothing in a test happens because it is over.
const LONG: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 16;
const KEYS: u64 = 40;

/// Adds 1 to every key through each node in turn.
async fn ask_all(nodes: &[&Node], expected: u64) {
    for key in 0..KEYS {
        let node = nodes[key as usize % nodes.len()];
        assert_eq!(node.ask(Counter::at(format!("{key}")), 1).await.unwrap(), expected, "key {key}");
    }
}

async fn settled(town: &Town, members: usize) {
    until("every partition is where it belongs", async || town.shares().len() == members && town.is_settled()).await;
}

async fn balanced(node: &Node) {
    let audit = node.audit().await.unwrap();
    assert!(audit.balanced && audit.in_flight == 0, "{audit:?}");
}

async fn view(node: &Node, id: RequestId) -> View {
    match node.request(id).await.unwrap() {
        Found::Here(view) => view,
        other => panic!("{other:?}"),
    }
}

/// A key whose partition belongs to `owner`.
async fn key_of(node: &Node, owner: u64) -> String {
    let partitions = node.partitions().await.unwrap();
    (0..)
        .map(|n| format!("key{n}"))
        .find(|key| {
            let partition = Counter::at(key.as_str()).address().unwrap().partition(PARTITIONS);
            partitions[usize::from(partition)].node == Some(owner)
        })
        .unwrap()
}

#[test]
fn work_is_shared_and_every_node_answers_for_all() {
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        let first = town.start(Counter::open(), 0).await;
        assert_eq!(town.shares(), [16]);
        ask_all(&[&first.node], 1).await;
        // Who joins gets its share at once, beat or no beat.
        let second = town.start(Counter::open(), 2).await;
        settled(&town, 2).await;
        assert!(town.shares().iter().all(|share| *share > 2), "{:?}", town.shares());
        ask_all(&[&first.node, &second.node], 2).await;
        let nodes = second.node.nodes().await.unwrap();
        assert_eq!(nodes.iter().map(|node| (node.id, node.me)).collect::<Vec<_>>(), [(1, false), (2, true)]);
        assert_eq!(nodes.iter().map(|node| node.partitions.len()).collect::<Vec<_>>(), town.shares());
        balanced(&first.node).await;
    });
}

#[test]
fn a_killed_nodes_keys_are_served_elsewhere_in_time() {
    play(async || {
        let town = Town::new(PARTITIONS, LEASE);
        let (first, second) = (town.start(Counter::open(), 0).await, town.start(Counter::open(), 0).await);
        settled(&town, 2).await;
        ask_all(&[&first.node, &second.node], 1).await;
        first.kill();
        let died = Instant::now();
        ask_all(&[&second.node], 2).await;
        assert!(died.elapsed() < LEASE + Duration::from_secs(1), "{:?}", died.elapsed());
        assert_eq!(town.shares(), [16]);
        balanced(&second.node).await;
    });
}

#[test]
fn what_a_node_leaves_is_taken_over_at_once() {
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        let shut = Counter::shut();
        let (first, second) = (town.start(shut.clone(), 0).await, town.start(Counter::open(), 0).await);
        settled(&town, 2).await;
        // One handler still runs: only its partition waits for it.
        let key = key_of(&first.node, first.id()).await;
        first.node.tell(Counter::at(key.as_str()), 5).await.unwrap();
        until("it runs", async || shut.begun() == [5]).await;
        let drained = actix::spawn({
            let node = first.node.clone();
            async move { node.drain(LONG).await }
        });
        until("the rest is taken", async || town.shares() == [1, 15]).await;
        assert!(!drained.is_finished());
        shut.let_through(1);
        drained.await.unwrap();
        settled(&town, 1).await;
        assert_eq!(second.node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 6);
        assert!(first.node.tell(Counter::at("a"), 1).await.is_err());
        balanced(&second.node).await;
    });
}

#[test]
fn a_node_that_was_given_up_comes_back_as_another() {
    play(async || {
        let town = Town::new(PARTITIONS, LEASE);
        let node = town.start(Counter::open(), 1).await;
        ask_all(&[&node.node], 1).await;
        town.expel(node.id());
        until("it is back", async || node.id() == 2 && town.is_settled()).await;
        ask_all(&[&node.node], 2).await;
        balanced(&node.node).await;
    });
}

#[test]
fn a_command_whose_partition_is_lost_again_and_again_has_ended_no_process() {
    play(async || {
        let town = Town::new(1, LONG);
        let shut = Counter::shut();
        let node = town.start(shut.clone(), 0).await;
        lose_again_and_again(&town, &node, &shut, 0).await;
    });
}

#[test]
fn tenures_lost_after_a_crash_are_not_counted_with_it() {
    play(async || {
        let town = Town::new(1, LEASE);
        let first = town.start(Counter::shut(), 0).await;
        first.node.tell(Counter::at("a"), 3).await.unwrap();
        let shut = Counter::shut();
        let second = town.start(shut.clone(), 0).await;
        // Whichever of the two has it, at most one dies with it.
        first.kill();
        until("it is taken over", async || shut.begun() == [3]).await;
        lose_again_and_again(&town, &second, &shut, 1).await;
    });
}

/// Takes the only partition away while a command runs, more often than one that crashes is tried.
async fn lose_again_and_again(town: &Town, node: &Resident, shut: &Counter, begun: usize) {
    let asked = actix::spawn({
        let node = node.node.clone();
        async move { node.ask(Counter::at("a"), 4).await.unwrap() }
    });
    let lost = Settings::default().crash_limit as usize + 2;
    for tenure in 0..lost {
        until("it runs", async || shut.begun().len() == tenure + 1).await;
        town.store.acquire(0).await.unwrap();
        // What it commits is refused; the new tenure handles it again.
        shut.let_through(1);
    }
    shut.let_through(2);
    assert_eq!(asked.await.unwrap(), 4 + 3 * begun as u64);
    assert!(node.node.dead(Default::default(), None, 9).await.unwrap().is_empty());
    balanced(&node.node).await;
}

#[test]
fn a_partition_taken_behind_its_owners_back_is_opened_anew() {
    play(async || {
        let town = Town::new(1, LONG);
        let shut = Counter::shut();
        let node = town.start(shut.clone(), 0).await;
        let asked = actix::spawn({
            let node = node.node.clone();
            async move { node.ask(Counter::at("a"), 3).await.unwrap() }
        });
        until("it runs", async || shut.begun() == [3]).await;
        town.store.acquire(0).await.unwrap();
        // What it commits is refused; the new tenure handles it again.
        shut.let_through(2);
        assert_eq!(asked.await.unwrap(), 3);
        assert_eq!(shut.begun(), [3, 3]);
        balanced(&node.node).await;
    });
}

#[test]
fn a_node_that_cannot_show_that_it_lives_stops_and_goes_on_when_it_can() {
    play(async || {
        // A twelfth of it is what a busy machine may add.
        let lease = Duration::from_secs(6);
        let town = Town::new(PARTITIONS, lease);
        let node = town.start(Counter::open(), 0).await;
        ask_all(&[&node.node], 1).await;
        assert_eq!(node.node.shared.open(), 16);
        node.mute();
        let muted = Instant::now();
        until("it stops", async || node.node.shared.open() == 0).await;
        assert!(muted.elapsed() < lease, "{:?}", muted.elapsed());
        node.unmute();
        ask_all(&[&node.node], 2).await;
        balanced(&node.node).await;
    });
}

#[test]
fn a_request_is_seen_followed_and_cancelled_through_any_node() {
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        let shut = Counter::shut();
        let (first, second) = (town.start(Counter::open(), 0).await, town.start(shut.clone(), 1).await);
        settled(&town, 2).await;
        let (node, key) = (&first.node, key_of(&first.node, second.id()).await);
        let running = node.tell(Counter::at(key.as_str()), 5).await.unwrap();
        let waiting = node.tell(Counter::at(key.as_str()), 7).await.unwrap();
        let mut changes = node.watch(running).await.unwrap();
        until("it runs", async || view(node, running).await.status == State::Processing).await;
        assert_eq!(view(node, waiting).await.status, State::Accepted);
        assert!(matches!(node.cancel(waiting).await.unwrap(), Cancel::Cancelled));
        assert!(
            matches!(node.cancel(waiting).await.unwrap(), Cancel::Refused(Found::Here(view)) if view.status.ended())
        );
        let Cancel::Refused(Found::Here(seen)) = node.cancel(running).await.unwrap() else { panic!("cancelled") };
        assert_eq!((seen.status, seen.attempts), (State::Processing, 1));
        changes.borrow_and_update();
        shut.let_through(1);
        until("it ends", async || {
            changes.changed().await.unwrap();
            view(node, running).await.status == State::Completed
        })
        .await;
        assert_eq!(shut.begun(), [5]);
        // A result of nothing is a result.
        shut.let_through(1);
        assert_eq!(node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 6);
        balanced(node).await;
    });
}

#[test]
fn a_lost_letter_is_made_up_for() {
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        let shut = Counter::shut();
        let (first, second) = (town.start(Counter::open(), 0).await, town.start(shut.clone(), 0).await);
        settled(&town, 2).await;
        let key = key_of(&first.node, second.id()).await;
        town.lose_post(true);
        let running = first.node.tell(Counter::at(key.as_str()), 5).await.unwrap();
        until("it runs", async || shut.begun() == [5]).await;
        // Nobody can say: that is no verdict.
        let error = first.node.cancel(running).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("did not answer"), "{error}");
        assert_eq!(view(&first.node, running).await.status, State::Accepted);
        let mut changes = first.node.watch(running).await.unwrap();
        shut.let_through(2);
        changes.changed().await.unwrap();
        assert_eq!(first.node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 6);
        balanced(&first.node).await;
    });
}

#[test]
fn a_wait_is_told_by_the_node_that_did_the_work() {
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        let (first, second) = (town.start(Counter::open(), 0).await, town.start(Counter::open(), 1).await);
        settled(&town, 2).await;
        let key = key_of(&first.node, second.id()).await;
        let accept = Accept {
            to: Counter::at(key.as_str()).address().unwrap(),
            command: serde_json::value::to_raw_value(&3).unwrap(),
            due: None,
            trace: None,
            idempotency: None,
            fence: None,
            wait: true,
        };
        let accepted = first.node.accept(accept).await.unwrap();
        let told = accepted.ended.unwrap().await.unwrap();
        assert_eq!((told.request, told.status, told.attempts), (accepted.request, State::Completed, 1));
        assert_eq!(told.result.unwrap().get(), "3");
    });
}

#[test]
fn a_dead_letter_that_a_stale_owner_does_not_record_is_recorded_by_the_next() {
    play(async || {
        let (town, hold) = (Town::new(1, LONG), Arc::<Hold>::default());
        let settings = Settings { arbiters: 0, ..Settings::default() };
        let node = town.start_held(Counter::open(), settings, Some(hold.clone())).await;
        let page = hold_back(&hold.page);
        let envelope = Envelope::empty("unknown/a".parse().unwrap());
        let unknown =
            Append { envelope: Envelope { note: None, ..envelope }, due: None, idempotency: None, fence: None };
        assert!(town.store.append(vec![unknown]).await[0].is_ok());
        until("it is read", async || is_asked(&hold.page)).await;
        town.store.acquire(0).await.unwrap();
        page.send(()).unwrap();
        until("it is a dead letter", async || node.node.audit().await.unwrap().dead == 1).await;
    });
}

#[test]
fn a_blocked_thread_moves_only_its_own_partitions() {
    let counter = Counter::open();
    let block = counter.block.clone();
    let blocked = block.lock().unwrap();
    play(async || {
        let town = Town::new(PARTITIONS, LONG);
        // Long enough that a busy machine does not look like a blocked thread.
        let settings = Settings { arbiters: 2, stall: Duration::from_secs(2), ..Settings::default() };
        let (first, second) = (town.start_as(counter, settings).await, town.start(Counter::open(), 1).await);
        settled(&town, 2).await;
        let node = &second.node;
        let before = node.partitions().await.unwrap();
        let key = key_of(node, first.id()).await;
        let thread = Counter::at(key.as_str()).address().unwrap().partition(PARTITIONS) % 2;
        assert!(
            node.ask(Counter::at(key.as_str()), BLOCK).await.unwrap_err().to_string().contains("blocked its thread")
        );
        ask_all(&[&first.node, node], 1).await;
        let after = node.partitions().await.unwrap();
        for (before, after) in before.iter().zip(&after) {
            let moved = before.node == Some(first.id()) && before.partition % 2 == thread;
            assert_eq!((after.node, after.epoch - before.epoch), (before.node, u64::from(moved)), "{after:?}");
        }
        let audit = node.audit().await.unwrap();
        assert!(audit.balanced && audit.dead == 1, "{audit:?}");
    });
    drop(blocked);
}

#[test]
fn a_suspect_that_blocks_its_thread_keeps_no_other_suspect_waiting() {
    let counter = Counter::open();
    let block = counter.block.clone();
    let blocked = block.lock().unwrap();
    play(async || {
        let town = Town::new(1, LONG);
        // A process that dies while both run: what the first one ran was not counted, what the second one did is.
        for (life, shut) in [Counter::shut(), Counter::shut()].into_iter().enumerate() {
            let dies = town.start(shut.clone(), 0).await;
            if life == 0 {
                dies.node.tell(Counter::at("a"), BLOCK).await.unwrap();
                dies.node.tell(Counter::at("b"), 7).await.unwrap();
            }
            until("both run", async || shut.begun().len() == 2).await;
            dies.kill();
            town.expel(dies.id());
        }
        let settings = Settings { arbiters: 1, stall: Duration::from_secs(2), ..Settings::default() };
        let node = town.start_as(counter, settings).await;
        until("what blocks is in the dead letters and the other one is done", async || {
            let audit = node.node.audit().await.unwrap();
            (audit.completed, audit.dead) == (1, 1)
        })
        .await;
    });
    drop(blocked);
}

#[test]
fn what_a_blocked_thread_has_lost_goes_to_another_node() {
    let counter = Counter::open();
    let block = counter.block.clone();
    let blocked = block.lock().unwrap();
    play(async || {
        let town = Town::new(PARTITIONS, Duration::from_secs(2));
        let settings = Settings { arbiters: 1, stall: Duration::from_secs(4), ..Settings::default() };
        let first = town.start_as(counter.clone(), settings).await;
        first.node.tell(Counter::at("a"), BLOCK).await.unwrap();
        until("its thread is blocked", async || counter.begun() == [BLOCK]).await;
        first.mute();
        until("it stops", async || first.node.shared.open() == 0).await;
        let second = town.start(Counter::open(), 0).await;
        first.unmute();
        settled(&town, 2).await;
        let key = key_of(&second.node, second.id()).await;
        assert_eq!(second.node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 1);
    });
    drop(blocked);
}
