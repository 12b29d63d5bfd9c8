//! The whole story of a request, read from its journal and from those of the commands it asked: what the
//! gateway and the command line show. Values that are [`Secret`](crate::Secret) are not in it.
//!
//! Invariant: only what is written is told, never what somebody remembers; a story is bounded, and says
//! so where it leaves something out.

mod lines;

use std::{future::Future, pin::Pin};

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    node::Node,
    view::{Found, State, View},
};
use crate::{
    backend::{Backend, Home, Lookup},
    durable::{drive::FAR, secret::redacted},
    envelope::{Envelope, Position},
    error::{Failure, Result},
    request::RequestId,
};

/// How deep calls are followed, over how many journals, and how many bytes of them.
const DEPTH: usize = 8;
const JOURNALS: usize = 200;
const BYTES: usize = 16 << 20;

/// What looking for a journal found.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// There was never such a request.
    Unknown,
    /// It ended longer ago than results are kept.
    Expired,
    /// Its request was accepted, and lost by a server that had not synced it.
    Lost,
    /// Its story.
    Here(Box<Story>),
}

/// What happened to a request until now. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// Its id.
    pub request: RequestId,
    /// The actor, `kind/key`; not known of one that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The command; not known of one that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Value>,
    /// How it stands.
    pub status: State,
    /// Attempts begun.
    pub attempts: u32,
    /// The build that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// When it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<i64>,
    /// When the first of its journal was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<i64>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<i64>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// The reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What it did, in the order in which it began that.
    pub entries: Vec<Line>,
    /// What it waits for now.
    pub waits_for: Vec<Wait>,
    /// Whether journals of calls were left out because there are too many.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// `cx.run`
    Step,
    /// `cx.ask`
    Ask,
    /// `cx.sleep`
    Sleep,
    /// `cx.signal`
    Signal,
    /// `cx.now`, `cx.random`, `cx.uuid`
    Value,
    /// `cx.version`: it went the new way.
    Version,
    /// Somebody wanted it to end.
    Cancel,
    /// It failed; from here on it undoes what it did.
    Undo,
    /// An entry that this build cannot read.
    Unreadable,
}

/// How far it is with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It has not ended.
    Waiting,
    /// An attempt failed, and another one will follow.
    Retrying,
    /// It ended well.
    Done,
    /// It ended with a failure.
    Failed,
    /// It has not ended, and is not waited for any more.
    Dropped,
}

/// One thing that a command did, or that happened to it.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What it is.
    pub kind: What,
    /// Its name: of a step, a signal, a value or a change; the address asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How far it is.
    pub status: Progress,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<i64>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<i64>,
    /// When it ends at the latest, or is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Attempts of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// What it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it takes something back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub undoes: bool,
    /// The request that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RequestId>,
    /// Its story, if it has a journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Box<Story>>,
    #[serde(skip)]
    answered: Option<Position>,
}

/// Something that a command waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// A step that is tried again, an answer, a time or a signal.
    pub kind: What,
    /// The step, the address asked, or the signal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The id of the signal, for `POST /signals/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Until when, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

impl Node {
    /// What happened to a request until now: its journal, and those of the commands it asked.
    pub async fn journal(&self, id: RequestId) -> Result<Recorded> {
        match self.request(id).await? {
            Found::Unknown => Ok(Recorded::Unknown),
            Found::Expired => Ok(Recorded::Expired),
            Found::Lost => Ok(Recorded::Lost),
            Found::Here(view) => match self.shared.position(id).await? {
                Some(position) => {
                    let story = tell(&*self.shared.backend, position, view).await?;
                    Ok(Recorded::Here(Box::new(story)))
                }
                None => Ok(Recorded::Unknown),
            },
        }
    }
}

/// The story of the request that stands as `view` says.
pub(crate) async fn tell(backend: &dyn Backend, position: Position, view: View) -> Result<Story> {
    let mut reader = Reader { backend, secret: backend.secret(), journals: JOURNALS, bytes: BYTES };
    let (entries, lookup) = (backend.journal(position).await?, backend.lookup(position).await?);
    reader.tell(entries, &lookup, view, DEPTH).await
}

