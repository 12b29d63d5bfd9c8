//! Making a batch: its members are gathered, and leave in as few messages as they fit into.
//!
//! Invariant: they arrive in order, and the last one says whether more can come.

use std::time::Duration;

use serde_json::value::to_raw_value;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BatchDone, Ends, Member,
    whole::{Command, Whole},
};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::{Idempotency, NotAppended},
    ended::hole_of,
    envelope::Then,
    error::{Error, Result},
    runtime::node::{Accept, Node},
    trace::Trace,
};

/// Most members, and bytes of them, in one message.
const MEMBERS: usize = 1000;
const BYTES: usize = 256 << 10;
/// How long its members may take to be dealt out before it is said to be accepted all the same.
const DEALT: Duration = Duration::from_secs(5);

/// What is gathered of a batch.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(crate) then: Option<Then>,
    pub(crate) seal: bool,
    /// The first member that cannot be sent.
    pub(crate) error: Option<Error>,
}

impl Parts {
    pub(crate) fn add<B: Actor>(&mut self, to: &At<B>, command: &B::Command) {
        let member = || {
            let to = to.address()?;
            let json = to_raw_value(command)
                .map_err(|e| Error::from(e).into_terminal().context(format!("encoding a command for {to}")))?;
            Ok(Member(to, json))
        };
        match member() {
            Ok(member) => self.members.push(member),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }

    pub(crate) fn then<B: Actor>(&mut self, to: &At<B>, mark: u64, command: impl FnOnce(BatchDone) -> B::Command) {
        let stand_in = || BatchDone {
            batch: format!("{mark:x}"),
            name: String::new(),
            total: 0,
            ends: Ends::default(),
            failures: Vec::new(),
        };
        match hole_of(to, stand_in, command) {
            Ok(then) => self.then = Some(then),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }

    /// What is told to the batch, in order.
    pub(crate) fn commands(self) -> Result<Vec<Command>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (mut commands, mut some, mut bytes) = (Vec::new(), Vec::new(), 0);
        let add = |members| Command::Add { name: String::new(), members, seal: false, then: None };
        for member in self.members {
            let size = member.1.get().len() + member.0.key().len() + member.0.kind().len() + 32;
            if some.len() >= MEMBERS || (bytes + size > BYTES && !some.is_empty()) {
                commands.push(add(std::mem::take(&mut some)));
                bytes = 0;
            }
            bytes += size;
            some.push(member);
        }
        // The last of them says the rest.
        commands.push(Command::Add { name: self.name, members: some, seal: self.seal, then: self.then.map(Box::new) });
        Ok(commands)
    }
}

/// A batch that is made from outside of any actor; nothing happens before [`send`](Draft::send).
#[must_use = "nothing is sent before `send` is awaited"]
pub struct Draft {
    node: Node,
    parts: Parts,
}

impl Node {
    /// Begins a batch: many commands that are sent as one, counted as they end, and told of once when all
    /// have.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # struct Mail;
    /// # impl Actor for Mail {
    /// #     const KIND: &'static str = "mail"; type State = u64; type Command = String; type Reply = ();
    /// #     async fn handle(&self, sent: &mut u64, _: String, _: &Context<Self>) -> Result<()> { *sent += 1; Ok(()) }
    /// # }
    /// # let dir = tempfile::tempdir()?;
    /// # App::embedded(dir.path()).feature(Feature::new(Mail)).run_until(|node| async move {
    /// let mut batch = node.start_batch("spring mail");
    /// for user in 0..1000 {
    ///     batch.add(Mail::at(format!("{user}")), "hello".to_owned());
    /// }
    /// let id = batch.send().await?;
    /// let done = node.batch_done(&id).await?.expect("it is known for a day");
    /// assert_eq!((done.total, done.ends.completed), (1000, 1000));
    /// # Ok(())
    /// # })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn start_batch(&self, name: &str) -> Draft {
        let id = uuid::Uuid::new_v4().to_string();
        Draft { node: self.clone(), parts: Parts { id, name: name.to_owned(), seal: true, ..Parts::default() } }
    }

