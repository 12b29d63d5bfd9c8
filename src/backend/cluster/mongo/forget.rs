//! Actors that were forgotten, and those that were claimed and have no state. Their document stays for a while
//! without one, because a late write of a stale owner meets its revision or its epoch there; then it is deleted.
//!
//! Invariant: a document is deleted only as it was found, its epoch included, and not before its commit is done
//! in Redis. So a deletion that is late takes away nothing that a newer owner relies on.

use mongodb::{
    IndexModel,
    bson::{RawArrayBuf, doc, rawdoc},
    options::IndexOptions,
};

use super::{Saved, States, find::saved, wire::Find};
use crate::error::{Error, Result};

/// Finds what was forgotten without reading what was not.
pub(super) fn index() -> IndexModel {
    let options = IndexOptions::builder()
        .name("greenroom_gone".to_owned())
        .partial_filter_expression(doc! { "gone": { "$exists": true } })
        .build();
    IndexModel::builder().keys(doc! { "gone": 1 }).options(options).build()
}

/// Up to `limit` documents of a kind that were forgotten before a time (milliseconds since the Unix epoch).
pub(in crate::backend::cluster) async fn forgotten(
    states: &States,
    kind: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<Saved>> {
    let filter = doc! { "gone": { "$lt": before } };
    let found = states.wire.find("forgotten", &Find { kind, filter, limit: Some(limit), ..Find::default() }).await?;
    found.iter().map(|doc| saved(doc)).collect()
}

/// Deletes documents, each if it is still as it was found.
pub(in crate::backend::cluster) async fn forget(states: &States, kind: &str, found: &[Saved]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let mut deletes = RawArrayBuf::new();
    for Saved { key, rev, epoch, .. } in found {
        let (rev, epoch) = (*rev as i64, *epoch as i64);
        let q = rawdoc! { "_id": key.as_str(), "rev": rev, "epoch": epoch, "gone": { "$exists": true } };
        deletes.push(rawdoc! { "q": q, "limit": 1 });
    }
    let command = rawdoc! {
        "delete": kind,
        "deletes": deletes,
        "ordered": false,
        "writeConcern": { "w": "majority", "wtimeout": 10_000 },
    };
    let answer = states.wire.command("forget", command).await?;
    if answer.get_array("writeErrors").is_ok() || answer.get_document("writeConcernError").is_ok() {
        return Err(Error::new(format!("MongoDB did not delete what was forgotten: {answer:?}")).code("mongodb"));
    }
    Ok(())
}
