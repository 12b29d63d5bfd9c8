//! One effect across Redis and MongoDB: each hard case of the protocol by its name (see
//! `src/backend/cluster`), with two nodes on the same real servers.

use greenroom::{
    backend::{Lookup, Nodes, Refused, Sent, StateWrite, Status, cluster::Cluster},
    error::Failure,
};

use super::{
    journals::{entries, own, writes},
    *,
};

pub(super) const KEY: &str = "thing/a";

/// Two nodes, `old` with the lease of the actor's partition and a message read, `new` without.
pub(super) struct Pair {
    pub(super) old: Arc<dyn Backend>,
    pub(super) new: Arc<dyn Backend>,
    pub(super) lease: Lease,
    pub(super) message: Stored,
    pub(super) options: greenroom::backend::cluster::Options,
}

pub(super) fn pair<F: Future<Output = ()>>(play: impl Fn(Pair) -> F) {
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        let options = which.cluster(&options).unwrap();
        actix::System::new().block_on(async {
            let node = async || -> Arc<dyn Backend> {
                let node = Cluster::open(options.clone()).unwrap();
                node.join().await.unwrap();
                node.beat().await.unwrap();
                let node: Arc<dyn Backend> = Arc::new(node);
                node.declare("thing", true, &[]).await.unwrap();
                node
            };
            let (old, new) = (node().await, node().await);
            old.beat().await.unwrap();
            let partition = address(KEY).partition(4);
            let lease = take(&old, partition).await;
            append(&old, message(KEY, "1")).await;
            let message = first(&old, partition, start(partition)).await;
            old.open(lease, vec![address(KEY)]).await.unwrap();
            play(Pair { old, new, lease, message, options: options.clone() }).await;
        });
    }
}

impl Pair {
    /// The new node takes over: the old one is given up, and does not know.
    pub(super) async fn take_over(&self) -> Lease {
        let held = self.new.acquire(self.lease.partition).await.unwrap();
        assert_eq!(held, Acquired::Held(self.old.me()), "the old node lives");
        let seen = self.new.beat().await.unwrap().into_iter().find(|member| member.id == self.old.me()).unwrap();
        assert!(self.new.give_up(seen).await.unwrap());
        self.new.beat().await.unwrap();
        let lease = take(&self.new, self.lease.partition).await;
        assert!(lease.epoch > self.lease.epoch && !lease.clean);
        lease
    }

    /// The new node takes over, reads a second message and opens the actor; then the old one's state lands, on top of
    /// what the new one has opened.
    pub(super) async fn replace_opened(&self) -> (Lease, Stored) {
        let lease = self.take_over().await;
        append(&self.new, message(KEY, "2")).await;
        let second = self.new.read(lease.partition, self.message.position, 1).await.unwrap().remove(0);
        self.new.open(lease, vec![address(KEY)]).await.unwrap();
        assert_eq!(self.old.commit(self.lease, vec![self.effect(0, "late")].into()).await, [Err(Refused::Stale)]);
        (lease, second)
    }

    /// What the old owner does with its message: state, result and two messages to other actors.
    pub(super) fn effect(&self, from: u64, text: &str) -> Commit {
        let mut all = commit(KEY);
        all.state = Some(StateWrite { from, doc: saved(text), fields: Vec::new() });
        all.done.push(done(&self.message));
        for to in receivers(self.lease.partition) {
            all.outbox.push(Sent { envelope: envelope(&to, "7").into(), due: None });
        }
        all
    }

    async fn state(&self) -> (u64, Vec<u8>) {
        let loaded = self.new.load(vec![address(KEY)]).await.unwrap().remove(0);
        (loaded.rev, loaded.doc)
    }

    /// The effect happened once: state, result, and each receiver has one message.
    pub(super) async fn once(&self, text: &str) {
        arrived(&self.new, 3).await;
        assert_eq!(self.state().await, (1, saved(text)));
        let Lookup::Ended(ended) = self.new.lookup(self.message.position).await.unwrap() else { panic!("not ended") };
        assert_eq!(ended.status, Status::Completed);
        for to in receivers(self.lease.partition) {
            let partition = address(&to).partition(4);
            let there = self.new.read(partition, start(partition), 10).await.unwrap();
            assert_eq!(there.len(), 1, "{to}");
        }
        let audit = self.new.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.completed, audit.in_flight, audit.balanced), (3, 1, 2, true), "{audit:?}");
    }
}

/// One actor in each of two other partitions.
pub(super) fn receivers(partition: u16) -> Vec<String> {
    let mut names: Vec<(u16, String)> = Vec::new();
    for n in 0.. {
        let name = format!("thing/r{n}");
        let at = address(&name).partition(4);
        if at != partition && names.iter().all(|(taken, _)| *taken != at) {
            names.push((at, name));
        }
        if names.len() == 2 {
            break;
        }
    }
    names.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn a_state_written_before_the_takeover_is_finished_by_the_next_owner() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        // The old owner's state lands, and it goes no further: a crash in between looks the same.
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        assert_eq!(pair.state().await, (1, saved("old")));
        assert!(matches!(pair.new.lookup(pair.message.position).await.unwrap(), Lookup::Waiting(_)));
        // An owner that read the message before must not handle it: not after it has finished the commit, nor when
        // the answer of that was lost and it opens the actor again.
        for finished in [[(pair.message.position, Home::Mailbox)]; 2] {
            let loaded = pair.new.open(lease, vec![address(KEY)]).await.unwrap().remove(0);
            assert_eq!((loaded.rev, loaded.doc, loaded.finished), (1, saved("old"), finished.to_vec()));
        }
        pair.once("old").await;
    });
}

