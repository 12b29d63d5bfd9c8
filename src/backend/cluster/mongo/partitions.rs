//! Epochs and blocks of numbers, given once for ever: a document per partition, which MongoDB keeps
//! whatever Redis forgets.
//!
//! ```text
//! greenroom_partitions: { _id: partition, epoch, reserved, era }
//! ```
//!
//! `epoch` is the newest lease, `reserved` the number below which all numbers may have been used, `era` how
//! often the numbers of the partition have jumped because Redis may have lost some.
//!
//! Invariant: all three only rise, each answer follows from one atomic change that a majority has on its
//! disks, and two answers never name one epoch. So a change whose answer was lost is asked for again: that
//! skips an epoch, and at most a block.

use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::{States, wire::Fault};
use crate::error::{Error, Result};

/// The collection of these documents. Kinds of users may not be called so: the prefix is reserved.
const COLLECTION: &str = "greenroom_partitions";

/// What a node that takes a partition asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::backend::cluster) struct Ask {
    /// The newest epoch that is known from elsewhere; the answer names a later one.
    pub(in crate::backend::cluster) at_least_epoch: u64,
    /// The highest number that is known to be used.
    pub(in crate::backend::cluster) at_least_number: u64,
    /// The newest era that is known from elsewhere.
    pub(in crate::backend::cluster) at_least_era: u64,
    /// How many numbers a block has.
    pub(in crate::backend::cluster) block: u64,
    /// Whether Redis may have lost numbers that it had given: then the next ones come from a new block.
    pub(in crate::backend::cluster) new_era: bool,
}

/// What it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cluster) struct Reserved {
    /// The epoch of its lease, which no other answer names.
    pub(in crate::backend::cluster) epoch: u64,
    /// Every number that it gives is above this: the number it asked with, or in a new era the end of all
    /// earlier blocks.
    pub(in crate::backend::cluster) base: u64,
    /// The highest number it may give before it asks again.
    pub(in crate::backend::cluster) limit: u64,
    /// The era of these numbers.
    pub(in crate::backend::cluster) era: u64,
}

/// Takes the next epoch of a partition, and numbers: a new block in a new era, or when less than a quarter of
/// one is left.
pub(in crate::backend::cluster) async fn reserve(states: &States, partition: u16, ask: Ask) -> Result<Reserved> {
    let command = RawDocumentBuf::try_from(&command(partition, ask))?;
    let answer = loop {
        match states.wire.command("reserve", command.clone()).await {
            // Two callers made the document at once: now it is there.
            Err(Fault::Refused { code: 11_000, .. }) => {}
            answer => break answer?,
        }
    };
    if let Ok(error) = answer.get_document("writeConcernError") {
        return Err(Error::new(format!("MongoDB did not reserve numbers on a majority: {error:?}")).code("mongodb"));
    }
    let after = answer.get_document("value")?;
    let (epoch, limit, era) = (after.get_i64("epoch")?, after.get_i64("reserved")?, after.get_i64("era")?);
    let base = if ask.new_era { limit - ask.block as i64 } else { ask.at_least_number as i64 };
    Ok(Reserved { epoch: epoch as u64, base: base as u64, limit: limit as u64, era: era as u64 })
}

fn command(partition: u16, ask: Ask) -> Document {
    let most = |field: &str, at_least: u64| doc! { "$max": [{ "$ifNull": [field, 0_i64] }, at_least as i64] };
    let block = ask.block as i64;
    let used = most("$reserved", ask.at_least_number);
    let more = doc! { "$add": [&used, block] };
    let era = most("$era", ask.at_least_era);
    let (reserved, era) = match ask.new_era {
        true => (more, doc! { "$add": [era, 1_i64] }),
        false => {
            let low = ask.at_least_number as i64 + block / 4;
            let is_low = doc! { "$gt": [low, { "$ifNull": ["$reserved", 0_i64] }] };
            (doc! { "$cond": [is_low, more, used] }, era)
        }
    };
    let epoch = doc! { "$add": [most("$epoch", ask.at_least_epoch), 1_i64] };
    doc! {
        "findAndModify": COLLECTION,
        "query": { "_id": i32::from(partition) },
        "update": [{ "$set": { "epoch": epoch, "reserved": reserved, "era": era } }],
        "upsert": true,
        "new": true,
        "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures_util::future::join_all;

    use super::*;
    use crate::{backend::embedded::Options, testing::Which};

    async fn states() -> States {
        let options = Which::Redis.cluster(&Options { partitions: 4, mailbox_bytes: 1 }).unwrap();
        States::connect(&options).await.unwrap()
    }

    fn ask(number: u64) -> Ask {
        Ask { at_least_number: number, block: 100, ..Ask::default() }
    }

    #[actix::test]
    async fn a_new_era_begins_above_every_number_that_may_have_been_given() {
        let states = states().await;
        let reserve = async |ask| reserve(&states, 7, ask).await.unwrap();
        let is = |epoch, base, limit, era| Reserved { epoch, base, limit, era };
        assert_eq!(reserve(ask(0)).await, is(1, 0, 100, 0));
        assert_eq!(reserve(ask(75)).await, is(2, 75, 100, 0), "a quarter of a block is left");
        assert_eq!(reserve(ask(76)).await, is(3, 76, 200, 0));
        // Redis is empty: what it says is less than what was given.
        let lost = Ask { new_era: true, ..ask(0) };
        assert_eq!(reserve(lost).await, is(4, 200, 300, 1));
        // MongoDB is the one that was restored: what Redis says counts.
        let known = Ask { at_least_epoch: 40, at_least_number: 1000, at_least_era: 5, ..lost };
        assert_eq!(reserve(known).await, is(41, 1000, 1100, 6));
        assert_eq!(reserve(Ask { at_least_era: 9, ..ask(5000) }).await, is(42, 5000, 5100, 9));
        let other = super::reserve(&states, 8, lost).await.unwrap();
        assert_eq!(other, is(1, 0, 100, 1), "partitions have nothing to do with each other");
        states.db.drop().await.unwrap();
    }

    #[actix::test]
    async fn callers_at_the_same_time_never_get_the_same_epoch_nor_the_same_numbers() {
        let states = states().await;
        let lost = Ask { new_era: true, ..ask(0) };
        let all = join_all((0..64).map(|n| reserve(&states, n % 4, lost))).await;
        let mut given = HashSet::new();
        for (n, reserved) in all.into_iter().enumerate() {
            let reserved = reserved.unwrap();
            assert_eq!(reserved.limit - reserved.base, 100);
            for number in [reserved.epoch, reserved.base + 1_000_000, reserved.era + 2_000_000] {
                assert!(given.insert((n % 4, number)), "given twice: {reserved:?}");
            }
        }
        states.db.drop().await.unwrap();
    }
}