/// Reads journals, within bounds.
struct Reader<'a> {
    backend: &'a dyn Backend,
    secret: [u8; 32],
    /// How many more may be read, and bytes of them.
    journals: usize,
    bytes: usize,
}

impl Reader<'_> {
    fn tell<'s>(
        &'s mut self,
        entries: Vec<Vec<u8>>,
        lookup: &'s Lookup,
        view: View,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Story>> + Send + 's>> {
        Box::pin(async move {
            self.journals = self.journals.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(entries.iter().map(Vec::len).sum());
            let read = lines::read(&entries);
            let mut story = self.story(lookup, view, read);
            for line in &mut story.entries {
                let Some(from) = line.answered.take() else { continue };
                line.from = Some(RequestId::seal(from, &self.secret));
                if depth == 0 || self.journals == 0 || self.bytes == 0 {
                    story.truncated = true;
                    continue;
                }
                if let Some(calls) = self.callee(from, depth - 1).await? {
                    story.truncated |= calls.truncated;
                    line.calls = Some(Box::new(calls));
                }
            }
            Ok(story)
        })
    }

    /// The story of a command that was asked, if there is one.
    async fn callee(&mut self, from: Position, depth: usize) -> Result<Option<Story>> {
        let now_at = self.backend.locate(from).await?;
        let entries = self.backend.journal(now_at).await?;
        if entries.is_empty() {
            return Ok(None);
        }
        let lookup = self.backend.lookup(now_at).await?;
        match Found::of(RequestId::seal(from, &self.secret), lookup.clone(), None) {
            Found::Here(view) => self.tell(entries, &lookup, view, depth).await.map(Some),
            _ => Ok(None),
        }
    }

    fn story(&self, lookup: &Lookup, mut view: View, read: lines::Read) -> Story {
        let (envelope, due) = match lookup {
            Lookup::Waiting(stored) if stored.home == Home::Deferred => (stored.envelope.as_deref().ok(), stored.due),
            Lookup::Waiting(stored) => (stored.envelope.as_deref().ok(), 0),
            Lookup::Dead(dead) => (dead.envelope.as_ref(), 0),
            _ => (None::<&Envelope>, 0),
        };
        if read.began.is_some() && view.status == State::Accepted {
            // Waiting is no attempt of its own, but it has begun.
            (view.status, view.attempts) = (State::Processing, view.attempts.max(1));
        }
        let mut entries = read.lines;
        for line in entries.iter_mut().filter(|line| line.status == Progress::Waiting) {
            // It is due when the first of what it waits for is: what was due before is not waited for.
            let past = line.until.is_some_and(|until| until < due);
            if view.status.ended() || past {
                line.status = Progress::Dropped;
            }
        }
        let open = |line: &&Line| matches!(line.status, Progress::Waiting | Progress::Retrying);
        let waits = entries.iter().filter(open).filter(|_| !view.status.ended()).map(|line| Wait {
            kind: line.kind,
            name: line.name.clone(),
            signal: (line.kind == What::Signal).then(|| format!("{}.{}", view.request, line.name)),
            since: line.began_at,
            until: line.until,
        });
        Story {
            request: view.request,
            to: envelope.map(|envelope| envelope.to.to_string()),
            command: envelope.map(|envelope| shown(&envelope.command)),
            status: view.status,
            attempts: view.attempts,
            build: read.build,
            accepted_at: view.accepted_at,
            began_at: read.began,
            next_attempt_at: view.next_attempt_at.filter(|due| *due < FAR),
            ended_at: view.ended_at,
            result: view.result.as_deref().map(shown),
            error: view.error,
            waits_for: waits.collect(),
            entries,
            truncated: false,
        }
    }
}

/// A value as it may be shown.
fn shown(json: &RawValue) -> Value {
    // Nested deeper than anybody reads, so it is not taken apart either.
    serde_json::from_str(json.get()).map_or_else(|_| Value::String("[unreadable]".into()), redacted)
}
