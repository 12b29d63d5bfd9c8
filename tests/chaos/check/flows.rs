//! Payments are workflows: whatever broke, each of their steps was done once and not called after its
//! result was known (G5), the account they asked was asked once, and what did not come about was taken
//! back once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Evidence, Told, Wrong};
use crate::{
    command::{Command, Pay, What},
    vendor::Called,
};

/// The steps, in the order in which they must be known: the first two run at once.
const STEPS: [(&str, u32); 5] = [("check", 0), ("score", 0), ("charge", 1), ("notify", 2), ("refund", 3)];
/// How often one round of faults may interrupt a step: a partition goes to another node and comes back; and once more
/// for so many milliseconds of it, as while connections are cut again and again an owner may lose each of its tenures.
const INTERRUPTIONS: usize = 2;
const TENURE: i64 = 1_000;
/// How long after a round it may still be felt, in milliseconds.
const FELT: i64 = 5_000;

type Found = Vec<(Wrong, String, String)>;

impl Told<'_> {
    /// A payment that did not come about.
    pub(super) fn is_undone(&self) -> bool {
        matches!(self.command, Command::Pay(_)) && self.request.is_some() && !self.completed()
    }
}

pub(super) fn check(case: &mut Case<'_>) {
    let calls = by_payment(&case.evidence.calls);
    let mut found = Vec::new();
    for (mark, told) in &case.told {
        if let Command::Pay(pay) = told.command
            && !case.exposed(told)
        {
            let calls = calls.get(mark).map(Vec::as_slice).unwrap_or_default();
            steps(mark, told, calls, &mut found);
            order(mark, calls, &mut found);
            often(case, mark, calls, &mut found);
            if told.is_undone() {
                undone(case, mark, told, pay, &mut found);
            }
        }
    }
    for mark in calls.keys().filter(|mark| !case.told.contains_key(*mark)) {
        found.push((Wrong::Unexplained, (*mark).to_owned(), "the vendor was called for what nobody told".to_owned()));
    }
    keys(case, &mut found);
    for (wrong, mark, what) in found {
        case.wrong(wrong, &mark, what);
    }
}

/// What the vendor heard of each payment, in that order.
fn by_payment(calls: &[Called]) -> BTreeMap<&str, Vec<&Called>> {
    let mut of: BTreeMap<&str, Vec<&Called>> = BTreeMap::new();
    calls.iter().for_each(|called| of.entry(&called.call.mark).or_default().push(called));
    of
}

impl Evidence {
    /// Steps of which the vendor did something more than once.
    pub(crate) fn effects_beyond_one(&self) -> usize {
        let payments = by_payment(&self.calls);
        let steps = payments.values().flat_map(|calls| STEPS.map(|(what, _)| effects(calls, what)));
        steps.map(|done| done.saturating_sub(1)).sum()
    }
}

/// What the vendor did: it does a thing once for each key.
fn effects(calls: &[&Called], what: &str) -> usize {
    let keys = calls.iter().filter(|called| called.call.what == what).map(|called| &called.call.key);
    keys.collect::<BTreeSet<_>>().len()
}

/// Each step has its effect once, or not at all where it may.
fn steps(mark: &str, told: &Told<'_>, calls: &[&Called], found: &mut Found) {
    let charged = effects(calls, "charge");
    for (what, _) in STEPS {
        let done = effects(calls, what);
        let mut say =
            |wrong, why: &str| found.push((wrong, mark.to_owned(), format!("{what} was done {done} times{why}")));
        let (least, most) = match (told.status(), what) {
            ("completed", "refund") => (0, 0),
            ("completed", _) => (1, 1),
            ("failed", "notify") => (0, 0),
            ("failed", _) => (1, 1),
            // It could be cancelled before the charge was asked for; when it was done it must be given back.
            ("cancelled", "refund") => (charged.min(1), 1),
            _ => (0, 1),
        };
        match done {
            2.. => say(Wrong::Doubled, ""),
            0 if least > 0 && what == "refund" => say(Wrong::NotUndone, ", and the charge was"),
            0 if least > 0 => say(Wrong::Lost, ""),
            1 if most < 1 => say(Wrong::NotUndone, ", which it must not be"),
            _ => {}
        }
    }
}

