//! The collection of a kind: its indexes, and that what others have declared for it leaves room for documents
//! without a state, which say that an actor was forgotten or that a newer owner has looked.
//!
//! A unique index or a validator that refuses those would keep partitions waiting; so it is refused at the start,
//! with the line to change.

use futures_util::TryStreamExt;
use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use super::{States, claim, forget, refusal, wire::Wire};
use crate::{
    error::{Error, Result},
    query::Index,
};

/// An actor that is claimed to see whether it can be: nothing changes if there is one.
const PROBE: &str = "greenroom-probe";
/// What MongoDB says of a document that a validator refuses.
const INVALID: i32 = 121;

impl States {
    /// Creates the indexes of a kind. Terminal error when an actor of it could not be forgotten.
    pub(in crate::backend::cluster) async fn declare(&self, kind: &str, indexes: &[Index]) -> Result<()> {
        let mut models: Vec<IndexModel> = indexes.iter().map(model).collect();
        models.push(forget::index());
        let declared = self.wire.call("declare", || async {
            let collection = self.db.collection::<Document>(kind);
            collection.create_indexes(models.clone()).await?;
            Ok(collection.list_indexes().await?.try_collect::<Vec<_>>().await?)
        });
        let there = declared.await.map_err(|fault| Error::from(fault).context(format!("the indexes of {kind}")))?;
        if let Some(index) = there.iter().find(|index| takes_one_without_a_state(index)) {
            let name = index.options.as_ref().and_then(|options| options.name.as_deref()).unwrap_or_default();
            return Err(Error::terminal(format!(
                "the index {name} of the collection {kind} is unique, so only one document without a state could be \
                 there: create it with partialFilterExpression: {{ state: {{ $exists: true }} }}"
            ))
            .code("bad_index"));
        }
        if has_validator(&self.wire, kind).await? {
            self.try_claim(kind).await?;
        }
        Ok(())
    }

    async fn try_claim(&self, kind: &str) -> Result<()> {
        let answer = self.wire.command("claim", claim::command(kind, &[PROBE], 0)).await?;
        let invalid = refusal::codes(&answer).any(|code| code == INVALID);
        if invalid {
            return Err(Error::terminal(format!(
                "the validator of the collection {kind} refuses documents without a state: let it say {{ $or: [{{ \
                 state: {{ $exists: false }} }}, … ] }}"
            ))
            .code("bad_validator"));
        }
        Ok(())
    }
}

fn model(index: &Index) -> IndexModel {
    let mut keys = Document::new();
    for field in index.fields() {
        keys.insert(format!("state.{field}"), 1);
    }
    // Equal sort values go on by key, as in every backend.
    keys.insert("_id", 1);
    let name = format!("greenroom_{}", index.fields().join("_"));
    IndexModel::builder().keys(keys).options(IndexOptions::builder().name(name).build()).build()
}

fn takes_one_without_a_state(index: &IndexModel) -> bool {
    let Some(options) = &index.options else { return false };
    let some = options.sparse == Some(true) || options.partial_filter_expression.is_some();
    options.unique == Some(true) && !some && !index.keys.contains_key("_id")
}

async fn has_validator(wire: &Wire, kind: &str) -> Result<bool> {
    let found = wire.call("validator", || async {
        let found: Vec<_> = wire.db.list_collections().filter(doc! { "name": kind }).await?.try_collect().await?;
        Ok(found.iter().any(|collection| collection.options.validator.is_some()))
    });
    Ok(found.await?)
}
