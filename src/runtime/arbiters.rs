//! The threads of a node and which partitions live on which.

use std::{sync::Arc, time::Duration};

use actix::{Addr, Arbiter};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    partition::{Cancel, Drain, Partition, Running, open},
    shared::Shared,
};
use crate::{
    envelope::Position,
    error::{Error, Result},
};

/// All partitions of a node, by number.
pub(crate) struct Arbiters {
    partitions: Vec<Addr<Partition>>,
    threads: Vec<Arbiter>,
}

impl Arbiters {
    /// Opens every partition, spread over the configured threads.
    pub(crate) async fn start(shared: Arc<Shared>) -> Result<Arc<Self>> {
        let threads: Vec<Arbiter> = (0..shared.settings.arbiters).map(|_| Arbiter::new()).collect();
        let opening = (0..shared.backend.partitions()).map(|partition| {
            let (reply, opened) = oneshot::channel();
            let shared = shared.clone();
            let task = async move {
                // The starter is gone: so is the node.
                let _ = reply.send(open(shared, partition).await);
            };
            match threads.get(usize::from(partition) % threads.len().max(1)) {
                Some(thread) => {
                    // A thread that has stopped drops the task, and with it the reply.
                    thread.spawn(task);
                }
                None => {
                    actix::spawn(task);
                }
            }
            opened
        });
        let opened = join_all(opening.collect::<Vec<_>>()).await;
        let partitions = opened.into_iter().map(|opened| opened?).collect::<Result<_>>()?;
        Ok(Arc::new(Self { partitions, threads }))
    }

    fn partition(&self, position: Position) -> Option<&Addr<Partition>> {
        self.partitions.get(usize::from(position.partition()))
    }

    /// Which attempt of a message runs, if any.
    pub(crate) async fn running(&self, position: Position) -> Option<u32> {
        self.partition(position)?.send(Running(position)).await.ok()?
    }

    /// Cancels a message that no attempt has begun of.
    pub(crate) async fn cancel(&self, position: Position) -> Result<bool> {
        let partition = self.partition(position).ok_or_else(|| Error::terminal("no such partition"))?;
        partition.send(Cancel(position)).await?
    }

    /// Drains all partitions; how many had not finished in time.
    pub(crate) async fn drain(&self, deadline: Duration) -> usize {
        let drained = join_all(self.partitions.iter().map(|partition| partition.send(Drain(deadline)))).await;
        for thread in &self.threads {
            thread.stop();
        }
        drained.into_iter().filter(|drained| !matches!(drained, Ok(true))).count()
    }
}
