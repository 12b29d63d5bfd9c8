//! The partition's committer: while one group of commits is on its way to the store, the next one
//! gathers. Commits of one key never overtake each other, because an activation has at most one
//! on its way at a time; those of several tenants take turns, in small groups.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use super::{
    early::Answers,
    shared::Shared,
    supervisor::Beat,
    turnstile::{self, Pass},
};
use crate::backend::{Commit, Decided, Lease, Refused, Tenant, turns::Turns};

/// Most commits in one group, and about how many bytes of them: all are in memory a few times, and in one call
/// to each store. A larger commit goes alone.
const GROUP: usize = 1024;
const GROUP_BYTES: usize = 4 << 20;
/// A store that takes longer is not what other partitions wait for.
const PATIENCE: Duration = Duration::from_millis(250);
/// Groups on their way at once while several tenants are there, each of another tenant.
const WAYS: usize = 2;
/// And how many tenants ask for their turn: all come to it.
const ASKING: usize = 8;

/// A commit and who waits for it.
struct Waiting {
    commit: Commit,
    waits: Waits,
}

struct Waits {
    /// Who is answered as soon as it is decided.
    answers: Option<Arc<Answers>>,
    reply: oneshot::Sender<Result<(), Refused>>,
}

/// Gathers commits.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    lease: Lease,
    thread: Arc<Beat>,
    queue: RefCell<Turns<Option<Tenant>, Waiting>>,
    wake: Rc<Notify>,
    down: Cell<bool>,
    closed: Cell<bool>,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, lease: Lease, thread: Arc<Beat>) -> Self {
        Self {
            shared,
            lease,
            thread,
            queue: RefCell::default(),
            wake: Rc::default(),
            down: Cell::default(),
            closed: Cell::default(),
        }
    }

    /// Queues a commit; the answer comes when it is durable or refused. While the store cannot
    /// write, it waits. Refused when the committer is closed.
    pub(crate) fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), Refused>> + use<> {
        self.commit_early(commit, None)
    }

    /// Likewise; `answers` leave as soon as it is decided, if that is before its end.
    pub(crate) fn commit_early(
        &self,
        commit: Commit,
        answers: Option<Arc<Answers>>,
    ) -> impl Future<Output = Result<(), Refused>> + use<> {
        let (reply, answer) = oneshot::channel();
        if !self.closed.get() {
            let tenant = self.shared.tenant(&commit.address);
            tenant.inspect(|tenant| self.shared.company.saw(*tenant));
            self.queue.borrow_mut().push(tenant, Waiting { commit, waits: Waits { answers, reply } });
            self.wake.notify_one();
        }
        async move { answer.await.unwrap_or(Err(Refused::Stale)) }
    }

    /// Takes no more commits, and refuses those that wait.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.queue.borrow_mut().clear();
    }

    /// Sends groups for ever.
    pub(crate) async fn run(&self) {
        loop {
            self.run_in_turns().await;
            let group = self.some();
            if group.is_empty() {
                self.wake.notified().await;
            } else {
                self.send(group, None).await;
            }
        }
    }

    /// Sends small groups, each of one tenant when its turn comes (at the turnstile, where there is one), while
    /// several tenants are there. What is one tenant's is sent in order: a group of it only after the one before
    /// has ended.
    async fn run_in_turns(&self) {
        let (mut leaving, mut busy) = (FuturesUnordered::new(), Vec::new());
        let (mut asking, mut asked) = (FuturesUnordered::new(), Vec::new());
        loop {
            let several = self.shared.company.is_several();
            if !several && leaving.is_empty() {
                return;
            }
            if !several || leaving.len() == WAYS {
                // Whoever is called now would only keep others out.
                asking.clear();
                asked.clear();
            } else {
                let waits = |tenant: &Option<Tenant>| !busy.contains(tenant) && !asked.contains(tenant);
                let queue = self.queue.borrow();
                let waiting: Vec<_> = queue.everybody().filter(waits).take(ASKING - asked.len()).collect();
                for tenant in waiting {
                    asked.push(tenant);
                    let called = self.shared.turnstile().map(|turnstile| turnstile.ask(tenant, &self.thread));
                    asking.push(async move {
                        let pass = match called {
                            Some(called) => called.await.map(Some),
                            None => Ok(None),
                        };
                        (tenant, pass)
                    });
                }
            }
            tokio::select! {
                Some(tenant) = leaving.next() => busy.retain(|other| *other != tenant),
                Some((tenant, called)) = asking.next() => {
                    asked.retain(|other| *other != tenant);
                    // Who is not called any more is on a thread that was given up.
                    let Ok(mut pass) = called else { return std::future::pending().await };
                    let group = self.some_of(tenant);
                    if group.is_empty() {
                        continue;
                    }
                    if let Some(pass) = &mut pass {
                        pass.weigh(group.iter().map(|waiting| waiting.commit.weight()).sum());
                    }
                    busy.push(tenant);
                    leaving.push(async move {
                        self.send(group, pass).await;
                        tenant
                    });
                }
                () = self.wake.notified() => {}
            }
        }
    }

    /// A group as large as they come.
    fn some(&self) -> Vec<Waiting> {
        let mut queue = self.queue.borrow_mut();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP && fits(queue.peek(), &mut bytes) {
            group.extend(queue.pop());
        }
        group
    }

    /// A small group of one tenant's.
    fn some_of(&self, tenant: Option<Tenant>) -> Vec<Waiting> {
        let mut queue = self.queue.borrow_mut();
        let (mut group, mut weight, mut bytes) = (Vec::new(), 0, 0);
        while weight < turnstile::GROUP && fits(queue.peek_of(tenant), &mut bytes) {
            let Some(next) = queue.pop_of(tenant) else { break };
            weight += next.commit.weight();
            group.push(next);
        }
        group
    }

    /// The store's answers; `pass` is given back with them, or when they are long in coming.
    async fn answers(&self, batch: Arc<Vec<Commit>>, decided: Decided, pass: Option<Pass>) -> Vec<Result<(), Refused>> {
        let mut answers = std::pin::pin!(self.shared.backend.commit_early(self.lease, batch, decided));
        let Some(pass) = pass else { return answers.await };
        let in_time = self.shared.clock.limit(PATIENCE, &mut answers).await;
        pass.arrived();
        match in_time {
            Some(answers) => answers,
            None => answers.await,
        }
    }

    async fn send(&self, group: Vec<Waiting>, mut pass: Option<Pass>) {
        let split = |Waiting { commit, waits }: Waiting| (commit, waits);
        let (mut commits, mut waiting): (Vec<_>, Vec<_>) = group.into_iter().map(split).unzip();
        let mut wait = Duration::from_millis(50);
        loop {
            let batch = Arc::new(commits);
            let begun = std::time::Instant::now();
            let answers = self.answers(batch.clone(), early(&waiting), pass.take()).await;
            self.shared.metrics.commit(batch.len(), begun.elapsed().as_secs_f64());
            let mut again = Vec::new();
            let mut unwritten = None;
            for ((answer, waits), commit) in answers.into_iter().zip(waiting).zip(batch.iter()) {
                if let Err(Refused::Unavailable(why)) = answer {
                    unwritten = Some(why);
                    again.push((commit.clone(), waits));
                    continue;
                }
                if answer == Err(Refused::Stale) {
                    error!(partition = self.lease.partition, address = %commit.address, "commit refused: this owner is stale");
                }
                // Whoever waited is gone; what is committed stays.
                let _ = waits.reply.send(answer);
            }
            let Some(why) = unwritten else {
                self.down.set(false);
                return;
            };
            if !self.down.replace(true) {
                warn!(partition = self.lease.partition, why, "the store cannot write; commits wait until it can");
            }
            self.shared.clock.sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
            (commits, waiting) = again.into_iter().unzip();
        }
    }
}

