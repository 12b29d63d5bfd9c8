//! From a turn's outcome to what is true: encode the state, commit, and only then tell whoever waits.
//! A commit that did not happen puts its messages back as if they had never been handled.

use std::{rc::Rc, sync::Arc};

use super::{
    activation::{Core, Memory},
    broadcast::Cast,
    early::Answers,
    fate::{Fate, Taken},
    faults::Point,
    handle::guarded,
    room::ACTIVATION_BYTES,
    turn::Group,
    view::{Found, State, View},
};
use crate::{
    actor::Actor,
    backend::{Commit, Lookup, Refused, StateWrite, document},
    error::{Error, Result},
};

/// A group on its way to the store.
pub(super) struct Sending<S> {
    taken: Vec<Taken>,
    /// Who may be told before it has ended.
    answers: Option<Arc<Answers>>,
    casts: Vec<Cast>,
    base: Option<S>,
    answer: std::pin::Pin<Box<dyn Future<Output = Result<(), Refused>>>>,
    /// The digest and size of the state, if it is written.
    wrote: Option<(u64, usize)>,
}

/// What became of a group.
pub(super) enum Concluded<S> {
    /// It is committed; the digest and size of the state, if it was written.
    Done { wrote: Option<(u64, usize)> },
    /// Nothing of it is; its messages are queued again, the state goes back to this.
    Undone(Option<S>),
}

impl<A: Actor> Core<A> {
    /// Commits the group; whether to go on.
    pub(super) async fn settle(self: &Rc<Self>, memory: &mut Memory<A::State>, mut group: Group<A::State>) -> bool {
        while !group.taken.is_empty() {
            let blocked = group.blocked;
            match self.send(memory.rev, memory.saved, &memory.state, group) {
                Ok(sending) => {
                    let concluded = self.conclude(sending.await).await;
                    self.adopt(memory, concluded);
                    return !blocked && !self.room.stopping();
                }
                Err(refused) => {
                    let (refused, error) = *refused;
                    group = self.unsavable(memory, refused, error);
                }
            }
        }
        true
    }

    /// The state cannot be saved: of several commands, find the one that makes it so by handling
    /// them one by one; of one, fail it.
    fn unsavable(
        self: &Rc<Self>,
        memory: &mut Memory<A::State>,
        mut refused: Group<A::State>,
        error: Error,
    ) -> Group<A::State> {
        if let Some(base) = refused.base.take() {
            memory.state = base;
        }
        let mut group = self.group();
        if refused.taken.len() > 1 {
            self.single.set(refused.taken.len());
            self.again(refused.taken);
        } else if let Some(only) = refused.taken.pop() {
            self.fail(&mut group, only.delivery, error, only.seconds, true);
        }
        group
    }

    /// The store will never take the state that these have made. If one of them made it, that one fails when its
    /// turn comes again; of several, the guilty one is found by handling them one by one.
    fn blame(&self, taken: &[Taken], error: Error) {
        let mut made = taken.iter().filter(|taken| matches!(taken.fate, Fate::Ended { .. }));
        match (made.next(), made.next()) {
            (Some(only), None) => {
                self.unsavable.borrow_mut().insert(only.delivery.stored.position, error);
            }
            _ => self.single.set(taken.len()),
        }
    }

    /// Puts messages back to be handled anew, as if they had not been.
    pub(super) fn again(self: &Rc<Self>, taken: Vec<Taken>) {
        let back = taken.into_iter().map(|taken| {
            let mut delivery = taken.delivery;
            self.room.running.borrow_mut().remove(&delivery.stored.position);
            if !delivery.counted && !matches!(taken.fate, Fate::Parked | Fate::Noted | Fate::Held) {
                delivery.stored.attempts -= 1;
            }
            delivery
        });
        self.put_back(back.collect());
    }

    /// Hands a group to the committer.
    #[allow(clippy::type_complexity)]
    pub(super) fn send(
        &self,
        rev: u64,
        saved: u64,
        state: &A::State,
        mut group: Group<A::State>,
    ) -> Result<impl Future<Output = (Sending<A::State>, Result<(), Refused>)> + use<A>, Box<(Group<A::State>, Error)>>
    {
        let mut wrote = None;
        group.commit.seen = Some(rev);
        if let Some(error) = self.too_large(&group.commit) {
            return Err(Box::new((group, error)));
        }
        if group.changed && size_of::<A::State>() > 0 {
            let shared = &self.room.shared;
            let limit = shared.backend.state_limit().saturating_sub(group.commit.size());
            let encode = || match group.bare {
                true => Ok(Vec::new()),
                false => document::encode(state, shared.settings.state_bytes.min(limit)),
            };
            let doc = match guarded(encode) {
                Ok(doc) => doc,
                Err(error) => return Err(Box::new((group, error))),
            };
            let digest = xxhash_rust::xxh3::xxh3_64(&doc);
            if digest != saved {
                wrote = Some((digest, doc.len()));
                let fields = document::values(&doc, &self.fields);
                group.commit.state = Some(StateWrite { from: rev, doc, fields });
            }
        }
        // Without a state nothing is decided before it is done.
        let answers = wrote.and_then(|_| Answers::of(&self.room.shared, &mut group.taken));
        let answer = Box::pin(self.room.committer.commit_early(group.commit, answers.clone()));
        let sending = Sending { taken: group.taken, answers, casts: group.casts, base: group.base, answer, wrote };
        Ok(async move {
            let mut sending = sending;
            let answer = sending.answer.as_mut().await;
            (sending, answer)
        })
    }

