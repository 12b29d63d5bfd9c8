//! Finding actors by what their state says: equality, one range or sort field, a limit, a cursor.
//! Only declared indexes can be asked for, so no query ever scans.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A declared index over fields of the state, named by dotted path (`address.city`).
///
/// ```
/// use greenroom::Index;
/// let by_customer = Index::on(["customer", "placed_at"]);
/// assert_eq!(by_customer.fields(), ["customer", "placed_at"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    fields: Vec<String>,
}

impl Index {
    /// An index over `fields`, most significant first. A query can use it when its equalities
    /// name the first fields and its range or sort the one after them.
    pub fn on<const N: usize>(fields: [&str; N]) -> Self {
        Self { fields: fields.iter().map(|f| (*f).to_owned()).collect() }
    }

    /// The fields, most significant first.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }
}

/// Every field that some index names, once each, in alphabetical order.
pub fn declared_fields(indexes: &[Index]) -> Vec<String> {
    let fields: std::collections::BTreeSet<&String> = indexes.iter().flat_map(|index| &index.fields).collect();
    fields.into_iter().cloned().collect()
}

/// A value a field is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Absent or null.
    Null,
    /// A boolean; sorts as 0 and 1.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// A string.
    Text(String),
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}
value_from!(bool => Bool, i64 => Int, i32 => Int, u32 => Int, f64 => Real, &str => Text, String => Text);

/// A question about the states of one kind.
///
/// ```
/// use greenroom::Query;
/// let paid = Query::new().eq("customer", "ann").eq("status", "paid").newest_by("placed_at").limit(20);
/// assert_eq!(paid.limit_or(50), 20);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub(crate) equal: Vec<(String, Value)>,
    pub(crate) range: Option<(String, Option<Value>, Option<Value>)>,
    pub(crate) sort: Option<(String, bool)>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
    pub(crate) prefix: Option<String>,
}

impl Query {
    /// The most rows one page may hold.
    pub const MAX_LIMIT: usize = 1_000;

    /// Everything, in order of key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only actors whose key begins with this, in order of key. Nothing else can be filtered or sorted by.
    pub fn prefix(mut self, key: impl Into<String>) -> Self {
        self.prefix = Some(key.into()).filter(|key| !key.is_empty());
        self
    }

    /// The range of keys that begin with the prefix: from the first on, and before the second.
    pub(crate) fn keys(&self) -> Option<(String, String)> {
        let from = self.prefix.clone()?;
        let to = format!("{from}{}", char::MAX);
        Some((from, to))
    }

    /// Only where `field` equals `value`.
    pub fn eq(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.equal.push((field.to_owned(), value.into()));
        self
    }

    /// Only where `from <= field < to`; `None` leaves that side open.
    pub fn between(mut self, field: &str, from: Option<Value>, to: Option<Value>) -> Self {
        self.range = Some((field.to_owned(), from, to));
        self
    }

    /// Smallest `field` first.
    pub fn oldest_by(mut self, field: &str) -> Self {
        self.sort = Some((field.to_owned(), false));
        self
    }

    /// Largest `field` first.
    pub fn newest_by(mut self, field: &str) -> Self {
        self.sort = Some((field.to_owned(), true));
        self
    }

    /// At most this many rows a page: 1 to [`Query::MAX_LIMIT`], 50 when not said.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// The limit, or `default` when none was set, within the bounds.
    pub fn limit_or(&self, default: usize) -> usize {
        self.limit.unwrap_or(default).clamp(1, Self::MAX_LIMIT)
    }

    /// Goes on after the page that returned this cursor.
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Checks it against the declared indexes. Terminal error naming what is declared when no
    /// index serves it.
    pub fn check(&self, kind: &str, indexes: &[Index]) -> Result<()> {
        let ordered = match (&self.range, &self.sort) {
            (Some((range, ..)), Some((sort, _))) if range != sort => {
                return Err(Error::terminal(format!(
                    "a query can range and sort by one field only: {range:?} and {sort:?} given"
                )));
            }
            (Some((field, ..)), _) | (None, Some((field, _))) => Some(field),
            (None, None) => None,
        };
        if self.equal.is_empty() && ordered.is_none() {
            return Ok(());
        }
        if self.prefix.is_some() {
            return Err(Error::terminal("a query by the beginning of the key can filter and sort by nothing else"));
        }
        let serves = |index: &Index| {
            let (head, rest) = index.fields.split_at(self.equal.len().min(index.fields.len()));
            head.len() == self.equal.len()
                && head.iter().all(|f| self.equal.iter().any(|(asked, _)| asked == f))
                && ordered.is_none_or(|field| rest.first() == Some(field))
        };
        if indexes.iter().any(serves) {
            return Ok(());
        }
        let asked: Vec<&String> = self.equal.iter().map(|(f, _)| f).chain(ordered).collect();
        let declared: Vec<&[String]> = indexes.iter().map(Index::fields).collect();
        Err(Error::terminal(format!("no index of {kind} serves a query by {asked:?}: declared are {declared:?}")))
    }
}

/// One page of a query's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The rows: key and state.
    pub items: Vec<(String, T)>,
    /// Where the next page starts; `None` when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_declared_indexes_are_served() {
        let indexes = [Index::on(["customer", "status", "placed_at"]), Index::on(["customer", "placed_at"])];
        let ok = |q: Query| q.check("order", &indexes);
        assert!(ok(Query::new()).is_ok());
        assert!(ok(Query::new().prefix("a")).is_ok());
        assert!(ok(Query::new().prefix("a").eq("customer", "ann")).is_err());
        assert!(ok(Query::new().eq("status", "paid").eq("customer", "ann").newest_by("placed_at")).is_ok());
        assert!(ok(Query::new().eq("customer", "ann").oldest_by("placed_at")).is_ok());
        assert!(ok(Query::new().eq("status", "paid")).unwrap_err().to_string().contains("declared are"));
        assert!(ok(Query::new().eq("customer", "ann").oldest_by("total")).is_err());
    }
}
