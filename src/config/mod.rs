//! Configuration: `config.toml` is compiled in as the defaults, a file, the environment and flags
//! override it key by key, and whatever is not understood is refused with its place and source.

mod layers;
mod limits;
mod secret;
mod sections;
mod shown;
mod strict;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

pub(crate) use sections::{Admin, Drain, Format, Gateway, Kind, Live, Log, Runtime, Session, Store};
pub use {
    secret::Secret,
    shown::Shown,
    units::{duration, parse_duration, parse_size, show_duration, show_size, size},
};

use crate::error::{Error, Result};
use layers::Layers;
use limits::Limits;

/// The complete reference: every key with its default.
pub const REFERENCE: &str = include_str!("../../config.toml");

/// Everything that is configured, checked.
pub struct Config {
    layers: Layers,
    values: Dict,
    /// Which sections somebody reads, and what is known of them: features claim theirs.
    claimed: Mutex<BTreeMap<String, Section>>,
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) gateway: Gateway,
    pub(crate) session: Session,
    pub(crate) live: Live,
    pub(crate) admin: Admin,
    pub(crate) drain: Drain,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
}

#[derive(Default)]
struct Section {
    secret: BTreeSet<String>,
    known: BTreeSet<String>,
}

/// What a [`Config`] is made of, lowest layer first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// TOML text of defaults besides [`REFERENCE`]: the sections of a product's features.
    pub defaults: Vec<&'static str>,
    /// The file that `--config` names.
    pub file: Option<std::path::PathBuf>,
    /// Environment variables, of which those that start with `GREENROOM_` count.
    pub environment: Vec<(String, String)>,
    /// Flags: their name (`--listen`), section, key and value.
    pub flags: Vec<(&'static str, &'static str, &'static str, String)>,
}

impl Sources {
    /// The environment of this process, nothing else.
    pub fn process() -> Self {
        // Names and values that are no UTF-8 cannot be ours.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { environment: std::env::vars_os().filter_map(text).collect(), ..Self::default() }
    }
}

impl Config {
    /// The defaults, overridden by the file (if any) and the environment of this process.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        Self::from_sources(Sources { file: file.map(Path::to_owned), ..Sources::process() })
    }

    /// From exactly these sources. Terminal error listing every problem, one a line.
    pub fn from_sources(sources: Sources) -> Result<Self> {
        Self::build(sources).map_err(|problems| Error::terminal(problems.join("\n")).code("config"))
    }

    fn build(sources: Sources) -> Result<Self, Vec<String>> {
        let layers = Self::layers(sources).map_err(|problem| vec![problem])?;
        let values = layers.values();
        let claimed = Mutex::default();
        let mut reader = Reader { layers: &layers, values: &values, claimed: &claimed, problems: Vec::new() };
        let (store, runtime, gateway) = (reader.read("store"), reader.read("runtime"), reader.read("gateway"));
        let (session, admin, drain, log) =
            (reader.read("session"), reader.read("admin"), reader.read("drain"), reader.read("log"));
        let (live, limits) = (reader.read("live"), reader.read("limits"));
        let mut problems = reader.problems;
        // A section of scalars is a feature's business, but a scalar outside of any is nobody's.
        for (key, value) in values.iter().filter(|(_, value)| !matches!(value, Value::Dict(..))) {
            let known = layers.keys();
            let near = known.iter().find(|known| known.ends_with(&format!(".{key}"))).cloned();
            let hint = near.map_or("a key belongs below a [section]".into(), |near| format!("did you mean {near:?}?"));
            problems.push(format!("unknown key {key:?} (from {}): {hint}", layers.source(value.tag(), key)));
        }
        // A section that could not be read has said why.
        let whole = || {
            Some(Self {
                layers,
                values,
                claimed,
                store: store?,
                runtime: runtime?,
                gateway: gateway?,
                session: session?,
                live: live?,
                admin: admin?,
                drain: drain?,
                log: log?,
                limits: limits?,
            })
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        whole().ok_or(problems)
    }

    fn layers(sources: Sources) -> Result<Layers, String> {
        let mut layers = Layers::defaults(REFERENCE)?;
        for more in sources.defaults {
            layers = layers.toml("default", more)?;
        }
        if let Some(file) = sources.file {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .map_err(|e| format!("the configuration file {name:?} cannot be read: {e}"))?;
            layers = layers.toml(&name, &text)?;
        }
        layers = layers.environment(sources.environment)?;
        for (flag, section, key, value) in sources.flags {
            layers = layers.set(flag, section, key, &value);
        }
        Ok(layers)
    }

    /// A feature's own section, read as strictly as Greenroom's: keys that `T` does not have are
    /// refused. Give every field a default, or the section must be written. Use
    /// [`duration`], [`size`] and [`Secret`] for what they are for.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use greenroom::config::{Config, Sources, duration};
    /// #[derive(serde::Deserialize)]
    /// struct Shop {
    ///     currency: String,
    ///     #[serde(deserialize_with = "duration")]
    ///     ship_after: Duration,
    /// }
    ///
    /// let defaults = "[shop]\ncurrency = \"EUR\"\nship_after = \"24h\"";
    /// let config = Config::from_sources(Sources { defaults: vec![defaults], ..Sources::default() }).unwrap();
    /// let shop: Shop = config.section("shop").unwrap();
    /// assert_eq!(shop.ship_after.as_secs(), 24 * 3600);
    /// ```
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let mut reader =
            Reader { layers: &self.layers, values: &self.values, claimed: &self.claimed, problems: Vec::new() };
        let read = reader.read(name);
        read.ok_or_else(|| Error::terminal(reader.problems.join("\n")).code("config"))
    }

    /// Refuses sections that nobody reads. Called when all features were built.
    pub fn finish(&self) -> Result<()> {
        let claimed = self.claimed();
        let unknown = self.values.iter().filter(|(name, _)| !claimed.contains_key(*name));
        let problems: Vec<String> = unknown
            .map(|(name, value)| {
                // A section's own tag is that of its first layer, which is who brought it up.
                let from = match value {
                    Value::Dict(_, dict) => dict.iter().next().map(|(key, v)| (v.tag(), format!("{name}.{key}"))),
                    _ => None,
                };
                let from = from.unwrap_or_else(|| (value.tag(), name.clone()));
                let hint = suggest::hint(name, claimed.keys().map(String::as_str));
                format!("unknown section [{name}] (from {}): {hint}", self.layers.source(from.0, &from.1))
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(Error::terminal(problems.join("\n")).code("config")) }
    }

    fn claimed(&self) -> MutexGuard<'_, BTreeMap<String, Section>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads sections one after the other, collecting what is wrong with them.
struct Reader<'a> {
    layers: &'a Layers,
    values: &'a Dict,
    claimed: &'a Mutex<BTreeMap<String, Section>>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn read<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let (read, notes) = strict::read(self.layers, name, self.values.get(name).cloned());
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let section = claimed.entry(name.to_owned()).or_default();
        section.secret.extend(notes.secret);
        section.known.extend(notes.known);
        read.map_err(|problems| self.problems.extend(problems)).ok()
    }
}
