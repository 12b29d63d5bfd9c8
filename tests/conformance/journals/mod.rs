//! Journals: part of their message, written with a commit or not at all, kept as long as the message is
//! known.

mod waiting;

use std::collections::HashSet;

use greenroom::{
    backend::{DeadFilter, Deferral, JournalWrite, Lookup, Refused, Sent, StateWrite, Status, embedded::Embedded},
    error::Failure,
};

use super::*;

/// "Waits for something that comes from outside": the last millisecond of the year 9999.
const FAR: i64 = 253_402_300_799_999;

pub(super) fn own(position: Position, entries: &[&str]) -> JournalWrite {
    let entries = entries.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    JournalWrite { position, entries, own: true, wake: false }
}

/// An answer or a signal.
fn outside(position: Position, entries: &[&str]) -> JournalWrite {
    JournalWrite { own: false, wake: true, ..own(position, entries) }
}

fn waits(stored: &Stored, due: i64, blocks: bool) -> Deferral {
    let (position, home) = (stored.position, stored.home);
    Deferral { position, home, due, attempts: 0, failures: Vec::new(), blocks }
}

pub(super) async fn entries(backend: &Arc<dyn Backend>, position: Position) -> Vec<String> {
    let journal = backend.journal(position).await.unwrap();
    journal.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect()
}

pub(super) fn writes(to: &str, journals: Vec<JournalWrite>) -> Arc<Vec<Commit>> {
    vec![Commit { journals, ..commit(to) }].into()
}

/// A partition with its lease, and messages to `thing/a` that wait in its mailbox.
struct Stage {
    backend: Arc<dyn Backend>,
    lease: Lease,
    messages: Vec<Stored>,
}

fn stage<F: Future<Output = ()>>(messages: usize, play: impl Fn(Stage) -> F) {
    each(|backend| {
        let play = &play;
        async move {
            let partition = address("thing/a").partition(4);
            let lease = take(&backend, partition).await;
            for n in 0..messages {
                append(&backend, message("thing/a", &n.to_string())).await;
            }
            let messages = backend.read(partition, start(partition), messages.max(1)).await.unwrap();
            play(Stage { backend, lease, messages }).await;
        }
    });
}

impl Stage {
    async fn commit(&self, commit: Commit) -> Result<(), Refused> {
        self.backend.commit(self.lease, vec![commit].into()).await.remove(0)
    }

    async fn write(&self, journal: JournalWrite) -> Result<(), Refused> {
        self.commit(Commit { journals: vec![journal], ..commit("thing/a") }).await
    }

    async fn defer(&self, deferral: Deferral) {
        assert_eq!(self.commit(Commit { deferred: vec![deferral], ..commit("thing/a") }).await, Ok(()));
    }

    /// Ends a message wherever it is.
    async fn end(&self, message: &Stored, done: Done) {
        let Lookup::Waiting(stored) = self.backend.lookup(message.position).await.unwrap() else { panic!("not there") };
        let done = Done { home: stored.home, ..done };
        assert_eq!(self.commit(Commit { done: vec![done], ..commit("thing/a") }).await, Ok(()));
    }

    async fn journaled(&self) -> Vec<Position> {
        let mut positions = self.backend.journaled(self.lease.partition).await.unwrap();
        positions.sort_unstable();
        positions
    }

    async fn waiting(&self, message: &Stored) -> Stored {
        match self.backend.lookup(message.position).await.unwrap() {
            Lookup::Waiting(stored) => stored,
            other => panic!("does not wait: {other:?}"),
        }
    }

    /// Messages that are due, and when the next one is.
    async fn due(&self, now: i64) -> (Vec<Position>, Option<i64>) {
        let due = self.backend.due(self.lease.partition, now, None, HashSet::new(), 10).await.unwrap();
        (due.messages.iter().map(|stored| stored.position).collect(), due.next)
    }

    async fn blocking(&self) -> Vec<Position> {
        let parked = self.backend.parked(&address("thing/a"), start(self.lease.partition), 10).await.unwrap();
        parked.iter().map(|stored| stored.position).collect()
    }

    async fn balanced(&self) -> (u64, u64, u64, u64) {
        let audit = self.backend.audit().await.unwrap();
        assert!(audit.balanced, "{audit:?}");
        (audit.completed, audit.dead, audit.cancelled, audit.in_flight)
    }
}

fn with_journal(stored: &Stored) -> Done {
    Done { journal: true, ..done(stored) }
}

fn failure() -> Failure {
    Failure { terminal: true, ..greenroom::Error::terminal("no").failure(1, NOW) }
}