/// Lets the answers of each commit of a group leave when it is decided.
fn early(group: &[Waits]) -> Decided {
    if group.iter().all(|waits| waits.answers.is_none()) {
        return Decided::default();
    }
    let answers: Vec<Option<Arc<Answers>>> = group.iter().map(|waits| waits.answers.clone()).collect();
    Decided::new(move |index| {
        if let Some(Some(answers)) = answers.get(index) {
            answers.leave_early();
        }
    })
}

/// Whether the next one belongs to a group that has these bytes; then it is counted. The first always does.
fn fits(next: Option<&Waiting>, bytes: &mut usize) -> bool {
    let Some(next) = next else { return false };
    let more = next.commit.bytes();
    let fits = *bytes == 0 || *bytes + more <= GROUP_BYTES;
    *bytes += more.max(1);
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StateWrite;

    fn waiting(bytes: usize) -> Waiting {
        let mut commit = Commit::of("thing/a".parse().unwrap(), 0);
        commit.state = Some(StateWrite { from: 0, doc: vec![0; bytes], fields: Vec::new() });
        Waiting { commit, waits: Waits { answers: None, reply: oneshot::channel().0 } }
    }

    #[test]
    fn a_group_has_bytes_and_what_is_larger_goes_alone() {
        let (mut groups, mut bytes) = (vec![0], 0);
        for size in [GROUP_BYTES / 2, GROUP_BYTES / 2, 1, GROUP_BYTES * 3, 1, 1, 0] {
            let next = waiting(size);
            if !fits(Some(&next), &mut bytes) {
                groups.push(0);
                bytes = 0;
                assert!(fits(Some(&next), &mut bytes));
            }
            *groups.last_mut().unwrap() += 1;
        }
        assert_eq!(groups, [2, 1, 1, 3]);
        assert!(!fits(None, &mut bytes));
    }
}
