//! What is in force and where it comes from, for `greenroom config check`. Secrets stay secret.

use figment::value::Value;
use serde::Serialize;

use super::{Config, strict};

/// One effective value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `section.key`.
    pub key: String,
    /// As it would be written in TOML; a secret only says whether it is set.
    pub value: String,
    /// `default`, the file, the environment variable or the flag.
    pub source: String,
    /// Whether it is what `config.toml` says.
    #[serde(skip)]
    pub default: bool,
}

impl Config {
    /// Every effective value, in order of section and key.
    pub fn shown(&self) -> Vec<Shown> {
        let mut all = Vec::new();
        for (section, value) in &self.values {
            self.walk(section, value, &mut all);
        }
        all
    }

    /// Whether `key` has the value that the reference gives it.
    pub(crate) fn is_default(&self, key: &str) -> bool {
        self.shown().iter().any(|shown| shown.key == key && shown.default)
    }

    fn walk(&self, key: &str, value: &Value, all: &mut Vec<Shown>) {
        match value {
            Value::Dict(_, dict) if !dict.is_empty() => {
                for (name, inner) in dict {
                    self.walk(&format!("{key}.{name}"), inner, all);
                }
            }
            value => all.push(Shown {
                key: key.to_owned(),
                value: self.safe(key, value),
                source: self.layers.source(value.tag(), key),
                default: self.layers.is_default(value.tag()),
            }),
        }
    }

    /// Secret is what some section read as a [`Secret`](super::Secret), and whatever nobody read
    /// but is named like one.
    fn safe(&self, key: &str, value: &Value) -> String {
        let section = key.split('.').next().unwrap_or(key);
        let claimed = self.claimed();
        let secret = claimed.get(section).map_or_else(
            || ["token", "secret", "password", "key"].iter().any(|word| key.contains(word)),
            |section| section.secret.contains(key),
        );
        match value {
            Value::String(_, text) if secret && text.is_empty() => "(not set)".into(),
            _ if secret => "(secret)".into(),
            value => strict::show(value),
        }
    }
}
