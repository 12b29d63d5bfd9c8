//! Money is conserved, and the ledger counts exactly what the clients and the rules count (G11).

use serde_json::Value;

use super::{Case, Told, Wrong};
use crate::{
    command::{Command, Pay, What},
    history::Event,
};

pub(super) fn check(case: &mut Case<'_>) {
    money(case);
    let evidence = case.evidence;
    let expected = expected(case);
    for (name, ledger) in [("the ledger", &evidence.ledger), ("the audit", &evidence.audit)] {
        let count = |field: &str| ledger[field].as_u64().unwrap_or(u64::MAX);
        for (field, least, most) in &expected {
            if !(least..=most).contains(&&count(field)) {
                let what = format!("{name} says {field} = {}, not {least} to {most}", ledger[field]);
                case.wrong_in_all(Wrong::Ledger, what);
            }
        }
        let ended = ["completed", "failed", "dead", "cancelled", "in_flight"]
            .map(count)
            .into_iter()
            .fold(0, u64::saturating_add);
        if count("accepted") != ended {
            case.wrong_in_all(Wrong::Ledger, format!("{name} does not add up: {ledger}"));
        }
    }
    if evidence.audit["balanced"] != Value::Bool(true) {
        case.wrong_in_all(Wrong::Ledger, format!("the audit is not balanced: {}", evidence.audit));
    }
}

/// Every account has what its tape says; nothing was made, nothing lost.
fn money(case: &mut Case<'_>) {
    let mut sum = 0;
    for (account, held) in &case.evidence.accounts {
        sum += held.balance;
        let amounts = held.tape.iter().filter_map(|entry| {
            let command = case.told.get(entry.mark.as_str())?.command;
            let (Command::Send { amount, .. } | Command::Pay(Pay { amount, .. })) = command else { return None };
            match entry.what {
                What::Sent | What::Paid => Some(-amount),
                What::Received => Some(*amount),
                // By whoever had paid, or by whoever had got it.
                What::Returned if *account == case.told[entry.mark.as_str()].account => Some(*amount),
                What::Returned => Some(-amount),
                _ => None,
            }
        });
        let told: i64 = amounts.sum();
        if told != held.balance {
            let what = format!("{account} has {}, and its tape says {told}", held.balance);
            case.violations.push(super::Violation { wrong: Wrong::Money, what, story: String::new() });
        }
    }
    if sum != 0 {
        case.wrong_in_all(Wrong::Money, format!("all accounts together have {sum}, not 0"));
    }
}

/// Every message is counted once: the clients' own, those that actors sent because of them, signals and
/// answers. Each field with the least and the most it may be: how far one came that somebody wanted to
/// cancel, nobody outside knows.
fn expected(case: &Case<'_>) -> [(&'static str, u64, u64); 6] {
    let promised = || case.told.values().filter(|told| told.request.is_some());
    let ended = |status: &str| promised().filter(|told| told.status() == status).count() as u64;
    let sent: u64 = promised().map(caused).sum();
    let unsure: u64 = promised().map(unsure).sum();
    let about = |field, count: u64| (field, count, count + unsure);
    let exactly = |field, count: u64| (field, count, count);
    [
        about("accepted", promised().count() as u64 + sent),
        about("completed", ended("completed") + sent),
        exactly("failed", ended("failed")),
        exactly("dead", ended("dead-lettered")),
        // With a payment that is cancelled, a question is that was not begun.
        about("cancelled", ended("cancelled")),
        exactly("in_flight", 0),
    ]
}

/// How many messages a command caused, at least.
fn caused(told: &Told<'_>) -> u64 {
    match (told.command, told.status()) {
        // A transfer arrives, and what is set for later rings.
        (Command::Send { .. } | Command::Later { .. }, "completed") => 1,
        // The signal, and a question with its answer for each thing that is asked of an actor.
        (Command::Pay(Pay { apart: true, .. }), "completed") | (Command::Pay(_), "failed") => 5,
        (Command::Pay(_), "completed") => 3,
        _ => 0,
    }
}

/// How many more it may have caused: somebody wanted to cancel it, once or, unheard, several times. Four
/// things may be asked of an actor, each is answered and may be called back; and it may have a signal.
fn unsure(told: &Told<'_>) -> u64 {
    let tries: u64 = told
        .events
        .iter()
        .map(|event| if let Event::Cancelled { tries, .. } = event { u64::from(*tries) } else { 0 })
        .sum();
    match (told.command, tries) {
        (Command::Pay(_), 1..) => tries + 4 * (2 + tries) + 1,
        _ => 0,
    }
}
