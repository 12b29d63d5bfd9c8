//! The store as a world sees it: everything passes through, every commit that happened is written
//! down, and once the process has died nothing answers any more.

mod books;
mod history;
mod hold;
mod nodes;
mod sessions;

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
};

pub(crate) use history::History;
#[cfg(test)]
pub(crate) use hold::Arrives;
pub(crate) use hold::Hold;
use tokio::sync::{broadcast, oneshot};

use crate::{
    address::Address,
    backend::{
        Append, Appended, Backend, Commit, Commits, Dead, DeadFilter, DeadLetters, Decided, Due, Fut, Home, Journals,
        Lease, Leases, Limits, Loaded, Lookup, Mailbox, Moment, Nodes, NotAppended, Over, Paused, Pauses, Refused,
        Requests, Rows, Scope, Shares, Signals, States, Stored, TenantOf,
        limits::{Enter, Entered, Held, Name, Take, Taken},
    },
    envelope::Position,
    error::Result,
    query::{Index, Query},
    runtime::faults::Plan,
};

/// Who else is there.
pub(crate) trait Company: Leases + Nodes {}

impl<T: Leases + Nodes> Company for T {}

/// The recording store of one life of the process.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) history: Arc<History>,
    pub(crate) plan: Arc<Plan>,
    /// The nodes that share the store; without, those that the store knows.
    pub(crate) company: Option<Arc<dyn Company>>,
    pub(crate) hold: Option<Arc<Hold>>,
}

impl Recorder {
    fn leases(&self) -> &dyn Leases {
        match &self.company {
            Some(company) => &**company,
            None => &*self.store,
        }
    }

    fn nodes(&self) -> &dyn Nodes {
        match &self.company {
            Some(company) => &**company,
            None => &*self.store,
        }
    }

    fn live<'a, T: Send + 'a>(&'a self, call: Fut<'a, T>) -> Fut<'a, T> {
        Box::pin(async move {
            if self.plan.crashed() {
                std::future::pending::<()>().await;
            }
            let _open = self.plan.call();
            let answer = call.await;
            if self.plan.crashed() {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}

impl Mailbox for Recorder {
    fn partitions(&self) -> u16 {
        self.store.partitions()
    }

    fn append(&self, batch: Vec<Append>) -> Fut<'_, Vec<Result<Appended, NotAppended>>> {
        if self.plan.crashed() {
            return Box::pin(std::future::pending());
        }
        self.live(self.store.append(batch))
    }

    fn read(&self, partition: u16, after: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let call = self.store.read(partition, after, limit);
        self.live(Box::pin(async move {
            let page = self.cut(call.await?);
            if !page.is_empty() {
                self.arrives(|hold| &hold.page).await;
            }
            Ok(page)
        }))
    }

    fn signals(&self, partition: u16) -> Arc<Signals> {
        self.store.signals(partition)
    }

    fn reread(&self, partition: u16, from: Position, to: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let call = self.store.reread(partition, from, to, limit);
        self.live(Box::pin(async move { Ok(self.cut(call.await?)) }))
    }

    fn moment(&self, stored: &Stored) -> Moment {
        self.store.moment(stored)
    }

    fn due(
        &self,
        partition: u16,
        now: i64,
        from: Option<Moment>,
        handed: HashSet<Position>,
        limit: usize,
    ) -> Fut<'_, Result<Due>> {
        let call = self.store.due(partition, now, from, handed, limit);
        self.live(Box::pin(async move {
            let due = self.cut_due(call.await?);
            let timers = due.messages.iter().filter(|stored| !stored.parked).map(|stored| stored.position);
            self.history.timers(timers);
            if !due.messages.is_empty() {
                self.arrives(|hold| &hold.due).await;
            }
            Ok(due)
        }))
    }

    fn parked(&self, address: &Address, from: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let call = self.store.parked(address, from, limit);
        self.live(Box::pin(async move {
            let page = self.cut(call.await?);
            self.arrives(|hold| &hold.parked).await;
            Ok(page)
        }))
    }

    fn blocked(&self, partition: u16, after: Option<Address>, limit: usize) -> Fut<'_, Result<Vec<Address>>> {
        let call = self.store.blocked(partition, after, limit);
        self.live(Box::pin(async move {
            let page = call.await?;
            self.arrives(|hold| &hold.blocked).await;
            Ok(page)
        }))
    }
}

impl Commits for Recorder {
    fn open(&self, lease: Lease, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        let call = self.store.open(lease, addresses);
        self.live(Box::pin(async move {
            let mut loaded = call.await?;
            self.finished(&mut loaded);
            Ok(loaded)
        }))
    }

