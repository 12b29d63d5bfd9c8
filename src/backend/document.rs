//! State as stored: one BSON document `{"state": …}`, so that any serde type can be saved, and
//! the values of declared index fields read back out of it.

use bson::{RawBsonRef, RawDocument};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    query::Value,
};

#[derive(Serialize)]
struct Write<'a, S> {
    state: &'a S,
}

#[derive(Deserialize)]
struct Read<S> {
    state: S,
}

/// How deep the values of a state may be nested. MongoDB takes documents of 180 levels; a state lies in one, and
/// in a command that has levels of its own. Every store holds to it, so that a product can change its store.
pub const DEPTH: usize = 160;
/// The fewest bytes of a level: type, an empty name, length and end.
const LEVEL: usize = 7;

/// Encodes a state. Terminal error when it does not fit BSON, is nested deeper than [`DEPTH`] or is larger than
/// `limit` bytes.
pub fn encode<S: Serialize>(state: &S, limit: usize) -> Result<Vec<u8>> {
    let doc = bson::serialize_to_vec(&Write { state })
        .map_err(|e| Error::terminal(format!("the state cannot be saved as BSON: {e}")).code("state_unsavable"))?;
    if doc.len() > limit {
        return Err(Error::terminal(format!(
            "the state is {} bytes, more than the {limit} allowed: split it over several keys, or keep large parts elsewhere",
            doc.len()
        ))
        .code("state_too_large"));
    }
    // Most states are too small to be too deep.
    if doc.len() > DEPTH * LEVEL && is_deeper(RawDocument::from_bytes(&doc)?, DEPTH)? {
        return Err(Error::terminal(format!(
            "the state is nested deeper than the {DEPTH} levels that are saved: keep what is nested so deep as a list, \
             or as text"
        ))
        .code("state_unsavable"));
    }
    Ok(doc)
}

/// Whether values are nested deeper than some levels below a document.
fn is_deeper(doc: &RawDocument, levels: usize) -> Result<bool> {
    for element in doc {
        let inner = match element?.1 {
            RawBsonRef::Document(inner) => inner,
            RawBsonRef::Array(inner) => RawDocument::from_bytes(inner.as_bytes())?,
            _ => continue,
        };
        if levels == 0 || is_deeper(inner, levels - 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decodes a state; the default when nothing is saved.
pub fn decode<S: DeserializeOwned + Default>(doc: &[u8]) -> Result<S> {
    if doc.is_empty() {
        return Ok(S::default());
    }
    bson::deserialize_from_slice::<Read<S>>(doc).map(|read| read.state).map_err(|e| {
        Error::terminal(format!("the saved state cannot be read as this type: {e}")).code("state_unreadable")
    })
}

/// The values of dotted `fields` in a document, null where absent.
pub fn values(doc: &[u8], fields: &[String]) -> Vec<Value> {
    fields.iter().map(|field| value(doc, field).unwrap_or(Value::Null)).collect()
}

fn value(doc: &[u8], field: &str) -> Option<Value> {
    let mut at = RawBsonRef::Document(RawDocument::from_bytes(doc).ok()?.get_document("state").ok()?);
    for part in field.split('.') {
        at = at.as_document()?.get(part).ok()??;
    }
    Some(match at {
        RawBsonRef::Boolean(v) => Value::Bool(v),
        RawBsonRef::Int32(v) => Value::Int(v.into()),
        RawBsonRef::Int64(v) => Value::Int(v),
        RawBsonRef::Double(v) => Value::Real(v),
        RawBsonRef::String(v) => Value::Text(v.to_owned()),
        RawBsonRef::DateTime(v) => Value::Int(v.timestamp_millis()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Default, Clone, PartialEq, Debug)]
    struct Order {
        customer: String,
        total: i64,
        place: Place,
    }

    #[derive(Serialize, Deserialize, Default, Clone, PartialEq, Debug)]
    struct Place {
        city: Option<String>,
    }

    #[test]
    fn states_of_any_shape_come_back_and_fields_are_found() {
        assert_eq!(decode::<u64>(&encode(&7u64, 100).unwrap()).unwrap(), 7);
        let order = Order { customer: "ann".into(), total: 900, place: Place { city: Some("Ulm".into()) } };
        let doc = encode(&order, 1000).unwrap();
        assert_eq!(decode::<Order>(&doc).unwrap(), order);
        let fields = ["customer", "total", "place.city", "place.zip", "nothing"].map(str::to_owned);
        assert_eq!(values(&doc, &fields), ["ann".into(), 900i64.into(), "Ulm".into(), Value::Null, Value::Null]);
        assert!(encode(&order, 10).unwrap_err().to_string().contains("split it"));
    }

    #[derive(Serialize, Default)]
    struct Comment {
        replies: Vec<Comment>,
    }

    /// A thread in which each comment answers the one before; each is two levels.
    fn thread(replies: usize) -> Comment {
        (1..replies).fold(Comment::default(), |inner, _| Comment { replies: vec![inner] })
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_with_the_limit() {
        assert!(encode(&thread(DEPTH / 2), 1 << 20).is_ok());
        let error = encode(&thread(DEPTH / 2 + 1), 1 << 20).unwrap_err();
        assert!(error.is_terminal() && error.has_code("state_unsavable"), "{error}");
        assert!(error.to_string().contains("the 160 levels"), "{error}");
        // Bytes are no levels.
        assert!(encode(&vec!["x".repeat(5000); 100], 1 << 20).is_ok());
    }
}
