//! The partition's committer: while one group of commits is on its way to the store, the next one
//! gathers. Commits of one key never overtake each other, because an activation has at most one
//! on its way at a time; those of several tenants take turns, in small groups.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use super::shared::Shared;
use crate::backend::{Commit, Lease, Refused, Tenant, turns::Turns};

/// Most commits in one group.
const GROUP: usize = 1024;
/// And while several tenants are there, so that none waits long behind another's.
const SHARED: usize = 4;

/// A commit and who waits for it.
type Waiting = (Commit, oneshot::Sender<Result<(), Refused>>);

/// Gathers commits.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    lease: Lease,
    queue: RefCell<Turns<Option<Tenant>, Waiting>>,
    wake: Rc<Notify>,
    down: Cell<bool>,
    closed: Cell<bool>,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, lease: Lease) -> Self {
        Self {
            shared,
            lease,
            queue: RefCell::default(),
            wake: Rc::default(),
            down: Cell::default(),
            closed: Cell::default(),
        }
    }

    /// Queues a commit; the answer comes when it is durable or refused. While the store cannot
    /// write, it waits. Refused when the committer is closed.
    pub(crate) fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), Refused>> + use<> {
        let (reply, answer) = oneshot::channel();
        if !self.closed.get() {
            let tenant = self.shared.tenant(&commit.address);
            tenant.inspect(|tenant| self.shared.company.saw(*tenant));
            self.queue.borrow_mut().push(tenant, (commit, reply));
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
            let group: Vec<_> = {
                let mut queue = self.queue.borrow_mut();
                let most = if self.shared.company.is_several() { SHARED } else { GROUP };
                std::iter::from_fn(|| queue.pop()).take(most).collect()
            };
            if group.is_empty() {
                self.wake.notified().await;
                continue;
            }
            self.send(group).await;
        }
    }

    async fn send(&self, group: Vec<Waiting>) {
        let (mut commits, mut replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let mut wait = Duration::from_millis(50);
        loop {
            let batch = Arc::new(commits);
            let begun = std::time::Instant::now();
            let answers = self.shared.backend.commit(self.lease, batch.clone()).await;
            self.shared.metrics.commit(batch.len(), begun.elapsed().as_secs_f64());
            let mut again = Vec::new();
            let mut unwritten = None;
            for ((answer, reply), commit) in answers.into_iter().zip(replies).zip(batch.iter()) {
                if let Err(Refused::Unavailable(why)) = answer {
                    unwritten = Some(why);
                    again.push((commit.clone(), reply));
                    continue;
                }
                if answer == Err(Refused::Stale) {
                    error!(partition = self.lease.partition, address = %commit.address, "commit refused: this owner is stale");
                }
                // Whoever waited is gone; what is committed stays.
                let _ = reply.send(answer);
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
            (commits, replies) = again.into_iter().unzip();
        }
    }
}
