//! What an account can be told, and what it then remembers: the language that the server under
//! test and its clients share, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One command. `mark` names it, differently from every other command of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Write it down.
    Note { mark: String },
    /// Write it down, failing retryably so many times first.
    Flaky { mark: String, fails: u32 },
    /// Fail for good, after having changed everything.
    Refuse { mark: String },
    /// Fail retryably for ever, after having changed everything.
    Doomed { mark: String },
    /// Give money to another account.
    Send { mark: String, to: String, amount: i64 },
    /// By another account: here is money.
    Receive { mark: String, amount: i64 },
    /// Write it down, and that it rang after so many milliseconds.
    Later { mark: String, ms: u64 },
    /// By a timer: write down that it rang, and when.
    Ring { mark: String },
    /// To a payment: pay somebody.
    Pay(Pay),
    /// Give one to each of very many, all at once: so many messages, to so many accounts in turn.
    Scatter { mark: String, number: u32, over: u32 },
    /// By another account: one of very many.
    Drop { mark: String, index: u32 },
    /// By a payment that did not come about: give back what came under this mark, if it came.
    Return { mark: String, amount: i64 },
}

impl Command {
    /// Its name in the run.
    pub(crate) fn mark(&self) -> &str {
        match self {
            Self::Note { mark } | Self::Flaky { mark, .. } | Self::Refuse { mark } | Self::Doomed { mark } => mark,
            Self::Send { mark, .. } | Self::Receive { mark, .. } => mark,
            Self::Later { mark, .. } | Self::Ring { mark } | Self::Return { mark, .. } => mark,
            Self::Scatter { mark, .. } | Self::Drop { mark, .. } => mark,
            Self::Pay(pay) => &pay.mark,
        }
    }
}

/// A payment: a workflow of several steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pay {
    /// Its name in the run, as of any command.
    pub(crate) mark: String,
    /// The account that gets the money.
    pub(crate) to: String,
    pub(crate) amount: i64,
    /// How long it sleeps, in milliseconds.
    pub(crate) ms: u64,
    /// It fails in the end, and is undone.
    pub(crate) declined: bool,
    /// Others of its key are handled while it waits.
    pub(crate) apart: bool,
}

/// What a payment says to the vendor, a line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The step's idempotency key.
    pub(crate) key: String,
    /// Of which payment.
    pub(crate) mark: String,
    /// What is to be done.
    pub(crate) what: String,
    /// The process that calls.
    pub(crate) process: u32,
    /// Which attempt of the step it is, as far as that process knows.
    pub(crate) attempt: u32,
}

/// The signal that a payment waits for.
pub(crate) const GO: &str = "go";

/// What a client posts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telling {
    /// What to do.
    pub(crate) command: Command,
    /// Not before so many milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_ms: Option<u64>,
}

/// What an account remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Account {
    /// What it has; below zero when it gave more than it got.
    pub(crate) balance: i64,
    /// Everything it did, oldest first.
    pub(crate) tape: Vec<Entry>,
    /// What it got of the very many, by the command that sent them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) drops: BTreeMap<String, Drops>,
}

/// What came of one command to one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Drops {
    /// How many.
    pub(crate) number: u64,
    /// The sum of their numbers.
    pub(crate) sum: u64,
}

/// The account that gets the drop of this number.
pub(crate) fn drop_of(index: u32, over: u32) -> String {
    format!("d{}", index % over)
}

/// What a command is answered: which one it was, and how long the tape then is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Receipt {
    /// Of the command.
    pub(crate) mark: String,
    /// Entries on the tape.
    pub(crate) length: usize,
}

/// One thing an account did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// What.
    pub(crate) what: What,
    /// By which command, or because of which.
    pub(crate) mark: String,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at: i64,
}

/// What an account can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Written down.
    Noted,
    /// Money given.
    Sent,
    /// Money got.
    Received,
    /// A timer rang.
    Rang,
    /// A payment came about.
    Paid,
    /// What a payment had done was taken back.
    Returned,
    /// What must never remain: the mark of a command that failed.
    Leaked,
}
