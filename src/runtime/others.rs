//! The other nodes, as this one last heard of them, and the post to them.
//!
//! Invariant: nothing here is the truth. Who owns a partition is decided by its lease, in the store.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::unfold};
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::{builds::Builds, letter::Letter};
use crate::{
    backend::{Backend, Member, Owner},
    error::Result,
};

/// How long an answer about owners is taken for true.
const FRESH: Duration = Duration::from_secs(1);
/// Letters on their way at once, and letters that may wait: more are dropped, as letters may be.
const AT_ONCE: usize = 64;
const WAITING: usize = 10_000;

/// A letter in its envelope.
type Posted = (u64, Vec<u8>);

/// What a node knows of the others.
pub(crate) struct Others {
    /// A reason to beat and look around at once.
    pub(crate) look: Notify,
    pub(crate) builds: Builds,
    members: Mutex<Arc<Vec<Member>>>,
    leaving: Mutex<HashSet<u64>>,
    owners: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Owner>>)>>,
    post: mpsc::UnboundedSender<Posted>,
    posted: Mutex<Option<mpsc::UnboundedReceiver<Posted>>>,
    open: AtomicUsize,
    sent: Notify,
}

impl Default for Others {
    fn default() -> Self {
        let (post, posted) = mpsc::unbounded_channel();
        Self {
            look: Notify::new(),
            builds: Builds::default(),
            members: Mutex::default(),
            leaving: Mutex::default(),
            owners: tokio::sync::Mutex::default(),
            post,
            posted: Mutex::new(Some(posted)),
            open: AtomicUsize::new(0),
            sent: Notify::new(),
        }
    }
}

impl Others {
    /// Who was there at the last beat, this node among them.
    pub(crate) fn members(&self) -> Arc<Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes who is there, as a beat found that was sent then.
    pub(crate) fn meet(&self, members: Vec<Member>, sent: Instant) {
        self.builds.see(&members, sent);
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|node| members.iter().any(|member| member.id == *node));
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
    }

    /// A node said that it lets go of everything.
    pub(crate) fn leaves(&self, node: u64) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
        self.look.notify_one();
    }

    /// The numbers of the members that partitions are assigned to.
    pub(crate) fn staying(&self) -> Vec<u64> {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        self.members().iter().map(|member| member.id).filter(|id| !leaving.contains(id)).collect()
    }

    /// Who has a partition, as of a moment ago; `None` when nobody has.
    pub(crate) async fn owner(&self, backend: &dyn Backend, partition: u16) -> Result<Option<u64>> {
        let mut known = self.owners.lock().await;
        let owners = match &*known {
            Some((at, owners)) if at.elapsed() < FRESH => owners.clone(),
            _ => {
                let owners = Arc::new(backend.owners().await?);
                *known = Some((Instant::now(), owners.clone()));
                owners
            }
        };
        Ok(owners.get(usize::from(partition)).map(|owner| owner.node).filter(|node| *node != 0))
    }

    /// What was known about owners turned out wrong.
    pub(crate) async fn forget_owners(&self) {
        *self.owners.lock().await = None;
    }

    /// Posts a letter, if it can be.
    pub(crate) fn write(&self, node: u64, letter: &Letter) {
        if self.open.fetch_add(1, Ordering::SeqCst) >= WAITING || self.post.send((node, letter.bytes())).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
            debug!(node, "too many letters wait: one was dropped");
        }
    }

    /// Carries letters for ever; the first caller does.
    pub(crate) async fn carry(&self, backend: Arc<dyn Backend>) {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(posted) = posted else { return };
        let letters = unfold(posted, |mut posted| async move { posted.recv().await.map(|letter| (letter, posted)) });
        letters
            .for_each_concurrent(AT_ONCE, |(node, letter)| {
                let backend = &backend;
                async move {
                    match backend.post(node, letter).await {
                        Ok(true) => {}
                        Ok(false) => debug!(node, "a letter found nobody"),
                        Err(error) => debug!(node, %error, "a letter was not sent"),
                    }
                    self.open.fetch_sub(1, Ordering::SeqCst);
                    self.sent.notify_one();
                }
            })
            .await;
    }

    /// Waits until every letter is sent.
    pub(crate) async fn flush(&self) {
        while self.open.load(Ordering::SeqCst) > 0 {
            self.sent.notified().await;
        }
    }
}
