//! Reading what other nodes write, and asking them: cancelling, looking at and following messages of
//! partitions that are open elsewhere.
//!
//! Invariant: no ask waits for ever, and an answer that does not come means "not known", never "no".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{
    arbiters::Arbiters,
    letter::{Letter, Outcome},
    others::Others,
    pausing,
    shared::Shared,
    sweep::{Part, Sweep},
    view::View,
};
use crate::{
    envelope::Position,
    error::{Error, Result},
};

/// How long the owner has to answer.
const CANCEL: Duration = Duration::from_secs(2);
const SWEEP: Duration = Duration::from_secs(15);
const RUNNING: Duration = Duration::from_millis(300);
/// How often followers of what is not open here look without having been told, and how often the
/// owner is reminded of them.
const BUMP: Duration = Duration::from_secs(1);
const RENEW: Duration = Duration::from_secs(30);

/// The answer to an ask.
enum Answer {
    Cancelled(Outcome),
    Runs(Runs),
    Swept(Result<Part, String>),
}

/// How a message stands at the owner of its partition.
pub(crate) enum Runs {
    /// Its commit has not ended, and this is how it will: it is decided.
    Ended(Box<View>),
    /// This attempt runs, if any.
    Attempt(Option<u32>),
}

/// The post of a node that shares its store with others.
pub(crate) struct Post {
    shared: Arc<Shared>,
    arbiters: Arc<Arbiters>,
    asks: DashMap<u64, oneshot::Sender<Answer>>,
    follow: mpsc::UnboundedSender<Position>,
}

impl Post {
    /// Starts reading and carrying letters; `None` when there is nobody to write to.
    pub(crate) fn start(shared: &Arc<Shared>, arbiters: &Arc<Arbiters>) -> Option<Arc<Self>> {
        shared.others.as_ref()?;
        let (follow, following) = mpsc::unbounded_channel();
        let (shared, arbiters) = (shared.clone(), arbiters.clone());
        let post = Arc::new(Self { shared: shared.clone(), arbiters, asks: DashMap::new(), follow });
        actix::spawn(post.clone().read());
        actix::spawn(post.clone().keep_following(following));
        actix::spawn(async move {
            if let Some(others) = &shared.others {
                others.carry(shared.backend.clone()).await;
            }
        });
        Some(post)
    }

    async fn read(self: Arc<Self>) {
        let Some(mut letters) = self.shared.backend.letters() else { return };
        while let Some(letter) = letters.recv().await {
            if let Some(letter) = Letter::read(&letter) {
                self.take(letter);
            }
        }
    }

    fn take(self: &Arc<Self>, letter: Letter) {
        match letter {
            Letter::Reply { token, view } => self.shared.waiting.reply(token, view),
            Letter::Cancel { position, from, token } => self.answer(from, async move |post| {
                let outcome = match post.arbiters.cancel(position).await {
                    Ok(true) => Outcome::Cancelled,
                    Ok(false) => Outcome::Refused,
                    Err(error) => Outcome::Unknown(error.to_string()),
                };
                Letter::Cancelled { token, outcome }
            }),
            Letter::Running { position, from, token } => self.answer(from, async move |post| {
                let attempt = post.arbiters.running(position).await;
                let ended = post.shared.told(position).map(Box::new);
                Letter::Runs { token, attempt, ended }
            }),
            Letter::Sweep { sweep, from, token } => self.answer(from, async move |post| {
                let part = post.arbiters.sweep(sweep).await.map_err(|error| error.to_string());
                Letter::Swept { token, part }
            }),
            Letter::Swept { token, part } => self.answered(token, Answer::Swept(part)),
            Letter::Cancelled { token, outcome } => self.answered(token, Answer::Cancelled(outcome)),
            Letter::Runs { token, attempt, ended } => {
                self.answered(token, Answer::Runs(ended.map_or(Runs::Attempt(attempt), Runs::Ended)));
            }
            Letter::Watch { position, from } if self.arbiters.has(position) => {
                self.shared.waiting.watch_from(position, from);
                // It may have changed since the follower looked.
                self.shared.write(from, &Letter::Changed { position });
            }
            Letter::Watch { .. } => {}
            Letter::Changed { position } => {
                // Followers of this node only: whoever else follows is told by the owner.
                self.shared.waiting.changed(position);
            }
            Letter::Cast { name, value } => self.shared.listeners.hear(&name, value.into()),
            Letter::Look => self.shared.look(),
            Letter::Paused => {
                let shared = self.shared.clone();
                actix::spawn(async move {
                    if let Err(error) = pausing::look(&shared).await {
                        debug!(%error, "what is paused could not be read, it is read again soon");
                    }
                });
            }
            Letter::Leaving { node } => {
                if let Some(others) = &self.shared.others {
                    others.leaves(node);
                }
            }
        }
    }

    fn answer(self: &Arc<Self>, to: u64, answer: impl AsyncFnOnce(Arc<Self>) -> Letter + 'static) {
        let post = self.clone();
        actix::spawn(async move {
            let letter = answer(post.clone()).await;
            post.shared.write(to, &letter);
        });
    }

