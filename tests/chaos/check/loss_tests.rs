//! Where Redis forgot something, what was promised before may be missing and what was promised afterwards may
//! not: histories made by hand.

use serde_json::json;

use super::{
    Wrong,
    tests::{RECEIVED, Run},
};
use crate::{
    command::{Command, What},
    history::Event,
    servers::Loss,
};

/// As said by a store that knows what it has lost.
fn lost() -> serde_json::Value {
    json!({ "http": 410, "answer": "{\"type\":\"https://example.org/problems/lost\",\"status\":410}" })
}

/// Three notes, told at 0, 10 and 20, the second of them while Redis forgot.
fn notes() -> Run {
    let note = |number: u32| Command::Note { mark: format!("c0-{number}") };
    let mut run = Run::new(&[0, 1, 2].map(|number| ("a", note(number), "completed")));
    // Far apart: what was handled long before is kept.
    for (number, event) in run.0.history.iter_mut().enumerate() {
        if let Event::Sent { at, .. } | Event::Promised { at, .. } = event {
            *at = (number as i64 / 2) * 100_000;
        }
    }
    run.0.losses = vec![Loss { from: 99_000, to: 101_000 }];
    run
}

/// Its tape, each entry when it was told or, the second time, at the end.
fn tape(run: Run, marks: &[u32]) -> Run {
    let names: Vec<String> = marks.iter().map(|number| format!("c0-{number}")).collect();
    let entries: Vec<(What, &str)> = names.iter().map(|mark| (What::Noted, mark.as_str())).collect();
    let mut run = run.tape("a", 0, &entries).ledger(3, 3);
    for (entry, number) in run.0.accounts.get_mut("a").unwrap().tape.iter_mut().zip(marks) {
        entry.at = i64::from(*number) * 100_000;
    }
    run
}

#[test]
fn what_nothing_happened_to_is_right() {
    assert_eq!(tape(notes(), &[0, 1, 2]).wrongs(), []);
}

#[test]
fn what_was_promised_meanwhile_may_be_lost_or_done_again() {
    assert_eq!(tape(notes(), &[0, 2]).wrongs(), [], "its effect");
    assert_eq!(tape(notes(), &[0, 1, 1, 2]).wrongs(), [], "its end");
    let mut run = tape(notes(), &[0, 2]);
    run.0.requests.insert("r1".into(), lost());
    assert_eq!(run.wrongs(), [], "its message");
}

#[test]
fn what_was_done_before_or_promised_afterwards_may_not() {
    for kept in [0, 2] {
        let others: Vec<u32> = (0..3).filter(|number| *number != kept).collect();
        assert_eq!(tape(notes(), &others).wrongs(), [Wrong::Lost], "{kept}");
        let mut run = tape(notes(), &others);
        run.0.requests.insert(format!("r{kept}"), lost());
        assert_eq!(run.wrongs(), [Wrong::Lost], "{kept}");
        let twice: Vec<u32> = (0..3).flat_map(|number| vec![number; 1 + usize::from(number == kept)]).collect();
        assert_eq!(tape(notes(), &twice).wrongs(), [Wrong::Doubled], "{kept}");
    }
}

#[test]
fn what_was_lost_says_so() {
    let mut run = tape(notes(), &[0, 2]);
    run.0.requests.insert("r1".into(), json!({ "http": 404, "answer": "unknown" }));
    assert_eq!(run.wrongs(), [Wrong::NotEnded]);
    run.0.requests.insert("r1".into(), json!({ "status": "accepted" }));
    assert_eq!(run.wrongs(), [Wrong::NotEnded], "stuck");
}

#[test]
fn nothing_is_answered_with_what_belongs_to_another() {
    let mut run = tape(notes(), &[0, 2]);
    run.0.requests.insert("r1".into(), json!({ "status": "completed", "result": { "mark": "c0-2", "length": 2 } }));
    assert_eq!(run.wrongs(), [Wrong::OthersResult]);
    // An id that is given again.
    let mut run = tape(notes(), &[0, 1, 2]);
    let (mark, request) = ("c0-2".to_owned(), "r1".to_owned());
    run.0.history[5] = Event::Promised { mark, request, tries: 1, ended: None, of: None, at: 200_000 };
    assert_eq!(run.wrongs(), [Wrong::PromisedTwice]);
}

#[test]
fn a_promise_of_then_may_be_given_again_and_a_later_one_not() {
    for (number, wrong) in [(1, vec![]), (2, vec![Wrong::PromisedTwice])] {
        let mut run = tape(notes(), &[0, 1, 2]);
        let (mark, request) = (format!("c0-{number}"), "r9".to_owned());
        run.0.history.push(Event::Promised { mark, request, tries: 1, ended: None, of: None, at: 200_000 });
        assert_eq!(run.wrongs(), wrong, "{number}");
    }
}

#[test]
fn half_a_transfer_of_then_is_no_surplus_and_one_of_later_is() {
    let send = || Command::Send { mark: "c0-0".into(), to: "b".into(), amount: 7 };
    let run = |from: i64| {
        let mut run = Run::new(&[("a", send(), "completed")]).tape("a", 0, &[]).tape("b", 7, &[RECEIVED]).ledger(2, 2);
        run.0.losses = vec![Loss { from, to: from + 1 }];
        run
    };
    assert_eq!(run(50).wrongs(), []);
    assert_eq!(run(-50).wrongs(), [Wrong::Lost, Wrong::Money]);
}

#[test]
fn the_ledger_counts_what_was_lost() {
    let mut run = tape(notes(), &[0, 2]);
    run.0.requests.insert("r1".into(), lost());
    for ledger in [&mut run.0.ledger, &mut run.0.audit] {
        (ledger["completed"], ledger["lost"]) = (json!(2), json!(1));
    }
    assert_eq!(run.wrongs(), []);
    run.0.ledger["completed"] = json!(1);
    assert_eq!(run.wrongs(), [Wrong::Ledger], "it does not add up, and the first and the third did complete");
}
