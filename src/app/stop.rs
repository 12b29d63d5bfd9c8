//! Stopping in order (G8): readiness fails first, intake stops, running work finishes, all
//! before the deadline. Impatience is safe too: what was accepted is durable at every moment.

use std::{pin::pin, time::Instant};

use futures_util::future::{Either, join, select};
use tokio::time::{sleep, timeout};

use crate::{
    config::{Drain, show_duration},
    error::{Error, Result},
    gateway::Gateway,
    runtime::node::Node,
};

/// SIGTERM and SIGINT, listened to from before there is anything to stop.
pub(super) struct Signals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| Error::from(e).context("listening for signals"));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {})
    }

    /// The name of the next signal.
    async fn next(&mut self) -> &'static str {
        #[cfg(unix)]
        {
            tokio::select! {
                _ = self.term.recv() => "SIGTERM",
                _ = self.int.recv() => "SIGINT",
            }
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
            "Ctrl-C"
        }
    }
}

/// Waits for a signal, then drains. A second signal ends the process where it stands.
pub(super) async fn serve(mut signals: Signals, node: Node, gateway: Gateway, drain: &Drain) {
    let signal = signals.next().await;
    tracing::info!(signal, deadline = show_duration(drain.deadline), "draining; a second signal exits at once");
    let began = Instant::now();
    match select(pin!(stop(&node, &gateway, drain)), pin!(signals.next())).await {
        Either::Left(_) => {
            let took = show_duration(began.elapsed());
            tracing::info!(took, "stopped");
        }
        Either::Right((signal, _)) => {
            tracing::warn!(signal, "exiting at once; what was running will be run again");
            // Not an error of ours, but whoever sent two signals should see that it was not orderly.
            std::process::exit(1);
        }
    }
}

async fn stop(node: &Node, gateway: &Gateway, drain: &Drain) {
    gateway.retire();
    sleep(drain.notice).await;
    let began = Instant::now();
    // Whoever waits for a result was given a 202 at the first moment; what is being accepted now
    // is accepted, or refused, while the node still runs.
    let mut closing = pin!(gateway.stop(true));
    let closed = timeout(drain.deadline / 2, &mut closing).await.is_ok();
    let left = drain.deadline.saturating_sub(began.elapsed());
    if closed {
        node.drain(left).await;
    } else {
        let (_, closed) = join(node.drain(left), timeout(left, closing)).await;
        if closed.is_err() {
            tracing::warn!("the deadline passed with requests still being answered");
        }
    }
}
