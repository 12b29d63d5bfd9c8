//! Reading states: by key, and by queries over declared indexes. Reads are of what a majority has, so
//! nothing that was read can be rolled back.

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::{States, wire::Find};
use crate::{
    backend::{Rows, cursor::Cursor},
    envelope::Position,
    error::Result,
    query::{Query, Value},
};

/// A saved document.
#[derive(Clone, Debug, Default)]
pub(in crate::backend::cluster) struct Saved {
    pub(in crate::backend::cluster) key: String,
    pub(in crate::backend::cluster) rev: u64,
    /// The newest lease that touched it.
    pub(in crate::backend::cluster) epoch: u64,
    /// The BSON document `{"state": …}`; empty when there is none.
    pub(in crate::backend::cluster) doc: Vec<u8>,
    /// What the commit that wrote it does in Redis, and a message that it ends.
    pub(in crate::backend::cluster) redo: Option<(Position, Vec<u8>)>,
}

pub(super) fn saved(doc: &mongodb::bson::RawDocument) -> Result<Saved> {
    let state = match doc.get("state")? {
        Some(state) => {
            let mut only = RawDocumentBuf::new();
            only.append(mongodb::bson::raw::cstr!("state"), state);
            only.into_bytes()
        }
        None => Vec::new(),
    };
    let redo = match (doc.get_i64("witness"), doc.get_binary("redo")) {
        (Ok(witness), Ok(redo)) => Some((Position::from_packed(witness), redo.bytes.to_vec())),
        _ => None,
    };
    let (key, rev) = (doc.get_str("_id")?.to_owned(), doc.get_i64("rev")? as u64);
    Ok(Saved { key, rev, epoch: doc.get_i64("epoch").unwrap_or(0) as u64, doc: state, redo })
}

/// The saved documents of some keys of a kind, in no order.
pub(in crate::backend::cluster) async fn load(states: &States, kind: &str, keys: &[&str]) -> Result<Vec<Saved>> {
    let found = states.wire.find("find", &Find::keys(kind, keys)).await?;
    found.iter().map(|doc| saved(doc)).collect()
}

/// What the saved documents of some keys of a kind say beside their states, in no order.
pub(in crate::backend::cluster) async fn marks(states: &States, kind: &str, keys: &[&str]) -> Result<Vec<Saved>> {
    let find = Find { projection: Some(doc! { "state": 0 }), ..Find::keys(kind, keys) };
    let found = states.wire.find("find", &find).await?;
    found.iter().map(|doc| saved(doc)).collect()
}

fn bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(v) => Bson::Boolean(*v),
        Value::Int(v) => Bson::Int64(*v),
        Value::Real(v) => Bson::Double(*v),
        Value::Text(v) => Bson::String(v.clone()),
    }
}

/// Answers a checked query.
pub(in crate::backend::cluster) async fn query(states: &States, kind: &str, query: &Query) -> Result<Rows> {
    let mut clauses = vec![doc! { "state": { "$exists": true } }];
    clauses.extend(query.equal.iter().map(|(field, value)| doc! { format!("state.{field}"): bson(value) }));
    if let Some((from, to)) = query.keys() {
        clauses.push(doc! { "_id": { "$gte": from, "$lt": to } });
    }
    let range = query.range.as_ref();
    if let Some((field, from, to)) = range {
        for (bound, compare) in [(from, "$gte"), (to, "$lt")] {
            if let Some(bound) = bound {
                clauses.push(doc! { format!("state.{field}"): { compare: bson(bound) } });
            }
        }
    }
    let sort = query.sort.clone().or_else(|| range.map(|(field, ..)| (field.clone(), false)));
    let (by, descending) = sort.map_or((None, false), |(field, descending)| (Some(field), descending));
    if let Some(cursor) = &query.cursor {
        clauses.push(after(Cursor::read(cursor)?, by.as_deref(), descending));
    }
    let direction = if descending { -1 } else { 1 };
    let mut order = Document::new();
    if let Some(by) = &by {
        order.insert(format!("state.{by}"), direction);
    }
    order.insert("_id", direction);
    let limit = query.limit_or(50);
    let find = Find {
        kind,
        filter: doc! { "$and": clauses },
        projection: Some(doc! { "state": 1, "rev": 1 }),
        sort: Some(order),
        limit: Some(limit as i64 + 1),
    };
    let mut rows = Vec::new();
    for found in states.wire.find("query", &find).await? {
        let saved = saved(&found)?;
        rows.push((saved.key, saved.doc));
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let cursor = rows.last().filter(|_| more).map(|(key, doc)| {
        let value =
            by.map_or(Value::Null, |by| crate::backend::document::values(doc, &[by]).pop().unwrap_or(Value::Null));
        Cursor(value, key.clone()).write()
    });
    Ok((rows, cursor))
}

/// What comes after a cursor. Nothing and null sort before everything, and compare with nothing else.
fn after(Cursor(value, key): Cursor, by: Option<&str>, descending: bool) -> Document {
    let compare = if descending { "$lt" } else { "$gt" };
    let Some(by) = by else { return doc! { "_id": { compare: key } } };
    let field = format!("state.{by}");
    let same = doc! { &field: bson(&value), "_id": { compare: key } };
    match (&value, descending) {
        (Value::Null, false) => doc! { "$or": [same, { field: { "$ne": Bson::Null } }] },
        (Value::Null, true) => same,
        (value, false) => doc! { "$or": [same, { field: { "$gt": bson(value) } }] },
        (value, true) => {
            let less = doc! { &field: { "$lt": bson(value) } };
            doc! { "$or": [same, less, { field: Bson::Null }] }
        }
    }
}
