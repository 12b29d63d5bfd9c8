//! One connection to Redis, from its first `PING` to its end.
//!
//! What is asked of it and not answered when it ends may have happened. It is never opened again: a
//! [`Link`](super::link::Link) replaces it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use fred::{
    error::{Error as FredError, ErrorKind},
    prelude::{Client, ClientLike},
    types::{ConnectHandle, CustomCommand, Value, config::Server},
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::address::{Address, Purpose};

/// So many calls in a row without an answer make a connection doubtful.
const DOUBTFUL: u32 = 2;

/// A connection.
pub(super) struct Live {
    client: Client,
    /// The task of fred that serves it: dropping the client alone would leave that running.
    task: AbortHandle,
    over: AtomicBool,
    ended: Notify,
    unanswered: AtomicU32,
}

impl Live {
    /// Connects, and waits until the server answers.
    pub(super) async fn open(
        address: &Address,
        server: Option<&Server>,
        purpose: Purpose,
    ) -> Result<(Self, ConnectHandle), String> {
        let client = address.client(server, purpose)?;
        // Bounded by the timeouts of connecting: cut short from here, its task would go on unseen.
        let task = client.init().await.map_err(|e| e.to_string())?;
        let live = Self {
            client,
            task: task.abort_handle(),
            over: AtomicBool::new(false),
            ended: Notify::new(),
            unanswered: AtomicU32::new(0),
        };
        Ok((live, task))
    }

    /// The client of fred, to subscribe and to listen.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks it something, and waits for the answer.
    pub(super) async fn ask(
        &self,
        command: &'static str,
        args: Vec<Value>,
        until: Instant,
    ) -> Result<Value, FredError> {
        let command = CustomCommand::new_static(command, None::<u16>, false);
        let asked = async {
            let ended = self.ended.notified();
            if self.over.load(Ordering::Acquire) {
                return Err(FredError::new(ErrorKind::Unknown, "Client is not initialized."));
            }
            tokio::select! {
                biased;
                answer = self.client.custom(command, args) => answer,
                () = ended => Err(FredError::new(ErrorKind::IO, "Connection closed.")),
            }
        };
        let answer = timeout_at(until, asked)
            .await
            .unwrap_or_else(|_| Err(FredError::new(ErrorKind::Timeout, "no answer in time")));
        match &answer {
            Err(error) if *error.kind() == ErrorKind::Timeout => self.unanswered.fetch_add(1, Ordering::Relaxed),
            _ => self.unanswered.swap(0, Ordering::Relaxed),
        };
        answer
    }

    /// Whether it has left several calls in a row without an answer.
    pub(super) fn is_doubtful(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= DOUBTFUL
    }

    /// Ends it: what is on its way has no answer.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.task.abort();
        self.ended.notify_waiters();
    }

    /// Ends it when all that was asked before is sent: some of that may still be carried out.
    pub(super) async fn cut(&self) {
        // It cannot connect again, and so ends; that there is nothing to wait for any more is of no matter.
        let cut = tokio::time::timeout(Duration::from_secs(1), self.client.force_reconnection());
        let _ = cut.await;
        self.end();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}
