//! Each effect is on a tape exactly once (G1, G3), one client's in the order they were accepted
//! (G2), no timer before its time (G7), and nothing is there that nobody asked for.

use std::collections::{BTreeMap, HashMap};

use super::{Case, Told, Wrong};
use crate::command::{Command, Entry, What};

/// An effect: of which command, what, on whose tape.
type Effect<'a> = (&'a str, What, &'a str);

pub(super) fn check(case: &mut Case<'_>) {
    let evidence = case.evidence;
    let mut there: HashMap<Effect<'_>, u32> = HashMap::new();
    for (account, entry) in evidence.accounts.iter().flat_map(|(key, a)| a.tape.iter().map(move |e| (key, e))) {
        *there.entry((entry.mark.as_str(), entry.what, account)).or_default() += 1;
    }
    let mut found: Vec<(Wrong, String, String)> = Vec::new();
    // What a loss may have touched may be missing, or be there again.
    there.retain(|(mark, ..), _| !case.is_exposed(mark));
    for (mark, told) in case.told.iter().filter(|(_, told)| told.completed() && !case.exposed(told)) {
        for (what, account) in effects(told) {
            let missing = if what == What::Received { Wrong::HalfTransfer } else { Wrong::Lost };
            match there.remove(&(mark, what, account)) {
                Some(1) => {}
                Some(times) => found.push((
                    Wrong::Doubled,
                    (*mark).to_owned(),
                    format!("{what:?} is on the tape of {account} {times} times"),
                )),
                None => found.push((missing, (*mark).to_owned(), format!("no {what:?} on the tape of {account}"))),
            }
        }
    }
    // What payments did that did not come about, and whether it was taken back: see `flows`.
    there.retain(|(mark, ..), _| !case.told.get(mark).is_some_and(|told| told.is_undone()));
    for ((mark, what, account), times) in there {
        let why = format!("{what:?} is on the tape of {account} ({times} times), which no completed request explains");
        found.push((Wrong::Unexplained, mark.to_owned(), why));
    }
    for (account, held) in &evidence.accounts {
        orders(case, account, &held.tape, &mut found);
        timers(case, &held.tape, &mut found);
    }
    for (wrong, mark, what) in found {
        case.wrong(wrong, &mark, what);
    }
}

/// What a completed command leaves behind, and where.
fn effects<'a>(told: &Told<'a>) -> Vec<(What, &'a str)> {
    match told.command {
        Command::Note { .. } | Command::Flaky { .. } => vec![(What::Noted, told.account)],
        Command::Send { to, .. } => vec![(What::Sent, told.account), (What::Received, to)],
        Command::Later { .. } => vec![(What::Noted, told.account), (What::Rang, told.account)],
        Command::Ring { .. } => vec![(What::Rang, told.account)],
        Command::Scatter { .. } => vec![(What::Sent, told.account)],
        Command::Pay(pay) => vec![(What::Paid, told.account), (What::Received, &pay.to)],
        Command::Refuse { .. } | Command::Doomed { .. } => Vec::new(),
        Command::Receive { .. } | Command::Return { .. } | Command::Drop { .. } => Vec::new(),
    }
}

/// One client tells one account the next thing only when the one before is promised.
fn orders(case: &Case<'_>, account: &str, tape: &[Entry], found: &mut Vec<(Wrong, String, String)>) {
    let mut last: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for entry in tape.iter().filter(|entry| matches!(entry.what, What::Noted | What::Sent | What::Paid)) {
        let Some(told) = case.told.get(entry.mark.as_str()) else { continue };
        // Payments apart overtake each other, and what is handled again comes later.
        if matches!(told.command, Command::Pay(pay) if pay.apart) || case.exposed(told) {
            continue;
        }
        let (client, _) = entry.mark.split_once('-').unwrap_or((&entry.mark, ""));
        if let Some((before, index)) = last.insert(client, (&entry.mark, told.index))
            && index > told.index
        {
            let why = format!("took effect on {account} after {before}, which was told later");
            found.push((Wrong::Reordered, entry.mark.clone(), why));
        }
    }
}

fn timers(case: &Case<'_>, tape: &[Entry], found: &mut Vec<(Wrong, String, String)>) {
    for entry in tape.iter().filter(|entry| entry.what == What::Rang) {
        let Some(told) = case.told.get(entry.mark.as_str()) else { continue };
        let begun = tape.iter().find(|other| other.what == What::Noted && other.mark == entry.mark);
        let due = match (told.command, told.after_ms, begun) {
            (Command::Ring { .. }, Some(after), _) => told.sent + after as i64,
            (Command::Later { ms, .. }, _, Some(begun)) => begun.at + *ms as i64,
            _ => continue,
        };
        if entry.at < due {
            found.push((Wrong::Early, entry.mark.clone(), format!("rang at {}, due at {due}", entry.at)));
        }
    }
}