    fn begin(&self, lease: Lease, messages: Vec<(Position, Home)>) -> Fut<'_, Result<Vec<u32>>> {
        let call = self.store.begin(lease, messages);
        self.live(Box::pin(async move {
            let counts = call.await?;
            self.arrives(|hold| &hold.counts).await;
            Ok(counts)
        }))
    }

    fn commit(&self, lease: Lease, batch: Arc<Vec<Commit>>) -> Fut<'_, Vec<Result<(), Refused>>> {
        self.commit_early(lease, batch, Decided::default())
    }

    fn commit_early(
        &self,
        lease: Lease,
        batch: Arc<Vec<Commit>>,
        decided: Decided,
    ) -> Fut<'_, Vec<Result<(), Refused>>> {
        if self.plan.crashed() {
            return Box::pin(std::future::pending());
        }
        let lost = |hold: &Arc<Hold>| hold.lost.fetch_update(SeqCst, SeqCst, |lost| lost.checked_sub(1)).is_ok();
        if self.hold.as_ref().is_some_and(lost) {
            return Box::pin(std::future::pending());
        }
        // On its way to the disk, a commit happens whether or not the process lives to hear of it.
        let (store, history) = (self.store.clone(), self.history.clone());
        let (reply, answer) = oneshot::channel();
        let open = self.plan.call();
        actix::spawn(async move {
            let _open = open;
            let (answers, _turn) =
                tokio::join!(store.commit_early(lease, batch.clone(), decided), history.turn(lease.partition));
            for (commit, _) in batch.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()) {
                history.committed(commit);
            }
            // The process died meanwhile.
            let _ = reply.send(answers);
        });
        self.live(Box::pin(async move {
            let answers = answer.await.unwrap_or_default();
            self.arrives(|hold| &hold.commits).await;
            answers
        }))
    }
}

impl Journals for Recorder {
    fn journal(&self, position: Position) -> Fut<'_, Result<Vec<Vec<u8>>>> {
        self.live(self.store.journal(position))
    }

    fn journaled(&self, partition: u16) -> Fut<'_, Result<Vec<Position>>> {
        self.live(self.store.journaled(partition))
    }
}

impl States for Recorder {
    fn declare(&self, kind: &str, stateful: bool, indexes: &[Index]) -> Fut<'_, Result<()>> {
        self.live(self.store.declare(kind, stateful, indexes))
    }

    fn load(&self, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        self.live(self.store.load(addresses))
    }

    fn state_limit(&self) -> usize {
        self.store.state_limit()
    }

    fn mongo(&self) -> Option<mongodb::Database> {
        self.store.mongo()
    }

    fn query(&self, kind: &str, query: Query) -> Fut<'_, Result<Rows>> {
        self.live(self.store.query(kind, query))
    }
}

impl Requests for Recorder {
    fn locate(&self, position: Position) -> Fut<'_, Result<Position>> {
        self.live(self.store.locate(position))
    }

    fn lookup(&self, position: Position) -> Fut<'_, Result<Lookup>> {
        self.live(self.store.lookup(position))
    }

    fn cancel_all(&self, lease: Lease, positions: Vec<Position>, now: i64) -> Fut<'_, Result<Vec<bool>>> {
        self.live(self.store.cancel_all(lease, positions, now))
    }

    fn cancel(&self, lease: Lease, position: Position, now: i64) -> Fut<'_, Result<bool>> {
        self.live(Box::pin(async move {
            let hold = self.hold.as_ref();
            let verdict = hold.and_then(|hold| hold.verdict.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let (Some(hold), Some(verdict)) = (hold, verdict) {
                hold.asked.notify_one();
                if !verdict.await.unwrap_or(true) {
                    return Ok(false);
                }
            }
            self.store.cancel(lease, position, now).await
        }))
    }

    fn expire(&self, before: i64, now: i64) -> Fut<'_, Result<usize>> {
        self.live(self.store.expire(before, now))
    }

    fn secret(&self) -> [u8; 32] {
        self.store.secret()
    }
}

impl Shares for Recorder {
    fn budget(&self) -> u64 {
        self.store.budget()
    }

    fn tenants(&self, of: TenantOf) {
        self.store.tenants(of);
    }

    fn refuse(&self, lease: Lease, over: Over) -> Fut<'_, Result<()>> {
        self.live(self.store.refuse(lease, over))
    }
}

impl Pauses for Recorder {
    fn pause(&self, scope: Scope, at: i64) -> Fut<'_, Result<bool>> {
        self.live(self.store.pause(scope, at))
    }

    fn resume(&self, scope: Scope) -> Fut<'_, Result<bool>> {
        self.live(self.store.resume(scope))
    }

    fn paused(&self) -> Fut<'_, Result<Vec<Paused>>> {
        self.live(self.store.paused())
    }
}

impl DeadLetters for Recorder {
    fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Fut<'_, Result<Vec<Dead>>> {
        self.live(self.store.dead(filter, after, limit))
    }

    fn redrive(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        self.history.redriven(&positions);
        self.live(self.store.redrive(positions, now))
    }

    fn discard(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        self.live(self.store.discard(positions, now))
    }
}

impl Limits for Recorder {
    fn take_tokens(&self, take: Take, now: Option<i64>) -> Fut<'_, Result<Taken>> {
        self.live(self.store.take_tokens(take, now))
    }

    fn enter_permit(&self, enter: Enter, now: Option<i64>) -> Fut<'_, Result<Entered>> {
        self.live(self.store.enter_permit(enter, now))
    }

    fn renew_permits(&self, held: Vec<Held>, now: Option<i64>) -> Fut<'_, Result<Vec<bool>>> {
        self.live(self.store.renew_permits(held, now))
    }

    fn leave_permit(&self, name: Name, holder: String, now: Option<i64>) -> Fut<'_, Result<()>> {
        self.live(self.store.leave_permit(name, holder, now))
    }

    fn permits_freed(&self) -> broadcast::Receiver<Name> {
        self.store.permits_freed()
    }
}

/// So that a recorder can stand where a node expects its store.
pub(crate) fn backend(recorder: Recorder) -> Arc<dyn Backend> {
    Arc::new(recorder)
}