#[test]
fn entries_come_in_order_and_with_everything_else_of_their_commit() {
    stage(2, |stage| async move {
        let [one, two] = &stage.messages[..] else { panic!("two") };
        assert_eq!(entries(&stage.backend, one.position).await, Vec::<String>::new());
        assert_eq!(stage.write(own(one.position, &["a", "b"])).await, Ok(()));
        assert_eq!(stage.waiting(one).await.home, Home::Mailbox, "a journal moves nothing");
        let mut all = commit("thing/a");
        all.journals =
            vec![own(one.position, &["c"]), own(two.position, &["", "\u{0}\u{1}"]), own(one.position, &["d"])];
        all.deferred.push(waits(one, NOW + 50, true));
        all.outbox.push(Sent { envelope: envelope("thing/b", "7").into(), due: None });
        assert_eq!(stage.commit(all).await, Ok(()));
        arrived(&stage.backend, 3).await;
        assert_eq!(entries(&stage.backend, one.position).await, ["a", "b", "c", "d"]);
        assert_eq!(entries(&stage.backend, two.position).await, ["", "\u{0}\u{1}"]);
        assert_eq!(stage.due(NOW).await, (vec![], Some(NOW + 50)));
        assert_eq!(stage.journaled().await, [one.position, two.position]);
        let other = (stage.lease.partition + 1) % 4;
        assert_eq!(stage.backend.journaled(other).await.unwrap(), []);
        assert_eq!(stage.write(own(one.position, &["e"])).await, Ok(()), "deferred, it still waits");
        assert_eq!(entries(&stage.backend, one.position).await, ["a", "b", "c", "d", "e"]);
        assert_eq!(stage.balanced().await.3, 3);
    });
}

#[test]
fn many_and_large_entries_are_kept_as_they_are() {
    stage(1, |stage| async move {
        let one = &stage.messages[0];
        let mut all: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_le_bytes().to_vec()).collect();
        all.push((0..300_000u32).map(|n| n as u8).collect());
        for half in all.chunks(1600) {
            let written = JournalWrite { entries: half.to_vec(), ..own(one.position, &[]) };
            assert_eq!(stage.write(written).await, Ok(()));
        }
        assert!(stage.backend.journal(one.position).await.unwrap() == all);
        stage.end(one, Done { keep: false, ..with_journal(one) }).await;
        assert!(stage.backend.journal(one.position).await.unwrap().is_empty());
    });
}

#[test]
fn a_commit_that_is_refused_writes_no_entry() {
    stage(2, |stage| async move {
        let [one, two] = &stage.messages[..] else { panic!("two") };
        stage.end(two, done(two)).await;
        // What its own handler writes for a message that has ended is refused with all else.
        let mut late = commit("thing/a");
        late.journals = vec![own(one.position, &["a"]), own(two.position, &["late"])];
        late.deferred.push(waits(one, NOW + 50, true));
        assert_eq!(stage.commit(late).await, Err(Refused::Gone(two.position)));
        // And so is what is refused for another reason.
        let mut gone = commit("thing/a");
        gone.journals.push(own(one.position, &["a"]));
        gone.deferred.push(waits(two, NOW + 50, true));
        assert_eq!(stage.commit(gone).await, Err(Refused::Gone(two.position)));
        assert_eq!(stage.waiting(one).await.home, Home::Mailbox);
        assert_eq!(stage.journaled().await, []);
        for message in [one, two] {
            assert!(entries(&stage.backend, message.position).await.is_empty());
        }
        // Its group goes on.
        let both = vec![
            Commit { journals: vec![own(two.position, &["late"])], ..commit("thing/a") },
            Commit { journals: vec![own(one.position, &["a"])], ..commit("thing/a") },
        ];
        let answers = stage.backend.commit(stage.lease, both.into()).await;
        assert_eq!(answers, [Err(Refused::Gone(two.position)), Ok(())]);
        assert_eq!(entries(&stage.backend, one.position).await, ["a"]);
    });
}

#[test]
fn a_stale_owner_writes_no_entry() {
    stage(1, |stage| async move {
        let one = stage.messages[0].position;
        let new = take(&stage.backend, stage.lease.partition).await;
        assert_eq!(stage.write(own(one, &["old"])).await, Err(Refused::Stale));
        assert_eq!(stage.write(outside(one, &["old"])).await, Err(Refused::Stale));
        assert_eq!(stage.backend.commit(new, writes("thing/a", vec![own(one, &["new"])])).await, [Ok(())]);
        assert_eq!(entries(&stage.backend, one).await, ["new"]);
    });
}

