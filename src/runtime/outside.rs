//! What comes from outside for a command that has begun: signals, and the wish that it ends. Each is a
//! message for the command's actor, as durable as any.
//!
//! Invariant: whoever is told that it was taken is told so after it is durable.

use serde_json::value::RawValue;

use super::{
    journaled::decode_all,
    node::Node,
    shared::Shared,
    view::{Found, State, View},
};
use crate::{
    backend::{Append, Home, Idempotency, Lookup, NotAppended, Stored},
    durable::{drive::FAR, entry::Entry},
    envelope::{Envelope, Note, Position},
    error::{Error, Result},
    request::RequestId,
};

/// The longest name of a signal, in bytes.
pub const MAX_SIGNAL: usize = 128;

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalId {
    /// The command that waits for it, or will.
    pub request: RequestId,
    /// Its name there.
    pub name: String,
}

impl std::str::FromStr for SignalId {
    type Err = Error;

    /// Terminal error when it is none that [`Context::signal_id`](crate::Context::signal_id) makes.
    fn from_str(text: &str) -> Result<Self> {
        let (request, name) = text.split_once('.').ok_or_else(|| {
            Error::terminal(format!("{text:?} is no signal id: expected a request id, a dot and a name"))
        })?;
        if name.is_empty() || name.len() > MAX_SIGNAL || name.chars().any(char::is_control) {
            return Err(Error::terminal(format!("the name of a signal has 1 to {MAX_SIGNAL} bytes")));
        }
        Ok(Self { request: request.parse()?, name: name.to_owned() })
    }
}

/// What became of a signal.
#[derive(Clone, Debug)]
pub enum Signalled {
    /// The command will get it.
    Taken,
    /// It was taken before, under the same idempotency key: the first answer.
    Seen(String),
    /// It will not, because of how it stands.
    Refused(Found),
}

impl Node {
    /// Completes a signal that a command waits for, or will wait for.
    pub async fn signal(
        &self,
        id: &SignalId,
        value: Box<RawValue>,
        idempotency: Option<Idempotency>,
    ) -> Result<Signalled, NotAppended> {
        let unavailable = |error: Error| NotAppended::Unavailable(error.to_string());
        let Some(position) = self.shared.position(id.request).await.map_err(unavailable)? else {
            return Ok(Signalled::Refused(Found::Unknown));
        };
        let lookup = self.shared.backend.lookup(position).await.map_err(unavailable)?;
        let to = match &lookup {
            Lookup::Waiting(Stored { envelope: Ok(envelope), .. }) => envelope.to.clone(),
            Lookup::Dead(dead) if dead.envelope.is_some() => match &dead.envelope {
                Some(envelope) => envelope.to.clone(),
                None => return Ok(Signalled::Refused(Found::of(id.request, lookup, None))),
            },
            _ => return Ok(Signalled::Refused(Found::of(id.request, lookup, None))),
        };
        let note = Note::Signal { to: position, name: id.name.clone(), value };
        let seen = send_note(&self.shared, Envelope::note(to, note, self.shared.clock.now()), idempotency).await?;
        Ok(seen.map_or(Signalled::Taken, Signalled::Seen))
    }

    /// How a message stands that is not running, seen from its journal: one that waits for something has
    /// begun, and may not know when it goes on.
    pub(super) async fn waiting(&self, position: Position, stored: &Stored, view: &mut View) -> Result<()> {
        if stored.home == Home::Deferred && stored.attempts == 0 {
            let entries = decode_all(&self.shared.backend.journal(position).await?).unwrap_or_default();
            if entries.iter().any(|entry| matches!(entry, Entry::Began { .. })) {
                (view.status, view.attempts) = (State::Processing, 1);
            }
        }
        view.next_attempt_at = view.next_attempt_at.filter(|due| *due < FAR);
        Ok(())
    }
}

/// Appends a note; the first answer, when it was there already.
async fn send_note(
    shared: &Shared,
    envelope: Envelope,
    idempotency: Option<Idempotency>,
) -> Result<Option<String>, NotAppended> {
    if shared.draining() {
        return Err(NotAppended::Unavailable("this node is draining".into()));
    }
    let append = Append { envelope, due: None, idempotency, fence: None };
    let answer = shared.backend.append(vec![append]).await.pop();
    match answer.unwrap_or_else(|| Err(NotAppended::Unavailable("the store gave no answer".into())))? {
        crate::backend::Appended::New(_) => Ok(None),
        crate::backend::Appended::Seen(_, answer) => Ok(Some(answer)),
    }
}

/// Asks a command that has begun, or that another one waits for, to end; whether it will be told.
pub(super) async fn ask_to_end(shared: &Shared, position: Position, stored: &Stored) -> Result<bool> {
    let Ok(envelope) = &stored.envelope else { return Ok(false) };
    if !envelope.tells() && shared.backend.journal(position).await?.is_empty() {
        return Ok(false);
    }
    let note = Envelope::note(envelope.to.clone(), Note::Cancel { to: position }, shared.clock.now());
    send_note(shared, note, None).await?;
    Ok(true)
}
