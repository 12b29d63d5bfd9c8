//! The sum of effects: each account has exactly what the commands that completed gave it and took from it, however
//! its tape reads; and of very many messages that one command sent each arrived once.

use std::collections::BTreeMap;

use super::{Case, Violation, Wrong};
use crate::command::{Command, Drops, Pay, What, drop_of};

pub(super) fn check(case: &mut Case<'_>) {
    drops(case);
    balances(case);
}

/// Each of the messages of a large outbox arrived once, and none that was not sent.
fn drops(case: &mut Case<'_>) {
    let mut expected: BTreeMap<(&str, String), Drops> = BTreeMap::new();
    for (mark, told) in case.told.iter().filter(|(_, told)| told.completed()) {
        if let Command::Scatter { number, over, .. } = told.command {
            for index in 0..*number {
                let drops = expected.entry((mark, drop_of(index, *over))).or_default();
                (drops.number, drops.sum) = (drops.number + 1, drops.sum + u64::from(index));
            }
        }
    }
    let mut found: Vec<(Wrong, String, String)> = Vec::new();
    for (account, held) in &case.evidence.accounts {
        for (mark, there) in &held.drops {
            let due = expected.remove(&(mark.as_str(), account.clone())).unwrap_or_default();
            if *there != due && !case.is_exposed(mark) {
                let wrong = if there.number > due.number { Wrong::Doubled } else { Wrong::HalfTransfer };
                found.push((wrong, mark.clone(), format!("{account} has {there:?} of it and should have {due:?}")));
            }
        }
    }
    for ((mark, account), due) in expected.into_iter().filter(|((mark, _), _)| !case.is_exposed(mark)) {
        found.push((Wrong::HalfTransfer, mark.to_owned(), format!("{account} has nothing of it, not {due:?}")));
    }
    for (wrong, mark, what) in found {
        case.wrong(wrong, &mark, what);
    }
}

/// Each balance, without what a loss may have changed.
fn balances(case: &mut Case<'_>) {
    let mut due: BTreeMap<String, i64> = BTreeMap::new();
    for told in case.told.values().filter(|told| told.completed() && !case.exposed(told)) {
        let to = match told.command {
            Command::Send { to, amount, .. } | Command::Pay(Pay { to, amount, .. }) => Some((to, *amount)),
            Command::Scatter { number, over, .. } => {
                *due.entry(told.account.to_owned()).or_default() -= i64::from(*number);
                (0..*number).for_each(|index| *due.entry(drop_of(index, *over)).or_default() += 1);
                None
            }
            _ => None,
        };
        if let Some((to, amount)) = to {
            *due.entry(told.account.to_owned()).or_default() -= amount;
            *due.entry(to.clone()).or_default() += amount;
        }
    }
    let mut found: Vec<Violation> = Vec::new();
    for (account, held) in &case.evidence.accounts {
        let exposed = held.tape.iter().filter(|entry| case.is_exposed(&entry.mark));
        let unsure: i64 = exposed.map(|entry| case.worth(account, &entry.mark, entry.what)).sum();
        let drops = held.drops.iter().filter(|(mark, _)| case.is_exposed(mark));
        let unsure = unsure + drops.map(|(_, drops)| drops.number as i64).sum::<i64>();
        let due = due.get(account.as_str()).copied().unwrap_or_default();
        let surplus = held.balance - unsure - due;
        if surplus != 0 {
            let what = format!(
                "{account} has {surplus} beyond what completed commands gave and took ({due}): balance {}, of which \
                 {unsure} a loss may have touched",
                held.balance
            );
            found.push(Violation { wrong: Wrong::Money, what, story: String::new() });
        }
    }
    case.violations.extend(found);
}

impl Case<'_> {
    /// What an entry on an account's tape means for its balance.
    pub(super) fn worth(&self, account: &str, mark: &str, what: What) -> i64 {
        let Some(told) = self.told.get(mark) else { return 0 };
        let amount = match told.command {
            Command::Send { amount, .. } | Command::Pay(Pay { amount, .. }) => *amount,
            Command::Scatter { number, .. } => i64::from(*number),
            _ => return 0,
        };
        match what {
            What::Sent | What::Paid => -amount,
            What::Received => amount,
            // By the one that had paid, or by the one that had got it.
            What::Returned if account == told.account => amount,
            What::Returned => -amount,
            _ => 0,
        }
    }
}