#[test]
fn what_comes_from_outside_for_a_message_that_ended_is_dropped_and_the_rest_happens() {
    stage(4, |stage| async move {
        let [ended, dead, waiting, ends] = &stage.messages[..] else { panic!("four") };
        assert_eq!(stage.write(own(ended.position, &["a"])).await, Ok(()));
        stage.end(ended, with_journal(ended)).await;
        stage.end(dead, Done { outcome: Outcome::Dead(vec![failure()]), ..done(dead) }).await;
        let mut answers = commit("thing/a");
        answers.journals = [ended, dead, waiting].map(|message| outside(message.position, &["answer"])).to_vec();
        answers.journals.push(outside(Position::new(stage.lease.partition, 999), &["answer"]));
        answers.done.push(done(ends));
        assert_eq!(stage.commit(answers).await, Ok(()));
        assert_eq!(entries(&stage.backend, ended.position).await, ["a"]);
        // A dead letter has not ended: redriven, it goes on.
        assert_eq!(entries(&stage.backend, dead.position).await, ["answer"]);
        assert_eq!(entries(&stage.backend, waiting.position).await, ["answer"]);
        assert_eq!(stage.journaled().await, [dead.position, waiting.position]);
        assert!(matches!(stage.backend.lookup(ends.position).await.unwrap(), Lookup::Ended(_)));
        assert_eq!(stage.balanced().await, (2, 1, 0, 1));
    });
}

#[test]
fn a_journal_is_kept_beside_a_kept_result_and_forgotten_with_it() {
    stage(5, |stage| async move {
        let [kept, failed, forgotten, plain, waiting] = &stage.messages[..] else { panic!("five") };
        for message in [kept, failed, forgotten, waiting] {
            assert_eq!(stage.write(own(message.position, &["a"])).await, Ok(()));
        }
        stage.end(kept, with_journal(kept)).await;
        stage.end(failed, Done { outcome: Outcome::Failed(failure()), ..with_journal(failed) }).await;
        stage.end(forgotten, Done { keep: false, ..with_journal(forgotten) }).await;
        stage.end(plain, done(plain)).await;
        assert_eq!(stage.journaled().await, [waiting.position]);
        assert_eq!(entries(&stage.backend, kept.position).await, ["a"]);
        assert_eq!(entries(&stage.backend, failed.position).await, ["a"]);
        assert!(entries(&stage.backend, forgotten.position).await.is_empty());
        stage.backend.expire(NOW, NOW).await.unwrap();
        assert_eq!(entries(&stage.backend, kept.position).await, ["a"], "its time has not come");
        stage.backend.expire(NOW + 1, NOW).await.unwrap();
        assert!(matches!(stage.backend.lookup(kept.position).await.unwrap(), Lookup::Expired));
        for message in [kept, failed] {
            assert!(entries(&stage.backend, message.position).await.is_empty());
        }
        assert_eq!(entries(&stage.backend, waiting.position).await, ["a"]);
        assert_eq!(stage.journaled().await, [waiting.position]);
        stage.balanced().await;
    });
}

#[test]
fn the_last_entries_may_come_with_the_end() {
    stage(3, |stage| async move {
        let [kept, forgotten, stateful] = &stage.messages[..] else { panic!("three") };
        let ends = |message: &Stored, done| Commit {
            journals: vec![own(message.position, &["last"])],
            done: vec![done],
            ..commit("thing/a")
        };
        assert_eq!(stage.commit(ends(kept, with_journal(kept))).await, Ok(()));
        // Though its end does not say so, there is a journal now: it goes with the message.
        assert_eq!(stage.commit(ends(forgotten, Done { keep: false, ..done(forgotten) })).await, Ok(()));
        let mut writes = ends(stateful, with_journal(stateful));
        writes.state = Some(StateWrite { from: 0, doc: saved("one"), fields: Vec::new() });
        assert_eq!(stage.commit(writes).await, Ok(()));
        assert_eq!(entries(&stage.backend, kept.position).await, ["last"]);
        assert!(entries(&stage.backend, forgotten.position).await.is_empty());
        assert_eq!(entries(&stage.backend, stateful.position).await, ["last"]);
        assert_eq!(stage.backend.load(vec![address("thing/a")]).await.unwrap()[0].doc, saved("one"));
        assert_eq!(stage.journaled().await, []);
        assert_eq!(stage.balanced().await, (3, 0, 0, 0));
    });
}

