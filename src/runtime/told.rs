//! Telling other actors how a message ended: the command that asked for it, and whoever its sender named.
//!
//! Invariant: both leave with the very commit that ends the message, so they are told exactly as often as it
//! ends.

use serde_json::value::RawValue;

use crate::{
    address::Address,
    backend::{Sent, Stored},
    ended::{End, Ended},
    envelope::{Envelope, Note},
    error::Failure,
};

/// How a message ended, for whoever asked for it or is told of it.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    Completed(&'a RawValue),
    /// Completed, and whoever asked is answered by another command.
    Later(&'a RawValue),
    Failed(&'a Failure),
    Cancelled(&'a Failure),
    Dead(&'a Failure),
}

impl How<'_> {
    fn reply(&self) -> Result<&RawValue, &Failure> {
        match self {
            Self::Completed(reply) | Self::Later(reply) => Ok(reply),
            Self::Failed(failure) | Self::Cancelled(failure) | Self::Dead(failure) => Err(failure),
        }
    }

    fn status(&self) -> End {
        match self {
            Self::Completed(_) | Self::Later(_) => End::Completed,
            Self::Failed(_) => End::Failed,
            Self::Cancelled(_) => End::Cancelled,
            Self::Dead(_) => End::DeadLettered,
        }
    }
}

/// What the commit that ends a message tells others: the actor that asked for it, and the one that is to be
/// told.
pub(crate) fn answer(stored: &Stored, how: How<'_>, at: i64) -> impl Iterator<Item = Sent> + use<> {
    let envelope = stored.envelope.as_ref().ok();
    let (reply, failure) = (how.reply().ok(), how.reply().err());
    let asked = envelope.and_then(|envelope| envelope.asked.as_ref().map(|asked| (envelope, asked)));
    let note = asked.filter(|_| !matches!(how, How::Later(_))).map(|(envelope, asked)| {
        let (reply, failure) = (reply.map(ToOwned::to_owned), failure.cloned());
        let note = Note::Answer { to: asked.position, op: asked.op, reply, failure, from: stored.position };
        note_to(asked.by.clone(), note, at, envelope)
    });
    let then = envelope.and_then(|envelope| envelope.then.as_ref().map(|then| (envelope, then)));
    let told = then.and_then(|(envelope, then)| {
        let (reply, error) = (reply.map(ToOwned::to_owned), failure.cloned());
        let ended = Ended { status: how.status(), reply, error, attempts: stored.attempts, at };
        // The text around the hole was JSON when it was made, and what fills it is.
        let command = then.fill(&ended).ok()?;
        Some(Envelope {
            command,
            cause: Some(stored.position),
            note: None,
            ..note_to(then.to.clone(), Note::Cancel { to: stored.position }, at, envelope)
        })
    });
    note.into_iter().chain(told).map(|envelope| Sent { envelope: envelope.into(), due: None })
}

/// An envelope that brings a note, because of another one.
pub(crate) fn note_to(to: Address, note: Note, at: i64, because: &Envelope) -> Envelope {
    Envelope { trace: because.trace, ..Envelope::note(to, note, at) }
}
