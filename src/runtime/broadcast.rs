//! What is said to all nodes at once: at most once each, and to who listens now. Nothing here is kept, so
//! nothing here may matter: caches that are filled again, views that look again.
//!
//! Invariant: whoever listens too slowly is told that it missed something, and holds nobody up.

use std::{marker::PhantomData, sync::Arc};

use dashmap::DashMap;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

use super::{letter::Letter, node::Node, shared::Shared};
use crate::error::{Error, Result};

/// The longest name, in bytes, and the largest value.
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 64 << 10;
/// What a slow listener may be behind.
const BEHIND: usize = 1024;

/// Something to say.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    name: Arc<str>,
    value: Arc<RawValue>,
    /// Which nodes it is for; `None` is all of them.
    nodes: Option<Vec<u64>>,
}

impl Cast {
    /// For all nodes. Terminal error when the name or the value is too long, or is no JSON.
    pub(crate) fn to_all(name: &str, value: &impl Serialize) -> Result<Self> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::terminal(format!(
                "the name of a broadcast has 1 to {MAX_NAME} bytes, {name:?} has not"
            )));
        }
        let value = to_raw_value(value)?;
        if value.get().len() > MAX_VALUE {
            let bytes = value.get().len();
            return Err(Error::terminal(format!(
                "{bytes} bytes are too many to broadcast, at most {MAX_VALUE} are: say where it is instead"
            )));
        }
        Ok(Self { name: name.into(), value: value.into(), nodes: None })
    }

    /// For these nodes only.
    pub(crate) fn only(self, nodes: Vec<u64>) -> Self {
        Self { nodes: Some(nodes), ..self }
    }
}

/// Everybody who listens on this node.
#[derive(Default)]
pub(crate) struct Listeners(DashMap<String, Sender<Arc<RawValue>>>);

impl Listeners {
    /// Hears what is said under a name; the first who does says how far behind all may be.
    pub(crate) fn listen(&self, name: &str, behind: usize) -> Receiver<Arc<RawValue>> {
        self.0.entry(name.to_owned()).or_insert_with(|| Sender::new(behind)).subscribe()
    }

    /// Tells those of this node.
    pub(crate) fn hear(&self, name: &str, value: Arc<RawValue>) {
        if let Some(listeners) = self.0.get(name) {
            // The last one may have gone.
            let _ = listeners.send(value);
        }
    }

    /// Forgets names that nobody listens to any more.
    pub(crate) fn sweep(&self) {
        self.0.retain(|_, listeners| listeners.receiver_count() > 0);
    }
}

impl Shared {
    /// Says something, here and on the other nodes.
    pub(crate) fn cast(&self, cast: Cast) {
        let me = self.backend.me();
        if cast.nodes.as_ref().is_none_or(|nodes| nodes.contains(&me)) {
            self.listeners.hear(&cast.name, cast.value.clone());
        }
        let Some(others) = &self.others else { return };
        let letter = Letter::Cast { name: cast.name.to_string(), value: (*cast.value).to_owned() };
        match &cast.nodes {
            Some(nodes) => nodes.iter().filter(|node| **node != me).for_each(|node| others.write(*node, &letter)),
            None => {
                let members = others.members();
                let nodes = members.iter().map(|member| member.id).filter(|node| *node != me);
                nodes.for_each(|node| others.write(node, &letter));
            }
        }
    }
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// A value.
    Value(T),
    /// This many were missed: whoever listens was too slow.
    Missed(u64),
}

/// Hears what is said under one name. Ends with the node.
pub struct Listener<T> {
    values: Receiver<Arc<RawValue>>,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Listener<T> {
    /// The next value. Terminal error when the node has ended, or when the value is no `T`: another build
    /// may have said it.
    pub async fn next(&mut self) -> Result<Heard<T>> {
        match self.values.recv().await {
            Ok(value) => {
                Ok(Heard::Value(serde_json::from_str(value.get()).map_err(|e| Error::from(e).into_terminal())?))
            }
            Err(RecvError::Lagged(missed)) => Ok(Heard::Missed(missed)),
            Err(RecvError::Closed) => Err(Error::terminal("the node has ended").code("ended")),
        }
    }
}

impl Node {
    /// Says something to everybody who listens under this name, on all nodes: at most once, and to who is
    /// there now. Terminal error when name or value is too long.
    pub fn broadcast(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.shared.cast(Cast::to_all(name, value)?);
        Ok(())
    }

    /// Listens to what is said under a name from now on.
    pub fn listen<T: DeserializeOwned>(&self, name: &str) -> Listener<T> {
        Listener { values: self.shared.listeners.listen(name, BEHIND), value: PhantomData }
    }
}