#[test]
fn a_message_with_a_journal_is_not_cancelled_as_if_nothing_had_begun() {
    stage(3, |stage| async move {
        let [mailbox, deferred, plain] = &stage.messages[..] else { panic!("three") };
        stage.defer(waits(deferred, FAR, false)).await;
        assert_eq!(stage.write(own(mailbox.position, &["a"])).await, Ok(()));
        assert_eq!(stage.write(own(deferred.position, &["a"])).await, Ok(()));
        for (message, cancelled) in [(mailbox, false), (deferred, false), (plain, true)] {
            assert_eq!(stage.backend.cancel(stage.lease, message.position, NOW).await.unwrap(), cancelled);
        }
        assert_eq!(entries(&stage.backend, deferred.position).await, ["a"]);
        assert_eq!(stage.balanced().await, (0, 0, 1, 2));
    });
}

#[test]
fn a_dead_letter_keeps_its_journal_through_redrive_and_discard() {
    stage(2, |stage| async move {
        let [one, two] = &stage.messages[..] else { panic!("two") };
        for message in [one, two] {
            assert_eq!(stage.write(own(message.position, &["a"])).await, Ok(()));
            let dies = Done { outcome: Outcome::Dead(vec![failure()]), attempts: 3, ..with_journal(message) };
            stage.end(message, dies).await;
        }
        assert_eq!(stage.backend.dead(DeadFilter::default(), None, 10).await.unwrap().len(), 2);
        assert_eq!(stage.journaled().await, [one.position, two.position]);
        assert_eq!(stage.write(own(one.position, &["late"])).await, Err(Refused::Gone(one.position)));
        assert_eq!(stage.backend.redrive(vec![one.position], NOW).await.unwrap(), 1);
        let redriven = stage.waiting(one).await;
        assert_eq!((redriven.attempts, redriven.failures.len()), (0, 0));
        assert_eq!(stage.write(own(one.position, &["b"])).await, Ok(()));
        assert_eq!(entries(&stage.backend, one.position).await, ["a", "b"]);
        assert_eq!(stage.backend.discard(vec![two.position], NOW).await.unwrap(), 1);
        assert_eq!(stage.journaled().await, [one.position]);
        assert_eq!(entries(&stage.backend, two.position).await, ["a"], "it lies beside the cancelled result");
        stage.backend.expire(NOW + 1, NOW).await.unwrap();
        assert!(entries(&stage.backend, two.position).await.is_empty());
        assert_eq!(entries(&stage.backend, one.position).await, ["a", "b"]);
        assert_eq!(stage.balanced().await, (0, 0, 1, 1));
    });
}

#[test]
fn what_runs_can_end_as_cancelled_with_its_attempts_and_its_journal() {
    stage(2, |stage| async move {
        let [mailbox, deferred] = &stage.messages[..] else { panic!("two") };
        stage.defer(waits(deferred, FAR, false)).await;
        assert_eq!(stage.write(own(deferred.position, &["a"])).await, Ok(()));
        stage.end(mailbox, Done { outcome: Outcome::Cancelled, attempts: 1, ..done(mailbox) }).await;
        stage.end(deferred, Done { outcome: Outcome::Cancelled, attempts: 2, ..with_journal(deferred) }).await;
        for (message, attempts) in [(mailbox, 1), (deferred, 2)] {
            let found = stage.backend.lookup(message.position).await.unwrap();
            let Lookup::Ended(ended) = found else { panic!("not ended: {found:?}") };
            assert_eq!((ended.status, ended.attempts, ended.ended), (Status::Cancelled, attempts, NOW));
            assert!(ended.reply.is_none() && ended.error.is_none());
        }
        assert_eq!(entries(&stage.backend, deferred.position).await, ["a"]);
        assert_eq!(stage.due(FAR).await, (vec![], None));
        assert_eq!(stage.balanced().await, (0, 0, 2, 0));
    });
}

#[test]
fn journals_are_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    actix::System::new().block_on(async {
        let open = || -> Arc<dyn Backend> { Arc::new(Embedded::open(data.path(), options.clone()).unwrap()) };
        let before = open();
        let position = append(&before, message("thing/a", "1")).await;
        let lease = take(&before, position.partition()).await;
        let answers = before.commit(lease, writes("thing/a", vec![own(position, &["a", "b"])])).await;
        assert_eq!(answers, [Ok(())]);
        drop(before);
        let after = open();
        assert_eq!(entries(&after, position).await, ["a", "b"]);
        assert_eq!(after.journaled(position.partition()).await.unwrap(), [position]);
    });
}
