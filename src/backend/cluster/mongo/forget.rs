//! Actors that were forgotten. Their document stays for a day without a state, because a late write of a
//! stale owner meets its revision there; then it is deleted.
//!
//! Invariant: a document is deleted only as it was found, and not before its commit is done in Redis.

use mongodb::{
    IndexModel,
    bson::{Document, RawDocumentBuf, doc},
    options::{IndexOptions, ReadConcern},
};

use super::{Saved, States, fault, find::saved, within};
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
    let found = async {
        let mut found = states
            .db
            .collection::<RawDocumentBuf>(kind)
            .find(doc! { "gone": { "$lt": before } })
            .limit(limit)
            .read_concern(ReadConcern::majority())
            .await
            .map_err(fault)?;
        let mut all = Vec::new();
        while found.advance().await.map_err(fault)? {
            all.push(saved(found.current())?);
        }
        Ok(all)
    };
    within(found).await
}

/// Deletes documents, each if it is still as it was found.
pub(in crate::backend::cluster) async fn forget(states: &States, kind: &str, found: &[Saved]) -> Result<()> {
    let one = |saved: &Saved| doc! { "q": { "_id": &saved.key, "rev": saved.rev as i64, "gone": { "$exists": true } }, "limit": 1 };
    let deletes: Vec<Document> = found.iter().map(one).collect();
    if deletes.is_empty() {
        return Ok(());
    }
    let command = doc! {
        "delete": kind,
        "deletes": deletes,
        "ordered": false,
        "writeConcern": { "w": "majority", "wtimeout": 10_000 },
    };
    let answer = within(async { states.db.run_command(command).await.map_err(fault) }).await?;
    if answer.contains_key("writeErrors") || answer.contains_key("writeConcernError") {
        return Err(Error::new(format!("MongoDB did not delete what was forgotten: {answer}")).code("mongodb"));
    }
    Ok(())
}
