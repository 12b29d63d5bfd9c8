//! Where values come from: the compiled-in reference, a file, the environment, flags, later ones
//! winning key by key. Every value remembers its layer, so that errors can name it.

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Tag, Value},
};

use super::suggest::nearest;

/// What the environment layer is called; a value's variable is made from its key.
const ENVIRONMENT: &str = "environment";
const PREFIX: &str = "GREENROOM_";
const DEFAULT: &str = "default";
/// The short name of `[log] filter`, the one key people set by hand all the time.
const LOG: &str = "GREENROOM_LOG";

/// Values with the name of where they come from.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// All layers, merged.
pub(super) struct Layers {
    figment: Figment,
}

impl Layers {
    /// The lowest layer: `reference` as TOML text.
    pub(super) fn defaults(reference: &str) -> Result<Self, String> {
        Self { figment: Figment::new() }.toml(DEFAULT, reference)
    }

    /// Lays the TOML `text` of the file `name` over what is there.
    pub(super) fn toml(self, name: &str, text: &str) -> Result<Self, String> {
        // The TOML error shows the line and points at the place; indented, it reads as one thing.
        let values: Dict = Toml::from_str(text)
            .map_err(|e| format!("{name} is no TOML:\n  {}", e.to_string().trim_end().replace('\n', "\n  ")))?;
        Ok(self.lay(name, values))
    }

    /// Lays `GREENROOM_SECTION__KEY=value` variables over what is there. Values stay text and are
    /// read as whatever type their key has, so a token of digits stays a token.
    ///
    /// Variables without `__` are none of ours (Kubernetes makes some, such as `GREENROOM_PORT`),
    /// except where one is a known key written with too few underscores.
    pub(super) fn environment(self, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let known: Vec<String> = self.keys().iter().map(|key| variable(key)).collect();
        let mut values = Dict::new();
        let mut problems = Vec::new();
        let mut filter = None;
        for (name, value) in vars {
            if name == LOG {
                filter = Some(value);
                continue;
            }
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            match key.split_once("__") {
                Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                    let section =
                        values.entry(section.to_lowercase()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
                    if let Value::Dict(_, section) = section {
                        section.insert(key.to_lowercase(), value.into());
                    }
                }
                _ => {
                    let flat = |name: &str| name.replace("__", "_");
                    let flattened: Vec<String> = known.iter().map(|k| flat(k)).collect();
                    let near = nearest(&name, flattened.iter().map(String::as_str))
                        .filter(|near| strsim::damerau_levenshtein(near, &name) <= 2)
                        .and_then(|near| known.iter().find(|k| flat(k) == near));
                    if let Some(near) = near {
                        problems.push(format!("environment variable {name} is not known: did you mean {near}?"));
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems.join("\n"));
        }
        let layers = self.lay(ENVIRONMENT, values);
        // An empty variable is how a shell unsets one for a single command.
        Ok(match filter.filter(|text| !text.is_empty()) {
            Some(filter) => layers.set(LOG, "log", "filter", &filter),
            None => layers,
        })
    }

    /// Sets one key, from a command-line flag or code.
    pub(super) fn set(self, name: &str, section: &str, key: &str, value: &str) -> Self {
        let inner: Dict = [(key.to_owned(), Value::from(value))].into_iter().collect();
        self.lay(name, [(section.to_owned(), Value::Dict(Tag::Default, inner))].into_iter().collect())
    }

    fn lay(self, name: &str, values: Dict) -> Self {
        Self { figment: self.figment.merge(Layer { name: name.to_owned(), values }) }
    }

    /// The merged values.
    pub(super) fn values(&self) -> Dict {
        self.figment.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default()
    }

    /// Every `section.key` that has a value, in alphabetical order.
    pub(super) fn keys(&self) -> Vec<String> {
        self.values()
            .into_iter()
            .flat_map(|(section, value)| match value {
                Value::Dict(_, inner) => inner.into_keys().map(|key| format!("{section}.{key}")).collect(),
                _ => vec![section],
            })
            .collect()
    }

    /// Where the value of `key` comes from: `default`, a file, a variable, a flag.
    pub(super) fn source(&self, tag: Tag, key: &str) -> String {
        match self.layer(tag) {
            ENVIRONMENT => variable(key),
            name => name.to_owned(),
        }
    }

    /// Whether a value is text because its layer knows nothing else.
    pub(super) fn is_text_only(&self, tag: Tag) -> bool {
        self.layer(tag) == ENVIRONMENT || self.layer(tag).starts_with("--")
    }

    /// Whether the value is the reference's own.
    pub(super) fn is_default(&self, tag: Tag) -> bool {
        self.layer(tag) == DEFAULT
    }

    fn layer(&self, tag: Tag) -> &str {
        self.figment.get_metadata(tag).map_or(DEFAULT, |metadata| &metadata.name)
    }
}

/// The environment variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}
