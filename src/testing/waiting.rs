//! What a test does to a command that waits in a [`World`].

use super::World;
use crate::{
    request::RequestId,
    runtime::{
        node::Cancel,
        outside::{SignalId, Signalled},
    },
};

impl World {
    /// Completes a signal that a command waits for, or will.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn signal(&mut self, request: RequestId, name: &str, value: impl serde::Serialize) {
        let id = SignalId { request, name: name.to_owned() };
        let value = serde_json::value::to_raw_value(&value).unwrap_or_else(|e| panic!("no JSON: {e}"));
        match self.call(async |node| node.signal(&id, value, None).await).await {
            None | Some(Ok(Signalled::Taken)) => {}
            other => panic!("the signal {name:?} was not taken: {other:?}"),
        }
    }

    /// Pauses a kind of actors, or one of them; `None` when the process died before it said so.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn pause(&mut self, kind: &str, key: Option<&str>) -> Option<bool> {
        let paused = self.call(async |node| node.pause(kind, key).await).await?;
        Some(paused.unwrap_or_else(|e| panic!("{kind} was not paused: {e}")))
    }

    /// Resumes what was paused; `None` when the process died before it said so.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn resume(&mut self, kind: &str, key: Option<&str>) -> Option<bool> {
        let resumed = self.call(async |node| node.resume(kind, key).await).await?;
        Some(resumed.unwrap_or_else(|e| panic!("{kind} was not resumed: {e}")))
    }

    /// Cancels a request, or asks it to end.
    ///
    /// # Panics
    /// When it is too late for either.
    pub async fn cancel(&mut self, request: RequestId) {
        match self.call(async |node| node.cancel(request).await).await {
            None | Some(Ok(Cancel::Cancelled | Cancel::Asked)) => {}
            other => panic!("{request} was not cancelled: {other:?}"),
        }
    }
}
