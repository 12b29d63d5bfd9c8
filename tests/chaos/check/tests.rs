//! A checker that cannot fail proves nothing: each kind of broken promise is made by hand, and must
//! be named.

use serde_json::{Value, json};

use super::{Evidence, Wrong, check};
use crate::{
    command::{Account, Command, Drops, Entry, What},
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
            evidence.history.push(Event::Promised {
                mark,
                request: request.clone(),
                tries: 1,
                ended: None,
                of: None,
                at,
            });
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
        self.0.accounts.insert(account.to_owned(), Account { balance, tape, ..Account::default() });
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
    assert_eq!(elsewhere.wrongs(), [Wrong::Unexplained, Wrong::HalfTransfer, Wrong::Money]);
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
    run.0.history.push(Event::Promised { mark, request, tries: 1, ended: None, of: None, at: 30 });
    assert_eq!(run.wrongs(), [Wrong::PromisedTwice]);

    let mut run = notes().tape("a", 0, &NOTES);
    let (mark, request) = ("c0-1".to_owned(), "r0".to_owned());
    run.0.history[3] = Event::Promised { mark, request, tries: 1, ended: None, of: None, at: 30 };
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

fn drops(number: u64, sum: u64) -> Drops {
    Drops { number, sum, last: 100 }
}

fn scatter(drops: &[(&str, Drops)]) -> Run {
    let command = Command::Scatter { mark: "c0-0".into(), number: 5, over: 2 };
    let mut run = Run::new(&[("a", command, "completed")]).tape("a", -5, &[SENT]).ledger(6, 6);
    for (account, drops) in drops {
        let held = Account { balance: drops.number as i64, ..Account::default() };
        run.0.accounts.insert((*account).to_owned(), held);
        run.0.accounts.get_mut(*account).unwrap().drops.insert("c0-0".to_owned(), *drops);
    }
    run
}

#[test]
fn a_large_outbox_that_arrived_otherwise_is_named() {
    let (even, odd) = (drops(3, 6), drops(2, 4));
    assert_eq!(scatter(&[("d0", even), ("d1", odd)]).wrongs(), []);
    let twice = drops(4, 8);
    assert_eq!(scatter(&[("d0", twice), ("d1", odd)]).wrongs(), [Wrong::Doubled, Wrong::Money]);
    assert_eq!(scatter(&[("d0", even)]).wrongs(), [Wrong::HalfTransfer, Wrong::Money]);
    // As many as there should be, one of them twice and another not at all: only their numbers tell.
    assert_eq!(scatter(&[("d0", even), ("d1", drops(2, 2))]).wrongs(), [Wrong::HalfTransfer]);
}

#[test]
fn a_balance_with_a_tape_that_agrees_is_held_against_what_completed() {
    // Both accounts have a transfer more than was asked for: their tapes agree, and money is conserved.
    let run = transfer().tape("a", -14, &[SENT, SENT]).tape("b", 14, &[RECEIVED, RECEIVED]);
    assert_eq!(run.wrongs(), [Wrong::Doubled, Wrong::Money]);
}

#[test]
fn the_result_of_another_command_is_named() {
    let mut run = notes().tape("a", 0, &NOTES);
    let result = |of: &str| json!({ "status": "completed", "result": { "mark": of, "length": 2 } });
    run.0.requests.insert("r1".into(), result("c0-1"));
    assert_eq!(run.wrongs(), []);
    run.0.requests.insert("r1".into(), result("c0-0"));
    assert_eq!(run.wrongs(), [Wrong::OthersResult]);

    let mut run = notes().tape("a", 0, &NOTES);
    let (mark, request, of) = ("c0-1".to_owned(), "r1".to_owned(), Some("c0-0".to_owned()));
    run.0.history.push(Event::Promised { mark, request, tries: 1, ended: None, of, at: 30 });
    assert_eq!(run.wrongs(), [Wrong::OthersResult]);

    let mut run = Run::new(&[("a", Command::Refuse { mark: "c0-0".into() }, "failed")]).tape("a", 0, &[]);
    run = run.ledger(1, 0);
    for ledger in [&mut run.0.ledger, &mut run.0.audit] {
        (ledger["failed"], ledger["cancelled"]) = (json!(1), json!(0));
    }
    let failed = |message: &str| json!({ "status": "failed", "error": { "code": "refused", "message": message } });
    run.0.requests.insert("r0".into(), failed("c0-0: never"));
    assert_eq!(run.wrongs(), []);
    run.0.requests.insert("r0".into(), failed("c0-1: never"));
    assert_eq!(run.wrongs(), [Wrong::OthersResult]);
}
