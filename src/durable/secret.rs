//! Values that nobody is to read who looks at a journal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value that journals show as `"[redacted]"`, and logs not at all. It is stored as what it is: a
/// command must find it again.
///
/// ```
/// use greenroom::Secret;
/// let token = Secret::new("tok_123".to_owned());
/// assert_eq!(format!("{token:?}"), "[redacted]");
/// assert_eq!(token.get(), "tok_123");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret<T> {
    #[serde(rename = "$secret")]
    value: T,
}

impl<T> Secret<T> {
    /// Keeps a value.
    pub fn new(value: T) -> Self {
        Self { value }
    }

    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value, kept no longer.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The JSON as it may be shown: every [`Secret`] in it is replaced.
pub(crate) fn redacted(mut json: serde_json::Value) -> serde_json::Value {
    hide(&mut json);
    json
}

fn hide(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(map) if map.len() == 1 && map.contains_key("$secret") => {
            *json = serde_json::Value::String("[redacted]".into());
        }
        serde_json::Value::Object(map) => map.values_mut().for_each(hide),
        serde_json::Value::Array(list) => list.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_wherever_it_is() {
        let shown = redacted(serde_json::json!({ "card": [Secret::new("4242")], "sum": 5 }));
        assert_eq!(shown, serde_json::json!({ "card": ["[redacted]"], "sum": 5 }));
    }
}
