//! A value that is never printed. It comes from the environment or from a file of its own, never
//! from a configuration file, so no secret is ever committed or shown by accident.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// The serde name by which the strict deserializer knows that a value is secret.
pub(super) const NAME: &str = "Secret";

/// A secret text. A section's field `token: Secret` is set by the environment variable
/// `GREENROOM_SECTION__TOKEN` or by the key `token_file`, the path of a file that holds it.
///
/// ```
/// use greenroom::config::Secret;
/// let token = Secret::new("s3cret");
/// assert_eq!(format!("{token:?}"), "(secret)");
/// assert_eq!(token.reveal(), "s3cret");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of every output.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(not set)" } else { "(secret)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret text")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
                String::deserialize(deserializer).map(Secret)
            }
        }
        deserializer.deserialize_newtype_struct(NAME, Visitor)
    }
}
