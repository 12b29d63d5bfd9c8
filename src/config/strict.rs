//! The strict deserializer: reads a section into any serde type, refuses keys the type does not
//! have, and says of every mistake which key, which value, from where, and what was expected.

mod text;
mod visit;

use std::{cell::RefCell, collections::BTreeSet, fmt};

use figment::value::{Dict, Tag, Value};
use serde::de::DeserializeOwned;

use super::layers::Layers;
pub(super) use text::show;

/// What was noticed while reading a section.
#[derive(Default)]
pub(super) struct Notes {
    /// Keys that the type does not have.
    pub(super) unknown: Vec<String>,
    /// Keys that hold secrets.
    pub(super) secret: BTreeSet<String>,
    /// Keys that the type has, whether or not they are set.
    pub(super) known: BTreeSet<String>,
}

/// Reads `section` as a `T`. All unknown keys are reported, and the first value that does not fit.
pub(super) fn read<T: DeserializeOwned>(
    layers: &Layers,
    section: &str,
    value: Option<Value>,
) -> (Result<T, Vec<String>>, Notes) {
    let reading = Reading { layers, notes: RefCell::default() };
    let value = value.unwrap_or_else(|| Value::Dict(Tag::Default, Dict::new()));
    let read = T::deserialize(De { reading: &reading, path: section.to_owned(), input: Input::Value(value) });
    let mut notes = reading.notes.into_inner();
    let mut problems = std::mem::take(&mut notes.unknown);
    match read {
        Ok(read) if problems.is_empty() => (Ok(read), notes),
        Ok(_) => (Err(problems), notes),
        Err(fault) => {
            problems.push(fault.what);
            (Err(problems), notes)
        }
    }
}

/// One reading of one section.
struct Reading<'a> {
    layers: &'a Layers,
    notes: RefCell<Notes>,
}

/// A value, or the file that a `…_file` key says holds it.
enum Input {
    Value(Value),
    File { key: String, path: String },
}

/// A place in the section and what is there.
struct De<'a> {
    reading: &'a Reading<'a>,
    path: String,
    input: Input,
}

impl<'a> De<'a> {
    fn inner(&self, key: &str, input: Input) -> De<'a> {
        De { reading: self.reading, path: format!("{}.{key}", self.path), input }
    }

    /// Puts a mistake at this place, unless it is at a place further in already.
    fn locate(path: &str, shown: &str, from: &str, fault: Fault) -> Fault {
        if fault.located {
            return fault;
        }
        Fault { located: true, what: format!("{path} = {shown} (from {from}): {}", fault.what) }
    }

    fn from(&self) -> String {
        match &self.input {
            Input::Value(value) => self.reading.layers.source(value.tag(), &self.path),
            Input::File { path, .. } => path.clone(),
        }
    }

    fn shown(&self) -> String {
        match &self.input {
            _ if self.reading.notes.borrow().secret.contains(&self.path) => "(secret)".into(),
            Input::Value(value) => text::show(value),
            Input::File { path, .. } => format!("{path:?}"),
        }
    }
}

/// Why a section could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    what: String,
    /// Whether `what` already says where.
    located: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self { what: what.to_string(), located: false }
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format!("expected {}, found {}", text::plain(&expected.to_string()), text::found(&found)))
    }

    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format!("expected {}", text::plain(&expected.to_string())))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("the key {field:?} is missing"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = super::suggest::nearest(variant, expected.iter().copied());
        let near = near.map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        Self::custom(format!("{near}expected one of {}", expected.join(", ")))
    }
}
