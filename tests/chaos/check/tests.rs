//! A checker that cannot fail proves nothing: each kind of broken promise is made by hand, and must
//! be named.

use serde_json::{Value, json};

use super::{Evidence, Wrong, check};
use crate::{
    command::{Account, Command, Entry, What},
    history::Event,
};

/// A run of one client in which everything is as it should be: what it told, how it ended.
pub(super) struct Run(pub(super) Evidence);

impl Run {
    pub(super) fn new(told: &[(&str, Command, &str)]) -> Self {
        let mut evidence = Evidence::default();
        for (number, (account, command, status)) in told.iter().enumerate() {
            let (at, mark, request) = (number as i64 * 10, command.mark().to_owned(), format!("r{number}"));
            let after_ms = matches!(command, Command::Ring { .. }).then_some(5);
            let (account, command) = ((*account).to_owned(), command.clone());
            evidence.history.push(Event::Sent { account, command, after_ms, at });
            evidence.history.push(Event::Promised { mark, request: request.clone(), tries: 1, ended: None, at });
            evidence.requests.insert(request, json!({ "status": status }));
        }
        Self(evidence)
    }

    pub(super) fn tape(mut self, account: &str, balance: i64, tape: &[(What, &str)]) -> Self {
        let entry = |(at, (what, mark)): (usize, &(What, &str))| {
            let (what, mark, at) = (*what, (*mark).to_owned(), 100 + at as i64);
            Entry { what, mark, at }
        };
        let tape = tape.iter().enumerate().map(entry).collect();
        self.0.accounts.insert(account.to_owned(), Account { balance, tape });
        self
    }

    pub(super) fn ledger(mut self, accepted: u64, completed: u64) -> Self {
        self.0.ledger = json!({
            "accepted": accepted, "completed": completed, "failed": 0, "dead": 0,
            "cancelled": accepted - completed, "in_flight": 0,
        });
        self.0.audit = self.0.ledger.clone();
        self.0.audit["balanced"] = Value::Bool(true);
        self
    }

    pub(super) fn wrongs(&self) -> Vec<Wrong> {
        let mut wrongs: Vec<Wrong> = check(&self.0).into_iter().map(|violation| violation.wrong).collect();
        wrongs.sort();
        wrongs.dedup();
        wrongs
    }
}

fn note(number: u32) -> Command {
    Command::Note { mark: format!("c0-{number}") }
}

fn notes() -> Run {
    Run::new(&[("a", note(0), "completed"), ("a", note(1), "completed")]).ledger(2, 2)
}

fn transfer() -> Run {
    let send = Command::Send { mark: "c0-0".into(), to: "b".into(), amount: 7 };
    Run::new(&[("a", send, "completed")]).ledger(2, 2)
}

fn timer(status: &str) -> Run {
    Run::new(&[("a", Command::Ring { mark: "c0-0".into() }, status)])
}

const NOTES: [(What, &str); 2] = [(What::Noted, "c0-0"), (What::Noted, "c0-1")];
const SENT: (What, &str) = (What::Sent, "c0-0");
pub(super) const RECEIVED: (What, &str) = (What::Received, "c0-0");
const RANG: (What, &str) = (What::Rang, "c0-0");

#[test]
fn what_is_right_is_right() {
    assert_eq!(notes().tape("a", 0, &NOTES).wrongs(), []);
    assert_eq!(transfer().tape("a", -7, &[SENT]).tape("b", 7, &[RECEIVED]).wrongs(), []);
    assert_eq!(timer("completed").tape("a", 0, &[RANG]).ledger(1, 1).wrongs(), []);
}

#[test]
fn a_lost_command_is_named() {
    let run = notes().tape("a", 0, &NOTES[..1]);
    assert_eq!(run.wrongs(), [Wrong::Lost]);
    let violation = &check(&run.0)[0];
    // The whole story: what was sent, what was promised, how it stands.
    for part in ["c0-1", "Sent", "Promised", "r1", "completed"] {
        assert!(violation.to_string().contains(part), "{violation}");
    }
}

#[test]
fn a_doubled_command_is_named() {
    assert_eq!(notes().tape("a", 0, &[NOTES[0], NOTES[1], NOTES[1]]).wrongs(), [Wrong::Doubled]);
}

#[test]
fn a_reordered_pair_is_named() {
    assert_eq!(notes().tape("a", 0, &[NOTES[1], NOTES[0]]).wrongs(), [Wrong::Reordered]);
}

