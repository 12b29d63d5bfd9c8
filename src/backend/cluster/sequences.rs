//! Sequences between partitions, held against each other: what was sent is what was received and what has not
//! arrived, of each pair of partitions.
//!
//! Partitions are looked at one after the other while messages go on between them. So what has arrived is looked
//! at before and after what was sent: before, it is never more than was sent, and after, never less than was sent
//! and has left the outbox. A receiver that has lost messages (`lost` in its ledger) may have lost as many of those
//! that had come; the next one from the same sender shows which.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::{
    Core,
    redis::{int, list},
};
use crate::{backend::Mismatch, error::Result};

/// What a partition says of its sequences.
#[derive(Debug, Default)]
struct Said {
    era: u64,
    /// Messages that it has lost, as far as that is known.
    lost: u64,
    /// The last sequence sent to each partition in this era.
    sent: HashMap<u16, u64>,
    /// Era and sequence received last from each partition.
    seen: HashMap<u16, (u64, u64)>,
    /// Parcels of this era to each partition that have not arrived.
    out: HashMap<u16, u64>,
}

async fn said(core: &Core, partition: u16) -> Result<Said> {
    let answer = list(core.redis.look(partition, "sequences", Vec::new()).await?);
    let number = |at: usize| answer.get(at).map_or(0, int) as u64;
    let mut said = Said { era: number(0), lost: number(1), ..Said::default() };
    let (mut what, mut at) = (String::new(), 2);
    while let Some(value) = answer.get(at) {
        let text = value.as_string().unwrap_or_default();
        if ["sent", "seen", "out"].contains(&text.as_str()) {
            (what, at) = (text, at + 1);
            continue;
        }
        let number = answer.get(at + 1).and_then(|value| value.as_string()).unwrap_or_default();
        if let Ok(partition) = text.parse() {
            match what.as_str() {
                "sent" => drop(said.sent.insert(partition, number.parse().unwrap_or(0))),
                "out" => drop(said.out.insert(partition, number.parse().unwrap_or(0))),
                _ => {
                    let (era, seq) = number.split_once(':').unwrap_or(("0", &number));
                    said.seen.insert(partition, (era.parse().unwrap_or(0), seq.parse().unwrap_or(0)));
                }
            }
        }
        at += 2;
    }
    Ok(said)
}

async fn all(core: &Core) -> Result<Vec<Said>> {
    join_all((0..core.ever()).map(|partition| said(core, partition))).await.into_iter().collect()
}

/// Where messages between two partitions do not add up.
pub(super) async fn mismatches(core: &Core) -> Result<Vec<Mismatch>> {
    let (before, sent, after) = (all(core).await?, all(core).await?, all(core).await?);
    Ok(compare(&before, &sent, &after))
}

fn compare(before: &[Said], sent: &[Said], after: &[Said]) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    // Of each receiver: what has left its senders and is not there.
    let mut missing: HashMap<u16, (u64, Vec<Mismatch>)> = HashMap::new();
    for (from, sender) in (0u16..).zip(sent) {
        for (to, last) in &sender.sent {
            let seen = |said: &[Said]| {
                let (era, seq) = said.get(usize::from(*to))?.seen.get(&from).copied().unwrap_or_default();
                (era <= sender.era).then_some(if era == sender.era { seq } else { 0 })
            };
            let left = last.saturating_sub(sender.out.get(to).copied().unwrap_or(0));
            let wrong = |what: String| Mismatch { partition: *to, what, messages: Vec::new() };
            match (seen(before), seen(after)) {
                (Some(seen), _) if seen > *last => {
                    let what = format!("{seen} messages have come from partition {from}, which has sent {last}");
                    mismatches.push(wrong(what));
                }
                (_, Some(seen)) if seen < left => {
                    let (count, which) = missing.entry(*to).or_default();
                    *count += left - seen;
                    which.push(wrong(format!(
                        "{seen} messages have come from partition {from}, and {left} have left it"
                    )));
                }
                _ => {}
            }
        }
    }
    let lost = |to: u16| after.get(usize::from(to)).map_or(0, |said| said.lost);
    mismatches
        .extend(missing.into_iter().filter(|(to, (count, _))| *count > lost(*to)).flat_map(|(_, (_, which))| which));
    mismatches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(sent: u64, out: u64, seen: (u64, u64)) -> Vec<Said> {
        let sender = Said { era: 2, sent: [(1, sent)].into(), out: [(1, out)].into(), ..Said::default() };
        vec![sender, Said { era: 2, seen: [(0, seen)].into(), ..Said::default() }]
    }

    #[test]
    fn messages_between_partitions_are_neither_more_nor_less_than_were_sent() {
        let found = |before: (u64, u64), sent, out, after: (u64, u64)| {
            let found = compare(&pair(0, 0, before), &pair(sent, out, before), &pair(0, 0, after));
            found.into_iter().map(|wrong| wrong.what).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(found((2, 5), 7, 2, (2, 5)), "");
        assert_eq!(found((2, 5), 9, 3, (2, 8)), "", "some arrived meanwhile");
        assert_eq!(found((1, 90), 3, 3, (1, 90)), "", "of this era nothing has arrived");
        let lossy = |lost| {
            let mut after = pair(0, 0, (2, 3));
            after[1].lost = lost;
            compare(&pair(0, 0, (2, 3)), &pair(7, 2, (2, 3)), &after).len()
        };
        assert_eq!((lossy(2), lossy(1)), (0, 1), "the receiver has lost so many");
        assert!(found((2, 8), 7, 0, (2, 8)).contains("which has sent 7"));
        assert!(found((2, 5), 7, 1, (2, 5)).contains("6 have left"));
    }
}
