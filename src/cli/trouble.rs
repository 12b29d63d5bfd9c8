//! Why a command did not succeed: what is wrong, what to do about it, and the exit code.

use crate::error::Error;

/// What a command that did not succeed says.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) what: String,
    pub(crate) help: Option<String>,
    pub(crate) exit: u8,
}

/// The thing asked about is wrong.
pub(crate) const WRONG: u8 = 1;
/// The command was not given right.
pub(crate) const USAGE: u8 = 2;

impl Trouble {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: None, exit: WRONG }
    }

    /// The command line is at fault.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(what) }
    }

    /// What to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}
