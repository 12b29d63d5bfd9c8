//! One call, until it is answered: to the server that has its key, again wherever it surely did not happen,
//! and again after a lost answer only where that does no harm.

use std::{sync::Arc, time::Duration};

use fred::types::Value;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{
    Redis,
    address::ANSWER,
    fault::{self, Failed, Fault},
    live::Live,
    servers::{Node, Way},
};
use crate::backend::{
    Fut,
    cluster::{
        durability::Durable,
        inject::{self, Call, Store},
    },
};

/// The first pause before a call is made again, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(100)];
/// How long a way is waited for, before it is looked again where the key is.
const LOOK: Duration = Duration::from_millis(250);

/// What may be done when the answer of a call is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cluster) enum Repeat {
    /// Nothing: made twice, it would be done twice.
    Once,
    /// It is made again: twice is as good as once.
    Safe,
}

/// A command and its arguments.
pub(super) struct Request<'a> {
    pub(super) command: &'static str,
    pub(super) args: Vec<Value>,
    /// What a test knows it by: the function, or the command.
    pub(super) name: &'a str,
    /// What its server is found by.
    pub(super) key: &'a str,
    pub(super) way: Way,
    pub(super) repeat: Repeat,
    /// What must hold of the write before it counts, asked over the same connection.
    pub(super) durable: Option<&'a Durable>,
}

/// One attempt at a request.
struct Attempt<'a> {
    request: &'a Request<'a>,
    live: &'a Live,
    until: Instant,
}

impl Call for Attempt<'_> {
    type Answer = Value;
    type Fault = Failed;

    async fn send(&self) -> Result<Value, Failed> {
        let read = |e| fault::read(&e);
        let answer = self.live.ask(self.request.command, self.request.args.clone(), self.until).await.map_err(read)?;
        if let Some(wait) = self.request.durable.and_then(Durable::wait) {
            // Over another connection it would wait for nothing. So this one ends, if it has to, with both.
            let waited = self.live.ask(wait.command(), wait.args(), Instant::now() + ANSWER).await;
            let waited = waited.map_err(|e| Failed::Finally(Fault::Unknown(format!("{}: {e}", wait.command()))))?;
            wait.judge(waited).map_err(Failed::Finally)?;
        }
        Ok(answer)
    }

    async fn cut(&self) {
        self.live.cut().await;
    }

    fn lost(&self, why: &str) -> Failed {
        Failed::Finally(Fault::Unknown(why.to_owned()))
    }
}

impl Redis {
    /// Makes a call. Boxed: it is deep, and part of every future of the store.
    pub(super) fn send<'a>(&'a self, request: Request<'a>) -> Fut<'a, Result<Value, Fault>> {
        Box::pin(self.until_answered(request))
    }

    async fn until_answered(&self, request: Request<'_>) -> Result<Value, Fault> {
        let until = Instant::now() + ANSWER;
        let (mut pause, mut unknown) = (PAUSE[0], None);
        loop {
            let why = match self.attempt(&request, until).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Finally(Fault::Unknown(why))) if request.repeat == Repeat::Safe => {
                    unknown = Some(why.clone());
                    why
                }
                Err(Failed::Finally(fault)) => return Err(fault),
                Err(Failed::Soon(why) | Failed::NotMaster(why)) => why,
                Err(Failed::Moved(slot, to)) => format!("slot {slot} has moved to {to}"),
                Err(Failed::NoFunctions) => "it does not know the functions".into(),
            };
            if Instant::now() + pause >= until {
                // An earlier attempt may have happened.
                return Err(unknown.map_or(Fault::Refused(why), Fault::Unknown));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE[1]);
        }
    }

    /// Makes one attempt, and does what makes the next one come out better.
    async fn attempt(&self, request: &Request<'_>, until: Instant) -> Result<Value, Failed> {
        let Some(node) = self.servers.of(request.key) else {
            self.look_again(until).await;
            return Err(Failed::Soon("no server has its slot".into()));
        };
        let link = node.link(request.way);
        let live = match link.live(until.min(Instant::now() + LOOK)).await {
            Ok(live) => live,
            Err(why) => {
                self.look_again(until).await;
                return Err(Failed::Soon(format!("{}: {why}", node.name())));
            }
        };
        let attempt = Attempt { request, live: &live, until };
        let answer = inject::carry(self.faults.as_deref(), Store::Redis, request.name, &attempt).await;
        if let Err(failed) = &answer {
            if live.is_doubtful() {
                link.doubt();
            }
            self.mend(&node, &live, failed, until).await?;
        }
        answer
    }

    /// Asks the cluster where the slots are.
    async fn look_again(&self, until: Instant) {
        // Late, it is asked again with the next call.
        let _ = timeout_at(until, self.servers.refresh()).await;
    }

    /// Does what a failed attempt asks for.
    async fn mend(&self, node: &Arc<Node>, live: &Live, failed: &Failed, until: Instant) -> Result<(), Failed> {
        match failed {
            Failed::Moved(slot, to) => match node.server().and_then(|from| fault::server(to, from)) {
                Some(server) => self.servers.moved(*slot, server),
                None => {
                    let why = format!("{} is part of a cluster: use redis-cluster:// in store.redis", node.name());
                    return Err(Failed::Finally(Fault::Refused(why)));
                }
            },
            Failed::NotMaster(_) => {
                node.renew();
                self.look_again(until).await;
            }
            Failed::NoFunctions => {
                info!(server = node.name(), "Redis does not know Greenroom's functions (any more): loading them");
                self.load_over(live).await.map_err(Failed::Soon)?;
            }
            _ => {}
        }
        Ok(())
    }
}