#[test]
fn a_half_done_commit_with_a_journal_is_finished_by_the_next_owner_and_its_entries_are_there_once() {
    pair(|pair| async move {
        let at = pair.message.position;
        let first = writes(KEY, vec![own(at, &["one"])]);
        assert_eq!(pair.old.commit(pair.lease, first).await, [Ok(())]);
        let lease = pair.take_over().await;
        let mut last = pair.effect(0, "old");
        last.journals.push(own(at, &["two", "three"]));
        last.done[0].journal = true;
        assert_eq!(pair.old.commit(pair.lease, vec![last].into()).await, [Err(Refused::Stale)]);
        assert_eq!(entries(&pair.new, at).await, ["one"], "of the last commit only the state is there");
        assert_eq!(pair.new.journaled(lease.partition).await.unwrap(), [at]);
        for finished in [[(at, Home::Mailbox)]; 2] {
            let loaded = pair.new.open(lease, vec![address(KEY)]).await.unwrap().remove(0);
            assert_eq!((loaded.doc, loaded.finished), (saved("old"), finished.to_vec()));
            assert_eq!(entries(&pair.new, at).await, ["one", "two", "three"]);
        }
        assert!(pair.new.journaled(lease.partition).await.unwrap().is_empty());
        pair.once("old").await;
        pair.new.expire(NOW + 1, NOW).await.unwrap();
        assert!(entries(&pair.new, at).await.is_empty());
    });
}

#[test]
fn a_late_write_of_a_stale_owner_is_on_top_of_what_the_new_one_read_or_refused() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        // It lands after the new owner has read, so the new owner's own write must not.
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "late")].into()).await, [Err(Refused::Stale)]);
        assert_eq!(pair.new.commit(lease, vec![pair.effect(0, "new")].into()).await, [Err(Refused::Stale)]);
        // Starting over, the new owner finds the effect, and finishes it.
        let lease = take(&pair.new, lease.partition).await;
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        pair.once("late").await;
    });
}

#[test]
fn what_was_decided_on_a_state_that_a_stale_owner_has_replaced_is_refused() {
    pair(|pair| async move {
        let (lease, second) = pair.replace_opened().await;
        // An answer that changes no state, given from the state before.
        let mut answers = commit(KEY);
        answers.seen = Some(0);
        answers.done.push(done(&second));
        assert_eq!(pair.new.commit(lease, vec![answers].into()).await, [Err(Refused::Stale)]);
        assert!(matches!(pair.new.lookup(second.position).await.unwrap(), Lookup::Waiting(_)));
    });
}

#[test]
fn once_the_new_owner_has_written_a_stale_owners_write_is_refused() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        assert_eq!(pair.new.commit(lease, vec![pair.effect(0, "new")].into()).await, [Ok(())]);
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(1, "old")].into()).await, [Err(Refused::Stale)]);
        pair.once("new").await;
    });
}

#[test]
fn what_the_new_owner_ends_without_a_state_no_stale_owner_completes() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        // It fails the message: nothing of the state changes, and yet the old owner's must not either.
        let mut fails = commit(KEY);
        let failure = Failure { terminal: true, ..greenroom::Error::terminal("no").failure(1, NOW) };
        fails.done.push(Done { outcome: Outcome::Failed(failure), ..done(&pair.message) });
        assert_eq!(pair.new.commit(lease, vec![fails].into()).await, [Ok(())]);
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        assert_eq!(pair.state().await.1, Vec::<u8>::new());
        let audit = pair.new.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.completed, audit.failed, audit.balanced), (1, 0, 1, true), "{audit:?}");
    });
}

#[test]
fn what_the_new_owner_cancels_no_stale_owner_completes() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        assert!(pair.new.cancel(lease, pair.message.position, NOW).await.unwrap());
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        assert_eq!(pair.state().await.1, Vec::<u8>::new());
        assert_eq!(pair.new.audit().await.unwrap().cancelled, 1);
    });
}

#[test]
fn what_a_stale_owner_has_done_the_new_one_cannot_cancel() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        // What the new one may be opening just now it has not seen: its lease ends, and the next one knows.
        assert!(pair.new.cancel(lease, pair.message.position, NOW).await.unwrap_err().is_terminal());
        let lease = take(&pair.new, lease.partition).await;
        assert!(!pair.new.cancel(lease, pair.message.position, NOW).await.unwrap());
        pair.once("old").await;
    });
}

