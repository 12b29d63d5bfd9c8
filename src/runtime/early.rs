//! Answers that leave before their commit has ended: as soon as the store says that it is
//! [decided](crate::backend::Commits::commit_early), on the store's own thread.
//!
//! What is done early is only the telling. The activation waits for the whole commit before its next one goes, and
//! its messages stay in `running` until then, so that nothing can cancel them.
//!
//! Whoever was told looks perhaps at once, and the store still says that the message waits. So a node remembers what
//! it has told until the commit has ended, and says that, to its own clients and to other nodes that ask. Two things
//! are not as they will be for that moment, mostly a millisecond: a node that asks and gets no answer says
//! "processing", and so does everybody while another owner takes over between the two (for as long as that takes;
//! it finishes the commit before it handles the actor's next message).
//!
//! Invariant: what is told here is true whatever happens next, and is forgotten when its commit has ended.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    fate::{Fate, Taken},
    shared::Shared,
    view::{Found, View},
};
use crate::{
    backend::Lookup,
    envelope::{Position, ReplyTo},
};

/// What those who wait for one commit are told, in the order in which its messages were accepted.
pub(crate) struct Answers {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

enum State {
    /// Nobody was told.
    Waiting(Vec<Answer>),
    /// All were told early, and these are remembered.
    Told(Vec<Position>),
}

struct Answer {
    position: Position,
    reply: Option<ReplyTo>,
    view: View,
}

impl Answers {
    /// Takes the answers out of a group, if it has any. Not those behind one that is told only at the end, because
    /// nobody is told out of turn: the store must list a dead letter before its client hears of it and redrives it.
    pub(super) fn of(shared: &Arc<Shared>, group: &mut [Taken]) -> Option<Arc<Self>> {
        let mut answers = Vec::new();
        for taken in group {
            let stored = &taken.delivery.stored;
            match &mut taken.fate {
                Fate::Ended { told, .. } => {
                    let Some(told) = told.take() else { continue };
                    let found = Found::of(shared.id(stored.position), Lookup::Ended(*told), None);
                    let Found::Here(view) = found else { continue };
                    let reply = stored.envelope.as_ref().ok().and_then(|envelope| envelope.reply);
                    answers.push(Answer { position: stored.position, reply, view });
                }
                Fate::Dead(_) => break,
                _ => {}
            }
        }
        (!answers.is_empty())
            .then(|| Arc::new(Self { shared: shared.clone(), state: Mutex::new(State::Waiting(answers)) }))
    }

    /// Tells everybody, and remembers what until this is dropped: the commit is decided.
    pub(super) fn leave_early(&self) {
        if self.shared.faults.crashed() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Waiting(answers) = &mut *state else { return };
        let answers = std::mem::take(answers);
        for Answer { position, view, .. } in &answers {
            self.shared.told.insert(*position, view.clone());
        }
        *state = State::Told(answers.iter().map(|answer| answer.position).collect());
        drop(state);
        for Answer { position, reply, view } in answers {
            self.tell(reply, view);
            self.shared.changed(position);
        }
    }

    /// Tells everybody who was not told: the commit has ended.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Waiting(answers) = &mut *state else { return };
        let answers = std::mem::take(answers);
        drop(state);
        answers.into_iter().for_each(|Answer { reply, view, .. }| self.tell(reply, view));
    }

    fn tell(&self, reply: Option<ReplyTo>, view: View) {
        if let Some(reply) = reply {
            self.shared.answer(reply, view);
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Told(positions) = state {
            positions.iter().for_each(|position| drop(self.shared.told.remove(position)));
        }
    }
}
