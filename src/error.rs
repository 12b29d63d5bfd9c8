//! What a handler returns when it cannot complete: retryable unless it says terminal.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The result of a handler, and of everything a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command did not complete.
///
/// Any `std::error::Error` becomes a *retryable* error with `?`: the command is tried again
/// with backoff. A *terminal* error fails the command at once, for good.
///
/// ```
/// use greenroom::Error;
/// let flaky: Error = std::io::Error::other("connection reset").into();
/// assert!(!flaky.is_terminal());
/// let refused = Error::terminal("the order is already paid").code("already_paid");
/// assert!(refused.is_terminal());
/// ```
pub struct Error {
    code: Cow<'static, str>,
    message: String,
    causes: Vec<String>,
    terminal: bool,
    retry_after: Option<Duration>,
}

impl Error {
    /// A retryable error.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: "error".into(), message: message.into(), causes: Vec::new(), terminal: false, retry_after: None }
    }

    /// A terminal error: trying again cannot help.
    pub fn terminal(message: impl Into<String>) -> Self {
        Self { code: "rejected".into(), terminal: true, ..Self::new(message) }
    }

    /// A short machine-readable name of the error, kept in results: `out_of_stock`.
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into();
        self
    }

    /// Not before this long from now, whatever the backoff says (a vendor's `Retry-After`).
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what was being done; the present message becomes the first cause.
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, doing.into());
        self.causes.insert(0, inner);
        self
    }

    /// Makes this error terminal.
    pub fn into_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Whether trying again is pointless.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether this is its [code](Error::code).
    pub fn has_code(&self, code: &str) -> bool {
        self.code == code
    }

    /// The least wait before the next attempt, where the error names one.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The record of this error that is stored with the attempt that met it.
    pub fn failure(&self, attempt: u32, at: i64) -> Failure {
        Failure {
            code: self.code.to_string(),
            message: self.message.clone(),
            causes: self.causes.clone(),
            terminal: self.terminal,
            attempt,
            at,
        }
    }
}

/// One recorded failure of one attempt, with its whole cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Machine-readable name, see [`Error::code`]; `panic`, `timeout`, `crash` and
    /// `undecodable` are Greenroom's own.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What caused it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether the handler said that trying again is pointless.
    pub terminal: bool,
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl Failure {
    /// The error it is the record of.
    pub fn to_error(&self) -> Error {
        Error {
            code: self.code.clone().into(),
            message: self.message.clone(),
            causes: self.causes.clone(),
            terminal: self.terminal,
            retry_after: None,
        }
    }

    /// Bytes it takes, roughly.
    pub fn size(&self) -> usize {
        self.code.len() + self.message.len() + self.causes.iter().map(String::len).sum::<usize>() + 64
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({}{})", self.code, if self.terminal { ", terminal" } else { "" })
    }
}

// `Error` itself is no `std::error::Error`, which is what makes this conversion possible.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { causes, ..Self::new(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_and_sources_are_kept_in_order() {
        let error = Error::from(std::io::Error::other("reset")).context("charging the card");
        assert_eq!(error.to_string(), "charging the card: reset");
        assert_eq!(error.failure(2, 5).causes, ["reset"]);
    }
}