#[test]
fn an_owner_that_cancels_learns_that_a_stale_one_has_written_what_it_opened() {
    pair(|pair| async move {
        append(&pair.new, message(KEY, "2")).await;
        append(&pair.new, message(KEY, "3")).await;
        let lease = pair.take_over().await;
        let read = pair.new.read(lease.partition, pair.message.position, 2).await.unwrap();
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        // The second message is parked by it, and whoever has opened the actor before does not know of it.
        let mut late = pair.effect(0, "old");
        late.parked.push((read[0].position, Home::Mailbox));
        assert_eq!(pair.old.commit(pair.lease, vec![late].into()).await, [Err(Refused::Stale)]);
        assert!(pair.new.cancel(lease, read[1].position, NOW).await.unwrap_err().is_terminal());
        let lease = take(&pair.new, lease.partition).await;
        assert!(pair.new.open(lease, vec![address(KEY)]).await.unwrap().remove(0).parked);
        assert!(pair.new.cancel(lease, read[1].position, NOW).await.unwrap());
    });
}

#[test]
fn a_group_of_which_one_lost_the_race_commits_the_others() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        let other = (0..).map(|n| format!("thing/o{n}")).find(|o| address(o).partition(4) == lease.partition).unwrap();
        append(&pair.new, message(&other, "2")).await;
        let second = pair.new.read(lease.partition, pair.message.position, 1).await.unwrap().remove(0);
        pair.new.open(lease, vec![address(KEY), address(&other)]).await.unwrap();
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Err(Refused::Stale)]);
        let mut fine = commit(&other);
        fine.state = Some(StateWrite { from: 0, doc: saved("fine"), fields: Vec::new() });
        fine.done.push(done(&second));
        let answers = pair.new.commit(lease, vec![pair.effect(0, "new"), fine].into()).await;
        assert_eq!(answers, [Err(Refused::Stale), Ok(())]);
        assert_eq!(pair.new.load(vec![address(&other)]).await.unwrap()[0].doc, saved("fine"));
        assert_eq!(pair.state().await, (1, saved("old")));
    });
}

#[test]
fn an_outbox_half_sent_is_sent_whole_and_taken_once() {
    pair(|pair| async move {
        // Both owners deliver the same outbox, the new one from its beginning.
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Ok(())]);
        let lease = pair.take_over().await;
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        pair.once("old").await;
        // A second takeover finds nothing left to send.
        take(&pair.new, lease.partition).await;
        pair.once("old").await;
    });
}

#[test]
fn a_stale_owner_counts_parks_and_lets_go_of_nothing() {
    pair(|pair| async move {
        let lease = pair.take_over().await;
        let at = (pair.message.position, Home::Mailbox);
        assert!(pair.old.begin(pair.lease, vec![at]).await.unwrap_err().is_terminal());
        assert!(pair.old.open(pair.lease, vec![address(KEY)]).await.unwrap_err().is_terminal());
        let mut parks = commit(KEY);
        parks.parked.push(at);
        assert_eq!(pair.old.commit(pair.lease, vec![parks].into()).await, [Err(Refused::Stale)]);
        pair.old.release(pair.lease).await.unwrap();
        assert_eq!(pair.new.owners().await.unwrap()[usize::from(lease.partition)].node, pair.new.me());
        assert!(pair.old.beat().await.unwrap_err().is_terminal(), "it was given up, and learns so");
        pair.old.join().await.unwrap();
        assert!(pair.old.beat().await.unwrap().iter().any(|member| member.id == pair.old.me()));
    });
}

#[test]
fn a_parcel_that_is_sent_again_after_it_arrived_is_not_taken_again() {
    use fred::prelude::*;
    pair(|pair| async move {
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "old")].into()).await, [Ok(())]);
        pair.once("old").await;
        let url = pair.options.redis.replacen(',', "?node=", 1).replace(',', "&node=");
        let client = Builder::from_config(Config::from_url(&url).unwrap()).build().unwrap();
        client.init().await.unwrap();
        let key = |partition: u16, what: &str| format!("{}:{{{partition:04}}}:{what}", pair.options.prefix);
        let (outbox, slabs) = (key(pair.lease.partition, "out:1"), key(pair.lease.partition, "outs"));
        // As if whoever delivered it had died before it took the parcel out of the outbox.
        for (n, to) in receivers(pair.lease.partition).iter().enumerate() {
            let to = address(to).partition(4);
            let envelope: Vec<u8> = client.hget(key(to, "mail:0"), "1").await.unwrap();
            // {to era seq head envelope}
            let mut parcel = vec![0x95, to as u8, 1, 1, 0xa0, 0xdb];
            parcel.extend((envelope.len() as u32).to_be_bytes());
            parcel.extend(envelope);
            let _: Value = client.hset(&outbox, ((1000 + n).to_string(), parcel.as_slice())).await.unwrap();
        }
        let _: Value = client.zadd(&slabs, None, None, false, false, (1.0, "1")).await.unwrap();
        let _: Value = client.hset(key(pair.lease.partition, "sent"), ("serial", 1001)).await.unwrap();
        pair.take_over().await;
        while client.hlen::<u64, _>(&outbox).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        pair.once("old").await;
    });
}
