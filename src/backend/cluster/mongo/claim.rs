//! Claims: documents that say no more than that a newer lease has looked, so that writes under earlier ones are
//! refused.
//!
//! A claim of an actor that has no state makes a document for it, of which nothing would ever be left to do: so it
//! is one that was forgotten from the beginning, and goes as those do.

use mongodb::bson::{RawArrayBuf, RawDocumentBuf, rawdoc};

use super::States;
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// Most claims in one command.
const GROUP: usize = 1000;

impl States {
    /// Makes every write under an earlier lease impossible from now on: nothing else in the documents
    /// changes.
    pub(in crate::backend::cluster) async fn claim(&self, kind: &str, keys: &[&str], epoch: u64) -> Result<()> {
        for keys in keys.chunks(GROUP) {
            let answer = self.wire.command("claim", command(kind, keys, epoch)).await?;
            if answer.get_array("writeErrors").is_ok() || answer.get_document("writeConcernError").is_ok() {
                return Err(Error::new(format!("MongoDB did not claim states: {answer:?}")).code("mongodb"));
            }
        }
        Ok(())
    }
}

/// Claims some actors of a kind.
pub(super) fn command(kind: &str, keys: &[&str], epoch: u64) -> RawDocumentBuf {
    let gone = Clock::System.now();
    let mut updates = RawArrayBuf::new();
    for key in keys {
        updates.push(rawdoc! {
            "q": { "_id": *key },
            "u": { "$max": { "epoch": epoch as i64 }, "$setOnInsert": { "rev": 0_i64, "gone": gone } },
            "upsert": true,
        });
    }
    rawdoc! {
        "update": kind,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
    }
}
