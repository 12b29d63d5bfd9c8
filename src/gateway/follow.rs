//! Following one request until it ends. Invariant: a change is never missed, because following
//! subscribes first and looks then, and looks again now and then whatever it was told.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, sync::watch, time::Instant};

use super::shared::Shared;
use crate::{
    error::Result,
    request::RequestId,
    runtime::{
        node::Node,
        view::{Found, View},
    },
};

/// How often it looks without having been told to.
const POLL: Duration = Duration::from_secs(2);

/// One request being followed.
pub(crate) struct Follow {
    node: Node,
    id: RequestId,
    changes: Option<watch::Receiver<u64>>,
}

impl Follow {
    pub(crate) async fn of(node: &Node, id: RequestId) -> Self {
        Self { node: node.clone(), id, changes: node.watch(id).await }
    }

    /// How it stands now.
    pub(crate) async fn look(&mut self) -> Result<Found> {
        if let Some(changes) = &mut self.changes {
            changes.borrow_and_update();
        }
        self.node.request(self.id).await
    }

    /// Returns when it may stand differently from the last look.
    pub(crate) async fn changed(&mut self) {
        let poll = tokio::time::sleep(POLL);
        match &mut self.changes {
            Some(changes) => tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // Nobody tells any more: look now, and from now on by the clock.
                    self.changes = None;
                },
                () = poll => {}
            },
            None => poll.await,
        }
    }
}

/// What was told of the end. What another node tells may be lost on its way, so it is looked for too.
async fn heard(node: &Node, id: RequestId, mut told: oneshot::Receiver<View>) -> Option<View> {
    if node.is_alone() {
        return told.await.ok();
    }
    loop {
        if let Ok(heard) = tokio::time::timeout(POLL, &mut told).await {
            return heard.ok();
        }
        if let Ok(Found::Here(view)) = node.request(id).await
            && view.status.ended()
        {
            return Some(view);
        }
    }
}

/// Waits for the end for at most `limit`, less when the gateway retires. `told` is the quick way
/// where there is one. `None` when it has not ended, or nothing is known of it.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    id: RequestId,
    told: Option<oneshot::Receiver<View>>,
    limit: Duration,
) -> Option<View> {
    let deadline = Instant::now() + limit;
    let ended = async {
        if let Some(told) = told
            && let Some(view) = heard(&shared.node, id, told).await
        {
            return Some(view);
        }
        let mut follow = Follow::of(&shared.node, id).await;
        loop {
            match follow.look().await {
                Ok(Found::Here(view)) if view.status.ended() => return Some(view),
                Ok(Found::Here(_)) => {}
                Ok(Found::Unknown | Found::Expired | Found::Lost) => return None,
                Err(error) => tracing::debug!(%id, reason = %error, "looking for a request failed, will look again"),
            }
            follow.changed().await;
        }
    };
    tokio::select! {
        biased;
        view = ended => view,
        () = tokio::time::sleep_until(deadline) => None,
        () = shared.retired() => None,
    }
}