    /// Begins a batch whose id is known, to be [sent once](Draft::send_once).
    pub(crate) fn draft_batch(&self, id: &str, name: &str) -> Draft {
        let parts = Parts { id: id.to_owned(), name: name.to_owned(), seal: true, ..Parts::default() };
        Draft { node: self.clone(), parts }
    }

    /// Adds to a batch that was left [open](Draft::open).
    pub fn add_to_batch(&self, id: &str) -> Draft {
        Draft { node: self.clone(), parts: Parts { id: id.to_owned(), ..Parts::default() } }
    }
}

impl Draft {
    /// Its id: unguessable, and all that is needed to look at it, add to it or cancel it.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// Adds a command. One that cannot be stored fails the [sending](Draft::send).
    pub fn add<A: Actor>(&mut self, to: At<A>, command: A::Command) {
        self.parts.add(&to, &command);
    }

    /// Adds a command that is JSON, already [checked](Node::check).
    pub fn add_json(&mut self, to: Address, command: Box<serde_json::value::RawValue>) {
        self.parts.members.push(Member(to, command));
    }

    /// Tells `to` once when all have ended: a command that holds what it is given.
    pub fn then<A: Actor>(mut self, to: At<A>, command: impl FnOnce(BatchDone) -> A::Command) -> Self {
        let mark = self.node.shared.token();
        self.parts.then(&to, mark, command);
        self
    }

    /// More may be added later, until it is [sealed](Draft::seal).
    pub fn open(mut self) -> Self {
        self.parts.seal = false;
        self
    }

    /// These are the last.
    pub fn seal(mut self) -> Self {
        self.parts.seal = true;
        self
    }

    /// Sends it, or what is added to it; its id, once its members are dealt out. A batch of more than a thousand
    /// members is several messages: when this fails some of them may be there, and the batch is open.
    pub async fn send(self) -> Result<String> {
        let (node, id) = (self.node, self.parts.id.clone());
        let to = Whole::at(id.as_str());
        let mut commands = self.parts.commands()?;
        let last = commands.pop();
        let told = node.tell_all(commands.into_iter().map(|command| (to.clone(), command))).await?;
        for answer in told {
            answer?;
        }
        if let Some(last) = last {
            // Handled after all before it.
            node.ask(to, last).await?;
        }
        Ok(id)
    }

    /// Sends it, as often as this is done: what is there already of this id is not sent again, within `retention`
    /// milliseconds. Error `batch_mismatch` when something else was sent under it.
    pub(crate) async fn send_once(self, retention: i64) -> Result<()> {
        let (node, id) = (self.node, self.parts.id.clone());
        let to = Whole::at(id.as_str()).address()?;
        let commands = self.parts.commands()?;
        let (last, expires) = (commands.len(), node.clock().now().saturating_add(retention));
        let accept = |(n, command): (usize, &Command)| {
            let command = to_raw_value(command)?;
            let fingerprint = xxh3_64(command.get().as_bytes());
            let key = format!("{id} {n}");
            Ok(Accept {
                to: to.clone(),
                command,
                due: None,
                trace: Some(Trace::start()),
                idempotency: Some(Idempotency { key, fingerprint, answer: "null".to_owned(), expires }),
                fence: None,
                wait: n + 1 == last,
            })
        };
        let accepts: Vec<Accept> = commands.iter().enumerate().map(accept).collect::<Result<_>>()?;
        for answer in node.accept_all(accepts).await {
            let accepted = match answer {
                Err(NotAppended::Mismatch) => {
                    let why = "the Idempotency-Key was used for another batch";
                    return Err(Error::terminal(why).code("batch_mismatch"));
                }
                answer => answer?,
            };
            // Until then it is not known to whoever looks.
            if let Some(ended) = accepted.ended {
                node.clock().limit(DEALT, ended).await;
            }
        }
        Ok(())
    }
}
