//! Turning a checked [`Query`] into SQL over the index columns, with keyset cursors.

use rusqlite::{Connection, params_from_iter, types::Value as Sql};

use super::schema::{column, state_table};
use crate::{
    backend::{Rows, cursor::Cursor},
    error::Result,
    query::{Query, Value},
};

/// A value as SQLite stores it.
pub(super) fn sql(value: Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(v) => Sql::Integer(v.into()),
        Value::Int(v) => Sql::Integer(v),
        Value::Real(v) => Sql::Real(v),
        Value::Text(v) => Sql::Text(v),
    }
}

/// Answers a query.
pub(super) fn run(db: &Connection, kind: &str, query: &Query) -> Result<Rows> {
    let (mut clauses, mut values) = (Vec::new(), Vec::new());
    for (field, value) in &query.equal {
        clauses.push(format!("{} IS ?", column(field)));
        values.push(sql(value.clone()));
    }
    if let Some((from, to)) = query.keys() {
        clauses.push("key >= ? AND key < ?".to_owned());
        values.extend([from, to].map(Sql::Text));
    }
    let range = query.range.as_ref();
    if let Some((field, from, to)) = range {
        for (bound, compare) in [(from, ">="), (to, "<")] {
            if let Some(bound) = bound {
                clauses.push(format!("{} {compare} ?", column(field)));
                values.push(sql(bound.clone()));
            }
        }
    }
    let sort = query.sort.clone().or_else(|| range.map(|(field, ..)| (field.clone(), false)));
    let (by, descending) = sort.map_or((None, false), |(field, descending)| (Some(column(&field)), descending));
    if let Some(cursor) = &query.cursor {
        after(Cursor::read(cursor)?, by.as_deref(), descending, &mut clauses, &mut values);
    }
    let filter = if clauses.is_empty() { String::new() } else { format!("WHERE {}", clauses.join(" AND ")) };
    let direction = if descending { "DESC" } else { "ASC" };
    let order = by.as_ref().map_or("key".to_owned(), |by| format!("{by} {direction}, key {direction}"));
    let limit = query.limit_or(50);
    let text = format!(
        "SELECT key, doc, {} FROM {} {filter} ORDER BY {order} LIMIT {}",
        by.as_deref().unwrap_or("NULL"),
        state_table(kind),
        limit + 1
    );
    let mut select = db.prepare_cached(&text)?;
    let rows =
        select.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Sql>(2)?)))?;
    let mut rows: Vec<(String, Vec<u8>, Sql)> = rows.collect::<Result<_, _>>()?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let cursor = rows.last().filter(|_| more).map(|(key, _, value)| Cursor(unsql(value), key.clone()).write());
    Ok((rows.into_iter().map(|(key, doc, _)| (key, doc)).collect(), cursor))
}

fn unsql(value: &Sql) -> Value {
    match value {
        Sql::Integer(v) => Value::Int(*v),
        Sql::Real(v) => Value::Real(*v),
        Sql::Text(v) => Value::Text(v.clone()),
        Sql::Null | Sql::Blob(_) => Value::Null,
    }
}

/// The rows after a cursor. Nulls sort before everything in SQLite, and compare with nothing.
fn after(
    Cursor(value, key): Cursor,
    by: Option<&str>,
    descending: bool,
    clauses: &mut Vec<String>,
    values: &mut Vec<Sql>,
) {
    let compare = if descending { "<" } else { ">" };
    let Some(by) = by else {
        clauses.push("key > ?".to_owned());
        values.push(Sql::Text(key));
        return;
    };
    match (value, descending) {
        (Value::Null, false) => clauses.push(format!("({by} IS NOT NULL OR key > ?)")),
        (Value::Null, true) => clauses.push(format!("({by} IS NULL AND key < ?)")),
        (value, _) => {
            let nulls = if descending { format!(" OR {by} IS NULL") } else { String::new() };
            clauses.push(format!("(({by}, key) {compare} (?, ?){nulls})"));
            values.push(sql(value));
        }
    }
    values.push(Sql::Text(key));
}
