//! What may go wrong with payments, made by hand: each must be named.

use super::{
    Wrong,
    tests::{RECEIVED, Run},
};
use crate::{
    command::{Call, Command, Pay, What},
    history::Event,
    vendor::Called,
};

const PAID: (What, &str) = (What::Paid, "c0-0");
const RETURNED: (What, &str) = (What::Returned, "c0-0");
const ALL: [&str; 4] = ["check", "score", "charge", "notify"];
const UNDONE: [&str; 4] = ["check", "score", "charge", "refund"];

fn pay(status: &str, declined: bool) -> Run {
    let pay = Pay { mark: "c0-0".into(), to: "b".into(), amount: 7, ms: 1, declined, apart: false };
    Run::new(&[("p", Command::Pay(pay), status)])
}

/// The vendor was called for these, by a process each.
fn calls(mut run: Run, calls: &[(&str, u32)]) -> Run {
    for (at, (what, process)) in calls.iter().enumerate() {
        let (key, mark, what) = (format!("key-{what}"), "c0-0".to_owned(), (*what).to_owned());
        let call = Call { key, mark, what, process: *process, attempt: 1 };
        run.0.calls.push(Called { call, at: at as i64, lost: false });
    }
    run
}

fn one(run: Run, steps: &[&str]) -> Run {
    let steps: Vec<(&str, u32)> = steps.iter().map(|what| (*what, 1)).collect();
    calls(run, &steps)
}

fn paid() -> Run {
    pay("completed", false).tape("b", 7, &[RECEIVED]).tape("p", -7, &[PAID]).ledger(4, 4)
}

fn failed() -> Run {
    let mut run = pay("failed", true).tape("b", 0, &[RECEIVED, RETURNED]).tape("p", 0, &[]).ledger(6, 5);
    run.0.requests.get_mut("r0").unwrap()["error"]["code"] = "declined".into();
    for counts in [&mut run.0.ledger, &mut run.0.audit] {
        (counts["failed"], counts["cancelled"]) = (1.into(), 0.into());
    }
    run
}

/// As it is when it was cancelled before it asked for anything.
fn cancelled() -> Run {
    let mut run = pay("cancelled", false).tape("b", 0, &[]).tape("p", 0, &[]).ledger(1, 0);
    let mark = || "c0-0".to_owned();
    run.0.history.push(Event::Cancelling { mark: mark(), request: "r0".into(), at: 1 });
    run.0.history.push(Event::Cancelled { mark: mark(), done: false, state: "processing".into(), tries: 1, at: 2 });
    run
}

#[test]
fn what_is_right_is_right() {
    assert_eq!(one(paid(), &ALL).wrongs(), []);
    assert_eq!(one(failed(), &UNDONE).wrongs(), []);
    assert_eq!(one(cancelled(), &[]).wrongs(), []);
    assert_eq!(one(cancelled(), &UNDONE).wrongs(), []);
}

#[test]
fn a_second_effect_is_named() {
    let mut run = one(paid(), &ALL);
    let mut again = run.0.calls[2].clone();
    again.call.key = "another".into();
    run.0.calls.insert(3, again);
    assert_eq!(run.wrongs(), [Wrong::Doubled]);
    // And so is a step that was never done.
    assert_eq!(one(paid(), &["check", "charge", "notify"]).wrongs(), [Wrong::Lost]);
    // And a key of two steps.
    let mut run = one(paid(), &ALL);
    run.0.calls[3].call.key = "key-check".into();
    assert_eq!(run.wrongs(), [Wrong::Unexplained, Wrong::CalledAgain]);
}

#[test]
fn a_step_that_is_called_again_without_a_reason_is_named() {
    let again = [("check", 1), ("score", 1), ("charge", 1), ("charge", 2), ("notify", 2)];
    let mut run = calls(paid(), &again);
    assert_eq!(run.wrongs(), [Wrong::CalledAgain]);
    run.0.calls[2].lost = true;
    assert_eq!(run.wrongs(), []);
    // By the very process that has called a later one.
    run.0.calls.swap(3, 4);
    run.0.calls[4].call.process = 2;
    assert_eq!(run.wrongs(), [Wrong::CalledAgain]);
}

#[test]
fn a_question_that_was_asked_twice_is_named() {
    let twice = pay("completed", false).tape("b", 14, &[RECEIVED, RECEIVED]).tape("p", -7, &[PAID]).ledger(4, 4);
    assert_eq!(one(twice, &ALL).wrongs(), [Wrong::Doubled, Wrong::Money]);
}

#[test]
fn what_was_not_undone_is_named() {
    assert_eq!(one(failed(), &UNDONE[..3]).wrongs(), [Wrong::NotUndone]);
    assert_eq!(one(cancelled(), &UNDONE[..3]).wrongs(), [Wrong::NotUndone]);
    assert_eq!(one(cancelled().tape("b", 7, &[RECEIVED]), &UNDONE).wrongs(), [Wrong::Money, Wrong::NotUndone]);
    let twice = cancelled().tape("b", -7, &[RECEIVED, RETURNED, RETURNED]);
    assert_eq!(one(twice, &UNDONE).wrongs(), [Wrong::Money, Wrong::NotUndone]);
    // One that came about was not to be undone.
    assert_eq!(one(paid(), &["check", "score", "charge", "notify", "refund"]).wrongs(), [Wrong::NotUndone]);
}
