//! The checker: holds what clients were promised against what there is in the end. It knows the
//! accounts' rules and nothing of the runtime, and it only reads.
//!
//! ```text
//! requests   each promise ended, once, in the way it had to
//! tapes      each effect is there once, in order, and nothing else is
//! flows      each payment's steps were done once, and taken back once when it did not come about
//! sums       each account has what the commands that completed gave and took, and nothing beyond it
//! books      money is conserved, the ledger counts what the clients count
//! losses     what may be missing or there twice since Redis forgot something it had confirmed, and what may not
//! ```

mod books;
#[cfg(test)]
mod flow_tests;
mod flows;
#[cfg(test)]
mod loss_tests;
mod losses;
mod requests;
mod sums;
mod tapes;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde_json::Value;

use crate::{
    command::{Account, Command},
    history::Event,
    killer::Trouble,
    servers::Loss,
    vendor::Called,
};

/// Everything the checker is given.
#[derive(Clone, Default)]
pub(crate) struct Evidence {
    /// The clients' own file.
    pub(crate) history: Vec<Event>,
    /// What `GET /requests/{id}` answered in the end, of every promised id.
    pub(crate) requests: HashMap<String, Value>,
    /// Every account as `GET /accounts/{account}` told it in the end.
    pub(crate) accounts: BTreeMap<String, Account>,
    /// `GET /admin/ledger`.
    pub(crate) ledger: Value,
    /// `audit --json`.
    pub(crate) audit: Value,
    /// Every call that the vendor heard, in that order.
    pub(crate) calls: Vec<Called>,
    /// When something was wrong on purpose.
    pub(crate) faults: Vec<Trouble>,
    /// When Redis forgot something that it had confirmed.
    pub(crate) losses: Vec<Loss>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// A client was refused, or told nothing for too long.
    NotPromised,
    /// One telling got two ids, or two got one.
    PromisedTwice,
    /// A promise did not end, or nobody knows it.
    NotEnded,
    /// It ended in a way it could not.
    OtherEnd,
    /// It ended otherwise than a client had been told.
    ChangedEnd,
    /// It was answered with another command's result.
    OthersResult,
    /// It completed and there is no effect.
    Lost,
    /// An effect is there twice.
    Doubled,
    /// An effect that no completed request explains.
    Unexplained,
    /// One client's commands took effect in another order than they were accepted.
    Reordered,
    /// Money left one account and did not arrive in the other.
    HalfTransfer,
    /// A timer rang before its time.
    Early,
    /// An account's balance is not what its tape says, or the sum is not zero.
    Money,
    /// What a payment had done was not taken back, or was though the payment came about.
    NotUndone,
    /// A step was called more often than can be explained, or after its result was known.
    CalledAgain,
    /// The ledger does not count what the clients count.
    Ledger,
}

/// One thing that is wrong, with all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) wrong: Wrong,
    pub(crate) what: String,
    /// The command's whole history.
    pub(crate) story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}\n{}", self.wrong, self.what, self.story)
    }
}

/// Everything that is known of one telling.
pub(crate) struct Told<'a> {
    pub(crate) account: &'a str,
    pub(crate) command: &'a Command,
    pub(crate) after_ms: Option<u64>,
    pub(crate) sent: i64,
    /// Its place among all tellings of its client.
    pub(crate) index: usize,
    pub(crate) events: Vec<&'a Event>,
    /// The first id it was promised under.
    pub(crate) request: Option<&'a str>,
    pub(crate) view: Option<&'a Value>,
}

impl Told<'_> {
    /// How it stands in the end: `completed`, `failed`, …, `lost`; nothing when nobody knows it.
    pub(crate) fn status(&self) -> &str {
        if self.view.is_some_and(losses::says_lost) {
            return "lost";
        }
        self.view.and_then(|view| view["status"].as_str()).unwrap_or_default()
    }

    pub(crate) fn completed(&self) -> bool {
        self.status() == "completed"
    }
}

/// All tellings by their marks, and what was found.
pub(crate) struct Case<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) told: BTreeMap<&'a str, Told<'a>>,
    /// When something was last done under each mark.
    touched: HashMap<&'a str, i64>,
    pub(crate) violations: Vec<Violation>,
}

/// Compares everything; empty when every promise was kept.
pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut case = Case::of(evidence);
    requests::check(&mut case);
    tapes::check(&mut case);
    flows::check(&mut case);
    sums::check(&mut case);
    books::check(&mut case);
    case.violations
}

impl<'a> Case<'a> {
    pub(crate) fn of(evidence: &'a Evidence) -> Self {
        let mut told: BTreeMap<&str, Told<'_>> = BTreeMap::new();
        for (index, event) in evidence.history.iter().enumerate() {
            if let Event::Sent { account, command, after_ms, at } = event {
                let new = Told {
                    account,
                    command,
                    after_ms: *after_ms,
                    sent: *at,
                    index,
                    events: Vec::new(),
                    request: None,
                    view: None,
                };
                assert!(told.insert(event.mark(), new).is_none(), "{} was sent twice: a bad history", event.mark());
            }
            let told = told.get_mut(event.mark()).expect("nothing is heard of what was not sent");
            told.events.push(event);
            if let (Event::Promised { request, .. }, None) = (event, told.request) {
                told.request = Some(request);
                told.view = evidence.requests.get(request);
            }
        }
        let touched = losses::touched(evidence);
        Self { evidence, told, touched, violations: Vec::new() }
    }

    /// Notes what is wrong with one telling.
    pub(crate) fn wrong(&mut self, wrong: Wrong, mark: &str, what: impl Into<String>) {
        let story = self.story(mark);
        self.violations.push(Violation { wrong, what: format!("{mark}: {}", what.into()), story });
    }

    /// Notes what is wrong with the whole.
    pub(crate) fn wrong_in_all(&mut self, wrong: Wrong, what: impl Into<String>) {
        self.violations.push(Violation { wrong, what: what.into(), story: String::new() });
    }

    /// Everything that is known of one telling, a line each.
    fn story(&self, mark: &str) -> String {
        let Some(told) = self.told.get(mark) else { return format!("    no client knows of {mark}\n") };
        let mut story: String = told.events.iter().map(|event| format!("    {event:?}\n")).collect();
        story += &match told.view {
            Some(view) => format!("    in the end: {view}\n"),
            None => "    in the end: nobody knows it\n".to_owned(),
        };
        for called in self.evidence.calls.iter().filter(|called| called.call.mark == mark) {
            story += &format!("    vendor: {called:?}\n");
        }
        for (account, Account { tape, drops, .. }) in &self.evidence.accounts {
            if let Some(drops) = drops.get(mark) {
                story += &format!("    {account}: {drops:?}\n");
            }
            for (at, entry) in tape.iter().enumerate().filter(|(_, entry)| entry.mark == mark) {
                story += &format!("    {account}[{at}]: {:?} at {}\n", entry.what, entry.at);
            }
        }
        story
    }
}
