//! What became of a request: looking, waiting, following and cancelling, wherever its partition is open.
//!
//! Invariant: what another node does not say, or says too late, is looked for in the store or left
//! open, never guessed.

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{
    node::Node,
    outside::ask_to_end,
    post::Runs,
    view::{Found, View},
};
use crate::{
    backend::{Lookup, Stored},
    error::Result,
    request::RequestId,
};

/// How long a result from another node is waited for before it is looked for.
const LOOK: Duration = Duration::from_secs(2);

/// What became of a wish to cancel.
#[derive(Clone, Debug)]
pub enum Cancel {
    /// It is cancelled.
    Cancelled,
    /// It has begun, and is told to end: it will, once it has undone what it did.
    Asked,
    /// It is not, because of how it stands.
    Refused(Found),
}

impl Node {
    /// How a request stands.
    pub async fn request(&self, id: RequestId) -> Result<Found> {
        let Some(position) = self.shared.position(id).await? else { return Ok(Found::Unknown) };
        if let Some(told) = self.shared.told(position) {
            return Ok(Found::Here(told));
        }
        let mut lookup = self.shared.backend.lookup(position).await?;
        let running = match &lookup {
            Lookup::Waiting(_) => match &self.post {
                Some(post) if !self.arbiters.has(position) => match post.running(position).await {
                    Runs::Ended(view) => return Ok(Found::Here(*view)),
                    Runs::Attempt(None) => {
                        // It may have ended between the two questions, and its client may know.
                        lookup = self.shared.backend.lookup(position).await?;
                        None
                    }
                    Runs::Attempt(attempt) => attempt,
                },
                _ => self.arbiters.running(position).await,
            },
            _ => None,
        };
        let waiting = match (&lookup, running) {
            (Lookup::Waiting(stored), None) => Some(stored.clone()),
            _ => None,
        };
        let mut found = Found::of(id, lookup, running);
        if let (Some(stored), Found::Here(view)) = (waiting, &mut found) {
            self.waiting(position, &stored, view).await?;
        }
        Ok(found)
    }

    /// Changes whenever the request may stand differently; look again with [`Node::request`].
    /// Subscribe first, then look. `None` when nobody can tell: look now and then.
    pub async fn watch(&self, id: RequestId) -> Option<watch::Receiver<u64>> {
        let position = self.shared.position(id).await.ok()??;
        let changes = self.shared.waiting.watch(position);
        if let Some(post) = &self.post {
            post.follow(position);
        }
        Some(changes)
    }

    /// Cancels a request of which no attempt has begun, or tells one that waits to end. Retryable error when it cannot be said now
    /// whether it is.
    pub async fn cancel(&self, id: RequestId) -> Result<Cancel> {
        let Some(position) = self.shared.position(id).await? else { return Ok(Cancel::Refused(Found::Unknown)) };
        if let Some(told) = self.shared.told(position) {
            return Ok(Cancel::Refused(Found::Here(told)));
        }
        let lookup = self.shared.backend.lookup(position).await?;
        // Somebody else waits for its end: that is told by whoever cancels it.
        let asked = matches!(&lookup, Lookup::Waiting(Stored { envelope: Ok(envelope), .. }) if envelope.tells());
        let cancelled = match &self.post {
            _ if asked => false,
            Some(post) if !self.arbiters.has(position) => {
                // What has ended needs no owner to say so.
                matches!(lookup, Lookup::Waiting(_)) && post.cancel(position).await?
            }
            _ => self.arbiters.cancel(position).await?,
        };
        if cancelled {
            self.shared.changed(position);
            return Ok(Cancel::Cancelled);
        }
        if let Lookup::Waiting(stored) = &lookup
            && ask_to_end(&self.shared, position, stored).await?
        {
            return Ok(Cancel::Asked);
        }
        Ok(Cancel::Refused(self.request(id).await?))
    }

    /// How a request ended that is waited for. What another node tells may be lost on its way, so it is
    /// looked for too.
    pub(super) async fn ended(&self, request: RequestId, mut told: oneshot::Receiver<View>) -> Result<View> {
        if self.is_alone() {
            return Ok(told.await?);
        }
        loop {
            if let Ok(view) = tokio::time::timeout(LOOK, &mut told).await {
                return Ok(view?);
            }
            if let Found::Here(view) = self.request(request).await?
                && view.status.ended()
            {
                return Ok(view);
            }
        }
    }
}
