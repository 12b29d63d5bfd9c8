//! Actor types behind one interface, so that partitions can hold actors of every kind.

use std::{pin::Pin, rc::Rc, sync::Arc};

use super::{
    activation,
    handle::guarded,
    lane::Belongs,
    room::{Room, Slot},
    shared::Shared,
};
use crate::{
    actor::{Actor, Priority},
    address::Address,
    backend::Loaded,
    coordination::limit::Limit,
    durable::dry::{self, Dry, Followed},
    error::{Error, Result},
    query::{Index, declared_fields},
};

/// A registered kind.
pub(crate) trait Kind: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Whether it has state.
    fn stateful(&self) -> bool;
    /// Its declared indexes.
    fn indexes(&self) -> Vec<Index>;
    /// The limits of all its commands together, and of those of each key.
    fn limits(&self) -> (Option<Limit>, Option<Limit>);
    /// What the messages of a key share with others.
    fn belongs(&self, key: &str) -> Belongs;
    /// Whether `command` is one of its commands.
    fn check(&self, command: &str) -> Result<()>;
    /// Brings one of its actors into memory, on this thread.
    fn activate(&self, room: &Rc<Room>, address: Address, loaded: Loaded) -> Result<Slot>;
    /// Runs one of its commands against what is written of it, without effects.
    fn follow<'a>(&'a self, shared: &'a Arc<Shared>, dry: Dry) -> Pin<Box<dyn Future<Output = Followed> + 'a>>;
}

/// A kind of a concrete type.
pub(crate) struct Typed<A: Actor> {
    pub(crate) actor: Arc<A>,
    pub(crate) fields: Arc<[String]>,
}

impl<A: Actor> Typed<A> {
    pub(crate) fn new(actor: A) -> Self {
        Self { actor: Arc::new(actor), fields: declared_fields(&A::indexes()).into() }
    }
}

impl<A: Actor> Kind for Typed<A> {
    fn name(&self) -> &'static str {
        A::KIND
    }

    fn stateful(&self) -> bool {
        size_of::<A::State>() > 0
    }

    fn indexes(&self) -> Vec<Index> {
        A::indexes()
    }

    fn limits(&self) -> (Option<Limit>, Option<Limit>) {
        (self.actor.limit(), self.actor.key_limit())
    }

    fn belongs(&self, key: &str) -> Belongs {
        // It is called for every message, by whoever reads them for all kinds.
        let said = guarded(|| Ok(Belongs::of(A::KIND, A::tenant(key), A::priority(key))));
        said.unwrap_or_else(|_| Belongs::of(A::KIND, None, Priority::Normal))
    }

    fn check(&self, command: &str) -> Result<()> {
        let mut json = serde_json::Deserializer::from_str(command);
        let parsed: Result<A::Command, _> = serde_path_to_error::deserialize(&mut json);
        match parsed {
            Ok(_) => json.end().map_err(|e| Error::from(e).into_terminal().code("bad_command")),
            Err(error) => {
                let path = error.path().to_string();
                let place = if path == "." { String::new() } else { format!(" at {path}") };
                Err(Error::terminal(format!("no command of {}{place}: {}", A::KIND, error.inner())).code("bad_command"))
            }
        }
    }

    fn activate(&self, room: &Rc<Room>, address: Address, loaded: Loaded) -> Result<Slot> {
        activation::start(self, room, address, loaded)
    }

    fn follow<'a>(&'a self, shared: &'a Arc<Shared>, dry: Dry) -> Pin<Box<dyn Future<Output = Followed> + 'a>> {
        Box::pin(dry::follow(&*self.actor, shared, dry))
    }
}