#[test]
fn half_a_transfer_is_named() {
    let half = transfer().tape("a", -7, &[SENT]).tape("b", 0, &[]);
    assert_eq!(half.wrongs(), [Wrong::HalfTransfer, Wrong::Money]);
    let twice = transfer().tape("a", -7, &[SENT]).tape("b", 14, &[RECEIVED, RECEIVED]);
    assert_eq!(twice.wrongs(), [Wrong::Doubled, Wrong::Money]);
    let elsewhere = transfer().tape("a", -7, &[SENT]).tape("c", 7, &[RECEIVED]);
    assert_eq!(elsewhere.wrongs(), [Wrong::Unexplained, Wrong::HalfTransfer]);
}

#[test]
fn money_without_a_reason_is_named() {
    assert_eq!(notes().tape("a", 5, &NOTES).wrongs(), [Wrong::Money]);
}

#[test]
fn what_nobody_asked_for_is_named() {
    assert_eq!(notes().tape("a", 0, &[NOTES[0], NOTES[1], (What::Noted, "c9-9")]).wrongs(), [Wrong::Unexplained]);
    assert_eq!(notes().tape("a", 0, &[NOTES[0], NOTES[1], (What::Leaked, "c0-1")]).wrongs(), [Wrong::Unexplained]);
    // On another account's tape.
    assert_eq!(notes().tape("b", 0, &NOTES).wrongs(), [Wrong::Lost, Wrong::Unexplained]);
}

#[test]
fn an_early_timer_is_named() {
    let mut run = timer("completed").tape("a", 0, &[RANG]).ledger(1, 1);
    run.0.accounts.get_mut("a").unwrap().tape[0].at = 4;
    assert_eq!(run.wrongs(), [Wrong::Early]);
}

#[test]
fn a_cancelled_command_has_no_effect() {
    let mut run = timer("cancelled").tape("a", 0, &[]).ledger(1, 0);
    assert_eq!(run.wrongs(), [Wrong::OtherEnd], "nobody cancelled it");
    run.0.history.push(Event::Cancelling { mark: "c0-0".into(), request: "r0".into(), at: 1 });
    assert_eq!(run.wrongs(), []);
    assert_eq!(run.tape("a", 0, &[RANG]).wrongs(), [Wrong::Unexplained]);
}

#[test]
fn an_end_that_changes_is_named() {
    let mut run = timer("completed").tape("a", 0, &[RANG]).ledger(1, 1);
    run.0.history.push(Event::Cancelling { mark: "c0-0".into(), request: "r0".into(), at: 1 });
    let (mark, state) = ("c0-0".to_owned(), "cancelled".to_owned());
    run.0.history.push(Event::Cancelled { mark, done: true, state, tries: 1, at: 2 });
    assert_eq!(run.wrongs(), [Wrong::ChangedEnd]);
}

#[test]
fn a_promise_without_an_end_is_named() {
    let mut run = notes().tape("a", 0, &NOTES);
    run.0.requests.insert("r1".into(), json!({ "status": "processing" }));
    assert!(run.wrongs().contains(&Wrong::NotEnded));
    run.0.requests.remove("r1");
    assert!(run.wrongs().contains(&Wrong::NotEnded));
    run.0.requests.insert("r1".into(), json!({ "status": "failed", "error": { "code": "x" } }));
    assert!(run.wrongs().contains(&Wrong::OtherEnd));
}

#[test]
fn two_names_for_one_promise_are_named() {
    let mut run = notes().tape("a", 0, &NOTES);
    let (mark, request) = ("c0-1".to_owned(), "r9".to_owned());
    run.0.history.push(Event::Promised { mark, request, tries: 1, ended: None, at: 30 });
    assert_eq!(run.wrongs(), [Wrong::PromisedTwice]);

    let mut run = notes().tape("a", 0, &NOTES);
    let (mark, request) = ("c0-1".to_owned(), "r0".to_owned());
    run.0.history[3] = Event::Promised { mark, request, tries: 1, ended: None, at: 30 };
    assert_eq!(run.wrongs(), [Wrong::PromisedTwice]);
}

#[test]
fn a_client_that_was_not_heard_is_named() {
    let mut run = notes().tape("a", 0, &NOTES);
    let mark = "c0-1".to_owned();
    run.0.history.push(Event::Refused { mark, status: 418, text: String::new(), at: 30 });
    assert_eq!(run.wrongs(), [Wrong::NotPromised]);
}

#[test]
fn a_ledger_that_miscounts_is_named() {
    assert_eq!(notes().tape("a", 0, &NOTES).ledger(3, 3).wrongs(), [Wrong::Ledger]);
    let mut run = notes().tape("a", 0, &NOTES);
    run.0.audit["balanced"] = Value::Bool(false);
    assert_eq!(run.wrongs(), [Wrong::Ledger]);
}
