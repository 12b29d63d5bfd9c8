//! Accepting many messages in a call: appended together, answered one by one.
//!
//! Invariant: what is accepted stays accepted, whatever becomes of the others.

use serde_json::value::to_raw_value;

use super::node::{Accept, Accepted, Node};
use crate::{
    actor::Actor,
    address::At,
    backend::{Append, Appended, NotAppended},
    envelope::{Envelope, ReplyTo},
    error::Result,
    request::RequestId,
    runtime::{faults::Point, view::View},
    trace::Trace,
};

/// Messages appended together: more would hold up whoever else appends, and so would these while several tenants
/// are there.
const TOGETHER: usize = 100;
const SHARED: usize = 6;

/// Somebody who waits for the end of a message: the number of the wait, and where it is told.
type Wait = Option<(u64, tokio::sync::oneshot::Receiver<View>)>;

impl Node {
    /// Appends many messages durably, each by itself: some may be refused, where a mailbox is full.
    pub async fn accept_all(&self, accepts: Vec<Accept>) -> Vec<Result<Accepted, NotAppended>> {
        let mut answers = Vec::with_capacity(accepts.len());
        let mut accepts = accepts.into_iter().peekable();
        while accepts.peek().is_some() {
            let most = if self.shared.company.is_several() { SHARED } else { TOGETHER };
            let some: Vec<Accept> = accepts.by_ref().take(most).collect();
            answers.extend(self.accept_some(some).await);
        }
        answers
    }

    async fn accept_some(&self, accepts: Vec<Accept>) -> Vec<Result<Accepted, NotAppended>> {
        let shared = &self.shared;
        if shared.draining() {
            let draining = || Err(NotAppended::Unavailable("this node is draining".into()));
            return accepts.iter().map(|_| draining()).collect();
        }
        if let Some(tenant) = accepts.first().and_then(|accept| shared.tenant(&accept.to)) {
            shared.company.saw(tenant);
        }
        let (appends, waits): (Vec<Append>, Vec<Wait>) = accepts.into_iter().map(|accept| self.append(accept)).unzip();
        let mut appended = shared.backend.append(appends).await.into_iter();
        let mut answers = Vec::with_capacity(waits.len());
        for wait in waits {
            let silent = || Err(NotAppended::Unavailable("the store gave no answer".into()));
            let answer = appended.next().unwrap_or_else(silent);
            if answer.is_ok() {
                shared.faults.at(Point::Accepted).await;
            }
            answers.push(self.accepted(answer, wait));
        }
        answers
    }

    /// A message to append, and the wait for its end.
    fn append(&self, accept: Accept) -> (Append, Wait) {
        let shared = &self.shared;
        let wait = accept.wait.then(|| {
            let token = shared.token();
            (token, shared.waiting.expect(token))
        });
        let envelope = Envelope {
            to: accept.to,
            command: accept.command,
            accepted: shared.clock.now(),
            request: true,
            trace: accept.trace,
            reply: wait.as_ref().map(|(token, _)| ReplyTo { node: shared.backend.me(), token: *token }),
            cause: None,
            asked: None,
            then: None,
            slot: None,
            note: None,
        };
        (Append { envelope, due: accept.due, idempotency: accept.idempotency, fence: accept.fence }, wait)
    }

    fn accepted(&self, appended: Result<Appended, NotAppended>, wait: Wait) -> Result<Accepted, NotAppended> {
        let shared = &self.shared;
        if !matches!(appended, Ok(Appended::New(_)))
            && let Some((token, _)) = &wait
        {
            shared.waiting.forget(*token);
        }
        let appended = appended?;
        let request = shared.id(appended.position());
        Ok(match appended {
            Appended::New(_) => {
                shared.metrics.accepted("client");
                Accepted { request, replayed: None, ended: wait.map(|(_, ended)| ended) }
            }
            Appended::Seen(_, answer) => Accepted { request, replayed: Some(answer), ended: None },
        })
    }

    /// Tells actors many things in one call, from outside of any actor: the id of each once it is durable, or
    /// why it was refused. What one handler is to send goes through [`Context::tell`](crate::Context::tell);
    /// for being told how all of it ended there are [batches](Node::start_batch).
    ///
    /// # Errors
    /// When a key or a command cannot be stored: then nothing was sent.
    pub async fn tell_all<A: Actor>(
        &self,
        messages: impl IntoIterator<Item = (At<A>, A::Command)>,
    ) -> Result<Vec<Result<RequestId, NotAppended>>> {
        let accept = |(to, command): (At<A>, A::Command)| -> Result<Accept> {
            Ok(Accept {
                to: to.address()?,
                command: to_raw_value(&command)?,
                due: None,
                trace: Some(Trace::start()),
                idempotency: None,
                fence: None,
                wait: false,
            })
        };
        let (mut messages, mut accepts) = (messages.into_iter().collect::<Vec<_>>().into_iter(), Vec::new());
        while !messages.as_slice().is_empty() {
            for message in messages.by_ref().take(TOGETHER) {
                accepts.push(accept(message)?);
            }
            // Others of this thread do not wait for all of it.
            tokio::task::yield_now().await;
        }
        let answers = self.accept_all(accepts).await;
        Ok(answers.into_iter().map(|answer| answer.map(|accepted| accepted.request)).collect())
    }
}
