//! Money is conserved, and the ledger counts exactly what the clients and the rules count (G11).

use serde_json::Value;

use super::{Case, Wrong};
use crate::command::{Command, What};

pub(super) fn check(case: &mut Case<'_>) {
    money(case);
    let evidence = case.evidence;
    let expected = expected(case);
    for (name, ledger) in [("the ledger", &evidence.ledger), ("the audit", &evidence.audit)] {
        for (field, count) in &expected {
            if ledger[field] != *count {
                case.wrong_in_all(Wrong::Ledger, format!("{name} says {field} = {}, not {count}", ledger[field]));
            }
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
            let Command::Send { amount, .. } = case.told.get(entry.mark.as_str())?.command else { return None };
            match entry.what {
                What::Sent => Some(-amount),
                What::Received => Some(*amount),
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

/// Every message is counted once: the clients' own, and those that actors sent because of them.
fn expected(case: &Case<'_>) -> [(&'static str, u64); 6] {
    let promised = || case.told.values().filter(|told| told.request.is_some());
    let ended = |status: &str| promised().filter(|told| told.status() == status).count() as u64;
    // A transfer arrives, and what is set for later rings.
    let sent = promised()
        .filter(|told| told.completed() && matches!(told.command, Command::Send { .. } | Command::Later { .. }))
        .count() as u64;
    [
        ("accepted", promised().count() as u64 + sent),
        ("completed", ended("completed") + sent),
        ("failed", ended("failed")),
        ("dead", ended("dead-lettered")),
        ("cancelled", ended("cancelled")),
        ("in_flight", 0),
    ]
}