    /// Why a commit cannot be stored, if it sends, answers and records too much.
    fn too_large(&self, commit: &Commit) -> Option<Error> {
        let (bytes, limit) = (commit.size(), self.room.shared.backend.state_limit());
        (bytes > limit).then(|| {
            let sent = commit.outbox.len();
            let why = format!(
                "{bytes} bytes, with {sent} messages sent, are too many for one commit, which holds {limit}: send fewer \
                 at once, and go on as a new command with cx.again"
            );
            Error::terminal(why).code("commit_too_large")
        })
    }

    /// Hands a group to the committer that has nothing to do with the state.
    pub(super) fn send_apart(
        &self,
        group: Group<A::State>,
    ) -> impl Future<Output = (Sending<A::State>, Result<(), Refused>)> + use<A> {
        let answer = Box::pin(self.room.committer.commit(group.commit));
        let mut sending =
            Sending { taken: group.taken, answers: None, casts: group.casts, base: None, answer, wrote: None };
        async move {
            let answer = sending.answer.as_mut().await;
            (sending, answer)
        }
    }

    /// Does what follows from what the store said of a group.
    pub(super) async fn conclude(
        self: &Rc<Self>,
        (mut sending, answer): (Sending<A::State>, Result<(), Refused>),
    ) -> Concluded<A::State> {
        let shared = &self.room.shared;
        match answer {
            Ok(()) => {}
            Err(Refused::Gone(gone)) => {
                // One was cancelled just before: the others are handled anew from the state before.
                let (ended, rest): (Vec<_>, _) =
                    sending.taken.into_iter().partition(|taken| taken.delivery.stored.position == gone);
                for _ in ended {
                    self.forget_running(gone);
                    self.room.let_go(gone);
                    self.finished(1);
                }
                self.again(rest);
                return Concluded::Undone(sending.base.take());
            }
            Err(Refused::Unsavable { code, why }) => {
                self.blame(&sending.taken, Error::terminal(why).code(code));
                self.again(sending.taken);
                return Concluded::Undone(sending.base.take());
            }
            Err(_) => {
                self.room.lose();
                return Concluded::Undone(None);
            }
        }
        let deferred =
            sending.taken.iter().any(|taken| matches!(taken.fate, Fate::Deferred | Fate::Waits | Fate::Held));
        shared.faults.at(if deferred { Point::Deferred } else { Point::Committed }).await;
        if let Some(answers) = &sending.answers {
            answers.leave();
        }
        for taken in sending.taken {
            self.tell(taken);
        }
        sending.casts.into_iter().for_each(|cast| shared.cast(cast));
        if deferred {
            // It is no longer handed out: the reader may have looked before it was.
            self.room.signals.deferred.notify_one();
        }
        shared.faults.at(Point::Delivered).await;
        Concluded::Done { wrote: sending.wrote }
    }

    /// Takes over what was concluded; `false` when the state went back to an earlier one.
    pub(super) fn adopt(&self, memory: &mut Memory<A::State>, concluded: Concluded<A::State>) -> bool {
        match concluded {
            Concluded::Done { wrote } => {
                if let Some((digest, size)) = wrote {
                    memory.rev += 1;
                    memory.saved = digest;
                    let bytes = ACTIVATION_BYTES + self.address.key().len() + size;
                    self.room.resize(&self.slot, bytes, self.slot.bytes.get());
                }
                true
            }
            Concluded::Undone(base) => {
                if let Some(base) = base {
                    memory.state = base;
                }
                false
            }
        }
    }

    /// Tells whoever waits, and lets go of the message.
    fn tell(&self, taken: Taken) {
        let shared = &self.room.shared;
        let stored = &taken.delivery.stored;
        let position = stored.position;
        self.forget_running(position);
        if taken.delivery.counted {
            shared.begun.ended(position);
        }
        let reply = stored.envelope.as_ref().ok().and_then(|e| e.reply);
        let ended = matches!(taken.fate, Fate::Ended { .. } | Fate::Dead(_) | Fate::Noted);
        if matches!(taken.fate, Fate::Ended { .. }) {
            self.room.journaled.borrow_mut().remove(&position);
        }
        match taken.fate {
            Fate::Ended { label, told } => {
                shared.metrics.command(A::KIND, label, taken.seconds);
                if let (Some(told), Some(reply)) = (told, reply)
                    && let Found::Here(view) = Found::of(shared.id(position), Lookup::Ended(*told), None)
                {
                    shared.answer(reply, view);
                }
            }
            Fate::Dead(failure) => {
                shared.metrics.command(A::KIND, "dead", taken.seconds);
                if let Some(reply) = reply {
                    let mut view = View::new(shared.id(position), State::DeadLettered);
                    view.attempts = stored.attempts;
                    view.error = Some(failure);
                    shared.answer(reply, view);
                }
            }
            Fate::Deferred => shared.metrics.command(A::KIND, "retried", taken.seconds),
            Fate::Waits => shared.metrics.command(A::KIND, "waiting", taken.seconds),
            Fate::Parked | Fate::Noted | Fate::Held => {}
        }
        self.room.let_go(position);
        self.finished(1);
        if ended {
            shared.ended(position);
        } else {
            shared.changed(position);
        }
    }
}