/// A later step is called when the earlier one's result is known: whoever has called it does not call
/// the earlier one again. Another process may: one that does not know yet that it was replaced.
fn order(mark: &str, calls: &[&Called], found: &mut Found) {
    let rank = |called: &Called| STEPS.iter().find(|(what, _)| *what == called.call.what).map_or(0, |(_, rank)| *rank);
    let mut known: BTreeMap<u32, u32> = BTreeMap::new();
    for called in calls {
        let (process, rank) = (called.call.process, rank(called));
        let highest = known.entry(process).or_default();
        if rank < *highest {
            let why = format!(
                "process {process} called {} again at {}, having called a later step",
                called.call.what, called.at
            );
            found.push((Wrong::CalledAgain, mark.to_owned(), why));
        }
        *highest = rank.max(*highest);
    }
}

/// A step is called once, and once more for each interruption and each answer that was lost on purpose.
fn often(case: &Case<'_>, mark: &str, calls: &[&Called], found: &mut Found) {
    let mut keys: BTreeMap<&str, Vec<&Called>> = BTreeMap::new();
    calls.iter().for_each(|called| keys.entry(&called.call.key).or_default().push(called));
    for calls in keys.into_values().filter(|calls| calls.len() > 1) {
        let (first, last) = (calls[0].at, calls[calls.len() - 1].at);
        let lost = calls.iter().filter(|called| called.lost).count();
        let rounds = case.evidence.faults.iter().filter(|fault| fault.from <= last && first <= fault.to + FELT);
        let interruptions = rounds.clone().map(|fault| INTERRUPTIONS + ((fault.to - fault.from) / TENURE) as usize);
        let (hit, most) = (rounds.count(), 1 + lost + interruptions.sum::<usize>());
        if calls.len() > most {
            let what = &calls[0].call.what;
            let why = format!(
                "{what} was called {} times: {lost} answers were lost and {hit} rounds of faults hit it",
                calls.len()
            );
            found.push((Wrong::CalledAgain, mark.to_owned(), why));
        }
    }
}

/// What an account got was given back, once, and nothing else was.
fn undone(case: &Case<'_>, mark: &str, told: &Told<'_>, pay: &Pay, found: &mut Found) {
    for (account, held) in &case.evidence.accounts {
        let count = |what| held.tape.iter().filter(|entry| entry.what == what && entry.mark == mark).count();
        let (got, paid, returned) = (count(What::Received), count(What::Paid), count(What::Returned));
        let most = (usize::from(*account == pay.to), usize::from(account == told.account && pay.apart));
        let mut say =
            |wrong, what: String| found.push((wrong, mark.to_owned(), format!("{what} on the tape of {account}")));
        if got > most.0 || paid > most.1 {
            let wrong = if most == (0, 0) { Wrong::Unexplained } else { Wrong::Doubled };
            say(wrong, format!("{got} times received, {paid} times paid"));
        } else if got + paid != returned {
            say(Wrong::NotUndone, format!("{got} times received, {paid} times paid, {returned} times given back"));
        }
        if told.status() == "failed" && *account == pay.to && got == 0 {
            say(Wrong::Lost, "never received".to_owned());
        }
    }
}

/// A key belongs to one step of one payment. Where what was decided is forgotten another step may follow, of the
/// same payment.
fn keys(case: &Case<'_>, found: &mut Found) {
    let mut of: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for Called { call, .. } in &case.evidence.calls {
        let (mark, what) = *of.entry(&call.key).or_insert((&call.mark, &call.what));
        if mark == call.mark && case.is_exposed(mark) {
            continue;
        }
        if (mark, what) != (&*call.mark, &*call.what) {
            let why = format!("{} has the key of {what} of {mark}", call.what);
            found.push((Wrong::Unexplained, call.mark.clone(), why));
        }
    }
}