    fn answered(&self, token: u64, answer: Answer) {
        if let Some((_, ask)) = self.asks.remove(&token) {
            // It was tired of waiting.
            let _ = ask.send(answer);
        }
    }

    fn others(&self) -> Result<&Others> {
        self.shared.others.as_ref().ok_or_else(|| Error::new("there are no other nodes"))
    }

    /// The node to ask about a message, if there is one besides this.
    async fn owner(&self, position: Position) -> Result<Option<u64>> {
        let backend = &*self.shared.backend;
        let owner = self.others()?.owner(backend, position.partition()).await?;
        Ok(owner.filter(|node| *node != backend.me()))
    }

    async fn ask(&self, owner: u64, limit: Duration, letter: impl FnOnce(u64, u64) -> Letter) -> Option<Answer> {
        let token = self.shared.token();
        let (ask, answer) = oneshot::channel();
        self.asks.insert(token, ask);
        self.shared.write(owner, &letter(self.shared.backend.me(), token));
        let answer = tokio::time::timeout(limit, answer).await;
        self.asks.remove(&token);
        answer.ok()?.ok()
    }

    /// Cancels a message of a partition that is not open here. Retryable error when its owner cannot
    /// say whether it did.
    pub(crate) async fn cancel(&self, position: Position) -> Result<bool> {
        let nobody = || Error::new("the request's partition is changing hands");
        let mut why = nobody();
        // What is known of owners may be a moment old: asked once more of whoever it is now.
        for _ in 0..2 {
            let Some(owner) = self.owner(position).await? else {
                self.others()?.forget_owners().await;
                continue;
            };
            let answer = self.ask(owner, CANCEL, |from, token| Letter::Cancel { position, from, token }).await;
            match answer {
                Some(Answer::Cancelled(Outcome::Cancelled)) => return Ok(true),
                Some(Answer::Cancelled(Outcome::Refused)) => return Ok(false),
                Some(Answer::Cancelled(Outcome::Unknown(said))) => why = Error::new(said),
                _ => return Err(Error::new("the owner of the request's partition did not answer")),
            }
            self.others()?.forget_owners().await;
        }
        Err(why)
    }

    /// Cancels some of what waits in a partition that is not open here.
    pub(crate) async fn sweep(&self, sweep: &Sweep) -> Result<Part> {
        let Some(owner) = self.owner(Position::new(sweep.partition, 0)).await? else {
            self.others()?.forget_owners().await;
            return Err(Error::new("the partition is changing hands"));
        };
        match self.ask(owner, SWEEP, |from, token| Letter::Sweep { sweep: sweep.clone(), from, token }).await {
            Some(Answer::Swept(Ok(part))) => Ok(part),
            Some(Answer::Swept(Err(why))) => {
                self.others()?.forget_owners().await;
                Err(Error::new(why))
            }
            _ => Err(Error::new("the owner of the partition did not answer")),
        }
    }

    /// Which attempt of a message runs elsewhere, or how it has ended there, as far as can be said quickly.
    pub(crate) async fn running(&self, position: Position) -> Runs {
        let unknown = Runs::Attempt(None);
        let asked = Instant::now();
        let Ok(Ok(Some(owner))) = tokio::time::timeout(RUNNING, self.owner(position)).await else { return unknown };
        let left = RUNNING.saturating_sub(asked.elapsed());
        match self.ask(owner, left, |from, token| Letter::Running { position, from, token }).await {
            Some(Answer::Runs(runs)) => runs,
            _ => unknown,
        }
    }

    /// A client follows a message: its owner will tell, if it is not this node.
    pub(crate) fn follow(&self, position: Position) {
        if !self.arbiters.has(position) {
            // Only after the end of the node is nobody there to take it.
            let _ = self.follow.send(position);
        }
    }

    /// Reminds owners of who follows here, and lets followers look now and then all the same: letters
    /// are lost, and owners change.
    async fn keep_following(self: Arc<Self>, mut following: mpsc::UnboundedReceiver<Position>) {
        let mut bump = tokio::time::interval(BUMP);
        bump.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                position = following.recv() => match position {
                    Some(position) => self.watch_at_owner(vec![position]),
                    None => return,
                },
                _ = bump.tick() => {
                    let mut followed = self.shared.waiting.followed();
                    followed.retain(|position| !self.arbiters.has(*position));
                    for position in &followed {
                        self.shared.waiting.changed(*position);
                    }
                    if renewed.elapsed() >= RENEW {
                        renewed = Instant::now();
                        self.watch_at_owner(followed);
                    }
                }
            }
        }
    }

    fn watch_at_owner(self: &Arc<Self>, positions: Vec<Position>) {
        let post = self.clone();
        actix::spawn(async move {
            for position in positions {
                match post.owner(position).await {
                    Ok(Some(owner)) => {
                        let from = post.shared.backend.me();
                        post.shared.write(owner, &Letter::Watch { position, from });
                    }
                    Ok(None) => {}
                    Err(error) => return debug!(%error, "owners are not known, followers look by the clock"),
                }
            }
        });
    }
}
