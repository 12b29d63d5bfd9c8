//! What features say of topics: which there are, which groups subscribe, and how an event becomes commands.
//!
//! Invariant: a node knows one way to make commands of a topic's events for a group, or does not start.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::{Event, Keep, MAX_NAME, MAX_SHARDS, Topic, is_name};
use crate::{
    actor::Actor,
    address::{Address, At},
    error::{Error, Result},
    feature::Feature,
    runtime::handle::{UNDECODABLE, guarded},
};

/// The most commands that one event becomes for one group, and their bytes: more would be a commit that no
/// store takes.
const MAX_TELLS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// A group of subscribers: it gets each event of a topic once, whichever node and build runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(super) name: String,
    pub(super) from_now: bool,
}

impl Group {
    /// A group that begins with the oldest event that is kept. Names are made like those of a
    /// [topic](Topic::new).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), from_now: false }
    }

    /// It begins with the first event after it is first declared.
    pub fn from_now(self) -> Self {
        Self { from_now: true, ..self }
    }
}

impl From<&str> for Group {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// The commands that an event becomes.
#[derive(Default)]
pub struct Tells {
    told: Vec<(Address, Box<RawValue>)>,
    /// The first that could not be made.
    error: Option<Error>,
}

impl Tells {
    /// Tells an actor, in the order said. A command or a key that cannot be stored makes the event one that
    /// the group can make nothing of.
    pub fn tell<B: Actor>(&mut self, to: At<B>, command: B::Command) {
        let made = to.address().and_then(|to| Ok((to, to_raw_value(&command)?)));
        match made {
            Ok(told) => self.told.push(told),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }

    fn done(self) -> Result<Vec<(Address, Box<RawValue>)>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (count, bytes) = (self.told.len(), self.told.iter().map(|(_, told)| told.get().len()).sum::<usize>());
        if count > MAX_TELLS || bytes > MAX_BYTES {
            return Err(Error::terminal(format!(
                "one event became {count} commands of {bytes} bytes: at most {MAX_TELLS} of {MAX_BYTES} bytes are told"
            )));
        }
        Ok(self.told)
    }
}

/// An event as it is kept.
pub(super) struct Kept<'a> {
    pub(super) shard: u16,
    pub(super) sequence: u64,
    pub(super) at: i64,
    pub(super) key: &'a str,
    pub(super) value: &'a RawValue,
}

/// Makes commands of an event. The error has the code `undecodable` when the event is none that this build
/// understands.
pub(super) type Route = Arc<dyn Fn(&Kept<'_>) -> Result<Vec<(Address, Box<RawValue>)>> + Send + Sync>;

/// What a feature says of a topic.
#[derive(Clone)]
pub(crate) struct Declaration {
    topic: &'static str,
    shards: u16,
    keep: Keep,
    group: Option<(Group, Route)>,
}

impl Declaration {
    fn of<T>(topic: Topic<T>, group: Option<(Group, Route)>) -> Self {
        Self { topic: topic.name, shards: topic.shards, keep: topic.keep, group }
    }
}

impl Feature {
    /// Declares a topic that it publishes to: how long its events are kept. Whoever subscribes declares it
    /// too.
    pub fn topic<T>(mut self, topic: Topic<T>) -> Self {
        self.topics.push(Declaration::of(topic, None));
        self
    }

    /// Subscribes a group to a topic: `route` tells, for each event, which actors are told what. They are
    /// ordinary commands, in the order of the events of a key, each event once.
    ///
    /// `route` decides by the event alone, is quick, and does nothing else: it may run again, and it runs
    /// on whichever node has the topic's shard. An event that it cannot make commands of does not hold up
    /// the others: it becomes a dead letter. One that is no `T` in this build waits for another build first.
    ///
    /// ```
    /// # use greenroom::{Topic, prelude::*};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed { customer: String, total: u64 }
    /// # const ORDERS: Topic<Placed> = Topic::new("orders");
    /// # struct Billing;
    /// # impl Actor for Billing {
    /// #     const KIND: &'static str = "billing"; type State = u64; type Command = u64; type Reply = ();
    /// #     async fn handle(&self, owed: &mut u64, total: u64, _: &Context<Self>) -> Result<()> {
    /// #         *owed += total; Ok(()) }
    /// # }
    /// let billing = Feature::new(Billing).subscribe(ORDERS, "billing", |event, to| {
    ///     to.tell(Billing::at(&*event.value.customer), event.value.total);
    /// });
    /// ```
    pub fn subscribe<T: DeserializeOwned + 'static>(
        mut self,
        topic: Topic<T>,
        group: impl Into<Group>,
        route: impl Fn(&Event<T>, &mut Tells) + Send + Sync + 'static,
    ) -> Self {
        let route: Route = Arc::new(move |kept| guarded(|| apply(&route, kept)));
        self.topics.push(Declaration::of(topic, Some((group.into(), route))));
        self
    }
}

fn apply<T: DeserializeOwned>(
    route: &impl Fn(&Event<T>, &mut Tells),
    kept: &Kept<'_>,
) -> Result<Vec<(Address, Box<RawValue>)>> {
    let value = serde_json::from_str(kept.value.get())
        .map_err(|e| Error::from(e).into_terminal().code(UNDECODABLE).context("this build cannot read the event"))?;
    let event = Event { shard: kept.shard, sequence: kept.sequence, at: kept.at, key: kept.key.to_owned(), value };
    let mut tells = Tells::default();
    route(&event, &mut tells);
    tells.done()
}

/// What this build knows of topics.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    pub(super) topics: BTreeMap<&'static str, Declared>,
}

/// A topic that this build declares.
#[derive(Clone)]
pub(super) struct Declared {
    pub(super) shards: u16,
    pub(super) keep: Keep,
    pub(super) groups: BTreeMap<String, (Group, Route)>,
}

impl Registry {
    /// Of these features. Terminal error when a name cannot be used, a topic is declared in two ways, or a
    /// group subscribes twice.
    pub(crate) fn of(features: &[Feature]) -> Result<Self> {
        let mut registry = Self::default();
        for declaration in features.iter().flat_map(|feature| &feature.topics) {
            registry.add(declaration)?;
        }
        Ok(registry)
    }

    fn add(&mut self, declaration: &Declaration) -> Result<()> {
        let Declaration { topic: name, shards, keep, group } = declaration;
        named("topic", name)?;
        if !(1..=MAX_SHARDS).contains(shards) {
            return Err(Error::terminal(format!("topic {name:?} has {shards} shards: expected 1 to {MAX_SHARDS}")));
        }
        let fresh = || Declared { shards: *shards, keep: *keep, groups: BTreeMap::new() };
        let topic = self.topics.entry(name).or_insert_with(fresh);
        if (topic.shards, topic.keep) != (*shards, *keep) {
            return Err(Error::terminal(format!(
                "topic {name:?} is declared in two ways: expected one constant that all features share"
            )));
        }
        let Some((group, route)) = group else { return Ok(()) };
        named("group", &group.name)?;
        if topic.groups.insert(group.name.clone(), (group.clone(), route.clone())).is_some() {
            return Err(Error::terminal(format!("group {:?} subscribes twice to topic {name:?}", group.name)));
        }
        Ok(())
    }

    /// How this build makes commands for a group.
    pub(super) fn route(&self, topic: &str, group: &str) -> Option<&Route> {
        Some(&self.topics.get(topic)?.groups.get(group)?.1)
    }
}

fn named(what: &str, name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::terminal(format!(
        "{what} {name:?} cannot be called so: expected 1 to {MAX_NAME} lower-case letters, digits, _, - and ., starting with a letter"
    )))
}
