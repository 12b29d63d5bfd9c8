//! Money is conserved, and the ledger counts exactly what the clients and the rules count (G11).

use serde_json::Value;

use super::{Case, Told, Wrong};
use crate::{
    command::{Command, Entry, Pay},
    history::Event,
};

pub(super) fn check(case: &mut Case<'_>) {
    money(case);
    let evidence = case.evidence;
    let expected = if evidence.losses.is_empty() { expected(case).to_vec() } else { after_losses(case) };
    for (name, ledger) in [("the ledger", &evidence.ledger), ("the audit", &evidence.audit)] {
        let count = |field: &str| ledger[field].as_u64().unwrap_or(u64::MAX);
        for (field, least, most) in &expected {
            if !(*least..=*most).contains(&count(field)) {
                let what = format!("{name} says {field} = {}, not {least} to {most}", ledger[field]);
                case.wrong_in_all(Wrong::Ledger, what);
            }
        }
        let ended = ["completed", "failed", "dead", "cancelled", "in_flight"].map(count);
        let lost = ledger["lost"].as_u64().unwrap_or(0);
        let ended = ended.into_iter().fold(lost, u64::saturating_add);
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
        let worth = |entry: &Entry| case.worth(account, &entry.mark, entry.what);
        let drops: u64 = held.drops.values().map(|drops| drops.number).sum();
        let told = held.tape.iter().map(worth).sum::<i64>() + drops as i64;
        // What a loss may have taken from one account it need not have taken from the other.
        let unsure = held.tape.iter().filter(|entry| case.is_exposed(&entry.mark)).map(worth).sum::<i64>();
        let dropped = held.drops.iter().filter(|(mark, _)| case.is_exposed(mark));
        sum += held.balance - unsure - dropped.map(|(_, drops)| drops.number as i64).sum::<i64>();
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

/// What the ledger must at least count where Redis forgot something: all that nothing can have touched.
fn after_losses(case: &Case<'_>) -> Vec<(&'static str, u64, u64)> {
    let sure = || case.told.values().filter(|told| told.request.is_some() && !case.exposed(told));
    let ended = |status: &str| sure().filter(|told| told.status() == status).count() as u64;
    let caused: u64 = sure().map(caused).sum();
    vec![
        ("accepted", sure().count() as u64 + caused, u64::MAX - 1),
        ("completed", ended("completed") + caused, u64::MAX - 1),
        ("failed", ended("failed"), u64::MAX - 1),
        ("dead", ended("dead-lettered"), u64::MAX - 1),
        ("in_flight", 0, 0),
    ]
}

/// How many messages a command caused, at least.
fn caused(told: &Told<'_>) -> u64 {
    match (told.command, told.status()) {
        // A transfer arrives, and what is set for later rings.
        (Command::Send { .. } | Command::Later { .. }, "completed") => 1,
        (Command::Scatter { number, .. }, "completed") => u64::from(*number),
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
