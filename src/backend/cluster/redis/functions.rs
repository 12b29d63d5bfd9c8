//! The library of functions: loaded into every master, and deleted when it is one of an old build.

use std::time::Duration;

use fred::types::Value;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Redis, Repeat, Way, arg, list, live::Live, send::Request, servers::Node};
use crate::error::{Error, Result};

/// The functions, all of them in one library, which says `greenroom_1` where its name goes.
const LIBRARY: &str = concat!(
    include_str!("../functions/base.lua"),
    include_str!("../functions/upgrade.lua"),
    include_str!("../functions/warm.lua"),
    include_str!("../functions/accept.lua"),
    include_str!("../functions/journal.lua"),
    include_str!("../functions/commit.lua"),
    include_str!("../functions/owner.lua"),
    include_str!("../functions/upkeep.lua"),
    include_str!("../functions/look.lua"),
    include_str!("../functions/resize.lua"),
    include_str!("../functions/nodes.lua"),
    include_str!("../functions/session.lua"),
    include_str!("../functions/limits.lua"),
    include_str!("../functions/names.lua"),
);

/// What the names of all libraries of all builds begin with.
const FAMILY: &str = "greenroom_";
/// So many libraries stay, the newest ones: more builds than that never run side by side, and one that is
/// in use all the same is loaded again when a function is missed.
const KEPT: usize = 16;
/// In which order the libraries were loaded: of the server, whichever prefixes are in it.
const LOADED: &str = "greenroom:{libraries}";
/// How long a server may take to load it.
const LOADING: Duration = Duration::from_secs(5);

/// What the library and its functions are called: by what is in it, so that nodes of two builds work
/// side by side while one replaces the other.
pub(super) fn library() -> String {
    format!("{FAMILY}{:016x}", xxhash_rust::xxh3::xxh3_64(LIBRARY.as_bytes()))
}

impl Redis {
    /// Loads the functions into every master.
    pub(super) async fn load(&self) -> Result<()> {
        for node in self.servers.all() {
            let until = Instant::now() + 2 * LOADING;
            let loaded = match node.link(Way::Reader).live(until).await {
                Ok(live) => self.load_over(&live).await,
                Err(why) => return Err(Error::new(format!("connecting to {}: {why}", node.name())).code("redis")),
            };
            loaded.map_err(|why| {
                let what = "loading Greenroom's functions into Redis (7.0 or newer is needed)";
                Error::new(format!("{what}, {}: {why}", node.name())).code("redis")
            })?;
        }
        Ok(())
    }

    /// Loads them over a connection, unless they are there: their name says what is in them. Loaded once more they would
    /// forget how far they have seen each partition come.
    pub(super) async fn load_over(&self, live: &Live) -> Result<(), String> {
        let functions = LIBRARY.replace("greenroom_1", &self.library);
        let args = vec![Value::from("LOAD"), arg(functions)];
        match live.ask("FUNCTION", args, Instant::now() + LOADING).await {
            Err(error) if !error.details().contains("already exists") => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Deletes the libraries of old builds. Of no matter when it fails: they only take memory.
    pub(in crate::backend::cluster) async fn delete_old_libraries(&self) {
        let known = match self.note_library().await {
            Ok(known) => known,
            Err(why) => return debug!(why, "old libraries of functions stay"),
        };
        for node in self.servers.all() {
            match self.delete_old(&node, &known).await {
                Ok(0) => {}
                Ok(deleted) => info!(deleted, server = node.name(), "libraries of functions of old builds are deleted"),
                Err(why) => debug!(why, server = node.name(), "old libraries of functions stay"),
            }
        }
    }

    /// Notes that this build's is the newest, and says which there were, the newest first.
    async fn note_library(&self) -> Result<Vec<String>, String> {
        let ask = async |command, name, args: Vec<Value>| {
            let request =
                Request { command, args, name, key: LOADED, way: Way::Reader, repeat: Repeat::Safe, durable: None };
            self.send(request).await.map_err(|fault| fault.to_string())
        };
        let count = ask("INCR", "INCR", vec![Value::from(format!("{LOADED}:count"))]).await?;
        ask("ZADD", "ZADD", vec![Value::from(LOADED), count, Value::from(self.library.clone())]).await?;
        // Those that were forgotten are the oldest.
        let most = -(2 * KEPT as i64) - 1;
        ask("ZREMRANGEBYRANK", "ZREMRANGEBYRANK", vec![Value::from(LOADED), Value::from(0), Value::from(most)]).await?;
        let all = vec![Value::from(LOADED), Value::from(0), Value::from(-1)];
        let known = ask("ZREVRANGE", "ZREVRANGE", all).await?;
        Ok(list(known).iter().filter_map(Value::as_string).collect())
    }

    /// Deletes what one server has of them.
    async fn delete_old(&self, node: &Node, known: &[String]) -> Result<usize, String> {
        let until = Instant::now() + LOADING;
        let live = node.link(Way::Reader).live(until).await?;
        let args = vec![Value::from("LIST"), Value::from("LIBRARYNAME"), Value::from(format!("{FAMILY}*"))];
        let found = live.ask("FUNCTION", args, until).await.map_err(|e| e.to_string())?;
        let mut names: Vec<String> = list(found).into_iter().filter_map(name).collect();
        let age = |name: &String| known.iter().position(|other| other == name).unwrap_or(usize::MAX);
        names.sort_by_key(age);
        let old = names.split_off(names.len().min(KEPT));
        for name in &old {
            let args = vec![Value::from("DELETE"), Value::from(name.clone())];
            live.ask("FUNCTION", args, until).await.map_err(|e| e.to_string())?;
        }
        Ok(old.len())
    }
}

/// The name of a library in the answer of `FUNCTION LIST`.
fn name(library: Value) -> Option<String> {
    let fields = match library {
        // As newer protocols say it.
        Value::Map(map) => return map.inner().remove(&"library_name".into()).and_then(|name| name.as_string()),
        other => list(other),
    };
    let at = fields.iter().position(|field| field.as_string().as_deref() == Some("library_name"))?;
    fields.get(at + 1).and_then(Value::as_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_its_name_in_both_protocols() {
        let fields = ["library_name", "greenroom_1", "engine", "LUA"].map(Value::from);
        assert_eq!(name(Value::Array(fields.to_vec())).as_deref(), Some("greenroom_1"));
        assert_eq!(name(Value::Array(vec![])), None);
    }
}
