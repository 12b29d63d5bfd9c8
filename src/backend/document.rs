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

/// Encodes a state. Terminal error when it does not fit BSON or is larger than `limit` bytes.
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
    Ok(doc)
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
}
