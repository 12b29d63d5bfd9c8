//! Reading what Redis answers: whatever is not of the shape that was asked for is read as nothing.

use fred::types::Value;

/// The values of an array answer.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// A number in an answer; 0 when it is none.
pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Bytes in an answer.
pub(super) fn raw(value: Value) -> Vec<u8> {
    value.into_bytes().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// The pairs of an answer that is a map.
pub(super) fn pairs(value: Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_string().unwrap_or_default();
    match value {
        Value::Map(map) => {
            map.inner().into_iter().map(|(key, value)| (key.into_string().unwrap_or_default(), text(&value))).collect()
        }
        other => list(other).chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}
