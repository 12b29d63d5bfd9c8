//! A way to one server that is kept open: one [`Live`] connection at a time, replaced whenever it ends,
//! or is silent while a fresh one to the same server is answered.

use std::{sync::Arc, time::Duration};

use fred::types::{ConnectHandle, config::Server};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::{
    address::{Address, Purpose},
    live::Live,
};

/// Pauses between attempts to open it: the first, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// How long a way that leads to no master any more is kept for the calls that are on it.
const PARTING: Duration = Duration::from_secs(10);

/// A way to a server.
pub(super) struct Link {
    state: watch::Sender<State>,
    doubted: Notify,
}

enum State {
    /// Why the last attempt failed, if there was one.
    Opening(Option<String>),
    Open(Arc<Live>),
    Closed,
}

impl Link {
    /// One that is being opened, and opened again, from now on until it is closed.
    pub(super) fn start(address: Arc<Address>, server: Option<Server>, what: &'static str) -> Arc<Self> {
        let link = Arc::new(Self { state: watch::Sender::new(State::Opening(None)), doubted: Notify::new() });
        tokio::spawn(keep(link.clone(), address, server, what));
        link
    }

    /// The connection, as soon as there is one; else why there is none.
    pub(super) async fn live(&self, until: Instant) -> Result<Arc<Live>, String> {
        if let State::Open(live) = &*self.state.borrow() {
            return Ok(live.clone());
        }
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Opening(_)));
        match timeout_at(until, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Open(live) => Ok(live.clone()),
                _ => Err("it is closed".into()),
            },
            Ok(Err(_)) => Err("it is closed".into()),
            Err(_) => Err(match &*self.state.borrow() {
                State::Opening(Some(why)) => why.clone(),
                _ => "no connection in time".into(),
            }),
        }
    }

    /// The connection, if it is open at this moment.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(_))
    }

    /// Has a connection compared with a fresh one: it gave no answers.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Ends the connection, so that the next one asks again where the master is.
    pub(super) fn renew(&self) {
        if let State::Open(live) = &*self.state.borrow() {
            live.end();
        }
    }

    /// Closes it.
    pub(super) fn close(&self) {
        let before = self.state.send_replace(State::Closed);
        if let State::Open(live) = before {
            live.end();
        }
    }

    /// Closes it when what is on it has had the time to be answered.
    pub(super) fn part(self: Arc<Self>) {
        tokio::spawn(async move {
            tokio::time::sleep(PARTING).await;
            self.close();
        });
    }

    /// Changes what it is, unless it is closed.
    fn set(&self, state: State) {
        self.state.send_if_modified(|now| {
            let open = !matches!(now, State::Closed);
            if open {
                *now = state;
            }
            open
        });
    }
}

/// Keeps a link open until it is closed.
async fn keep(link: Arc<Link>, address: Arc<Address>, server: Option<Server>, what: &'static str) {
    let mut pause = PAUSE[0];
    while !matches!(&*link.state.borrow(), State::Closed) {
        match Live::open(&address, server.as_ref(), Purpose::Calls).await {
            Ok((live, task)) => {
                pause = PAUSE[0];
                let live = Arc::new(live);
                link.set(State::Open(live.clone()));
                watch_over(&link, &address, server.as_ref(), what, &live, task).await;
                live.end();
                link.set(State::Opening(None));
            }
            Err(why) => {
                link.set(State::Opening(Some(why)));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE[1]);
            }
        }
    }
}

/// Waits until a connection has ended, or is doubted while a fresh one is answered.
async fn watch_over(
    link: &Link,
    address: &Address,
    server: Option<&Server>,
    what: &'static str,
    live: &Live,
    mut task: ConnectHandle,
) {
    let name = server.map(ToString::to_string);
    loop {
        tokio::select! {
            ended = &mut task => {
                if let Ok(Err(why)) = ended {
                    info!(what, server = name, %why, "a connection to Redis has ended");
                }
                return;
            }
            () = link.doubted.notified() => {}
        }
        if live.is_doubtful() && Live::open(address, server, Purpose::Calls).await.is_ok() {
            warn!(what, server = name, "a connection to Redis is silent while a fresh one is answered: replaced");
            return;
        }
    }
}
