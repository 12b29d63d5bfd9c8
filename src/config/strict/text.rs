//! How values and types are called when talking to people.

use figment::value::{Num, Value};
use serde::de::Unexpected;

/// A value as it would be written in TOML.
pub(in crate::config) fn show(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, char) => format!("{:?}", char.to_string()),
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, num) => number(*num),
        Value::Empty(..) => "nothing".into(),
        Value::Dict(_, dict) => {
            let inner: Vec<String> = dict.iter().map(|(key, value)| format!("{key} = {}", show(value))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(_, items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
    }
}

fn number(num: Num) -> String {
    match (num.to_i128(), num.to_u128(), num.to_f64()) {
        (Some(n), ..) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (.., Some(n)) => n.to_string(),
        _ => "a number".into(),
    }
}

/// What serde calls a type, in plain words.
pub(super) fn plain(expected: &str) -> String {
    match expected {
        "a string" => "text".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a section of keys".into(),
        "f32" | "f64" => "a number".into(),
        "u8" | "u16" | "u32" => format!("a whole number from 0 to {}", maximum(expected)),
        "u64" | "usize" | "u128" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number".into(),
        struct_like if struct_like.starts_with("struct ") => "a section of keys".into(),
        other => other.into(),
    }
}

fn maximum(unsigned: &str) -> u32 {
    match unsigned {
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        _ => u32::MAX,
    }
}

/// What was found, by its type: the value itself is shown elsewhere.
pub(super) fn found(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a section of keys",
        _ => "something else",
    }
}
