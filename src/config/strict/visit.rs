//! The serde side of the strict deserializer. Text from the environment or a flag is read as the
//! type that is asked for; text from a file must be that type already.

use std::collections::btree_map::IntoIter;

use figment::value::{Dict, Num, Value};
use serde::{
    Deserializer, de,
    de::{
        IntoDeserializer, Visitor,
        value::{MapAccessDeserializer, StringDeserializer},
    },
};

use super::{De, Fault, Input, text};
use crate::config::{layers::variable, secret, suggest::hint};

impl<'a> De<'a> {
    /// The value, or the complaint that this key takes no file.
    fn value(self) -> Result<(&'a super::Reading<'a>, String, Value), Fault> {
        match self.input {
            Input::Value(value) => Ok((self.reading, self.path, value)),
            Input::File { key, .. } => Err(Fault {
                what: format!(
                    "unknown key {key:?}: only a secret can be read from a file, and {:?} is none",
                    self.path
                ),
                located: true,
            }),
        }
    }

    /// The text of a secret: from the environment, or from a file of its own.
    fn secret(self) -> Result<String, Fault> {
        let fault = |what| Fault { what, located: true };
        match self.input {
            Input::File { key, path } => std::fs::read_to_string(&path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|e| fault(format!("{key} = {path:?}: the secret cannot be read: {e}"))),
            Input::Value(Value::String(tag, text)) => {
                let layers = self.reading.layers;
                if text.is_empty() || layers.is_text_only(tag) {
                    return Ok(text);
                }
                Err(fault(format!(
                    "{} is a secret and is written in {}: set it by the environment variable {}, or give the path \
                     of a file that holds it as {}_file",
                    self.path,
                    layers.source(tag, &self.path),
                    variable(&self.path),
                    self.path
                )))
            }
            Input::Value(other) => {
                let from = self.reading.layers.source(other.tag(), &self.path);
                Err(fault(format!("{} = (secret) (from {from}): expected text", self.path)))
            }
        }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let (reading, path, value) = self.value()?;
        let text_only = reading.layers.is_text_only(value.tag());
        match value {
            // Whoever asks for anything gets what the text looks like.
            Value::String(_, text) if text_only => match (text.parse::<bool>(), text.parse::<i64>()) {
                (Ok(yes), _) => visitor.visit_bool(yes),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_string(text),
            },
            Value::String(_, text) => visitor.visit_string(text),
            Value::Char(_, char) => visitor.visit_char(char),
            Value::Bool(_, yes) => visitor.visit_bool(yes),
            Value::Num(_, num) => visit_number(num, visitor),
            Value::Empty(..) => visitor.visit_unit(),
            Value::Dict(_, dict) => {
                visitor.visit_map(Map { at: De::at(reading, path), entries: inputs(dict).into_iter(), next: None })
            }
            Value::Array(_, items) => {
                let items: Vec<De<'_>> = items
                    .into_iter()
                    .enumerate()
                    .map(|(i, v)| De::at(reading, format!("{path}[{i}]")).with(v))
                    .collect();
                visitor.visit_seq(de::value::SeqDeserializer::new(items.into_iter()))
            }
        }
    }

    fn at(reading: &'a super::Reading<'a>, path: String) -> Self {
        De { reading, path, input: Input::Value(Value::from("")) }
    }

    fn with(self, value: Value) -> Self {
        De { input: Input::Value(value), ..self }
    }

    /// Reads text of the environment as `T`, leaves everything else as it is.
    fn parsed<T: std::str::FromStr>(&self) -> Option<T> {
        match &self.input {
            Input::Value(Value::String(tag, text)) if self.reading.layers.is_text_only(*tag) => {
                text.trim().parse().ok()
            }
            _ => None,
        }
    }

    /// Which keys of a section `fields` has; the others are noted, except the files of secrets.
    fn entries(
        &self,
        dict: Dict,
        fields: &'static [&'static str],
    ) -> Result<std::collections::BTreeMap<String, Input>, Fault> {
        let mut files = Vec::new();
        let mut entries = std::collections::BTreeMap::new();
        for (key, value) in dict {
            let base = key.strip_suffix("_file").filter(|base| fields.contains(base));
            match (fields.contains(&key.as_str()), base, &value) {
                (true, ..) => _ = entries.insert(key, Input::Value(value)),
                (false, Some(base), Value::String(_, file)) => files.push((base.to_owned(), key, file.clone())),
                (false, ..) => {
                    let path = format!("{}.{key}", self.path);
                    let from = self.reading.layers.source(value.tag(), &path);
                    let hint = hint(&key, fields.iter().copied());
                    self.reading.notes.borrow_mut().unknown.push(format!("unknown key {path:?} (from {from}): {hint}"));
                }
            }
        }
        for (base, key, path) in files.into_iter().filter(|(.., path)| !path.is_empty()) {
            let key = format!("{}.{key}", self.path);
            let layers = self.reading.layers;
            let set = matches!(entries.get(&base), Some(Input::Value(Value::String(tag, text)))
                if !text.is_empty() && !layers.is_default(*tag));
            if set {
                let what = format!("{}.{base} and {key} are both set: keep one of them", self.path);
                return Err(Fault { what, located: true });
            }
            entries.insert(base, Input::File { key, path });
        }
        Ok(entries)
    }
}

fn inputs(dict: Dict) -> std::collections::BTreeMap<String, Input> {
    dict.into_iter().map(|(key, value)| (key, Input::Value(value))).collect()
}

fn visit_number<'de, V: Visitor<'de>>(num: Num, visitor: V) -> Result<V::Value, Fault> {
    match (num.to_i128().map(i64::try_from), num.to_u128().map(u64::try_from), num.to_f64()) {
        (_, Some(Ok(n)), _) => visitor.visit_u64(n),
        (Some(Ok(n)), ..) => visitor.visit_i64(n),
        (.., Some(n)) => visitor.visit_f64(n),
        _ => Err(de::Error::custom("expected a number of at most 64 bits")),
    }
}

struct Map<'a> {
    at: De<'a>,
    entries: IntoIter<String, Input>,
    next: Option<(String, Input)>,
}

impl<'de> de::MapAccess<'de> for Map<'_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        let Some((key, _)) = &self.next else { return Ok(None) };
        let key: StringDeserializer<Fault> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, input) = self.next.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        let inner = self.at.inner(&key, input);
        let (reading, path, from) = (inner.reading, inner.path.clone(), inner.from());
        // Shown before it is read, because reading consumes it; only shown if it is no secret.
        let shown = inner.shown();
        seed.deserialize(inner).map_err(|fault| {
            let secret = reading.notes.borrow().secret.contains(&path);
            De::locate(&path, if secret { "(secret)" } else { &shown }, &from, fault)
        })
    }
}

impl<'de> IntoDeserializer<'de, Fault> for De<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! from_text {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.parsed::<$type>() {
                Some(value) => visitor.$visit(value),
                None => self.literal(visitor),
            }
        }
    )*};
}

impl De<'_> {
    /// Like `any`, but text is text even where it looks like a number.
    fn literal<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.input {
            Input::Value(Value::String(_, text)) => visitor.visit_string(text),
            input => De { input, ..self }.any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.any(visitor)
    }

    from_text!(
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i64 i64, deserialize_i16 visit_i64 i64,
        deserialize_i32 visit_i64 i64, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u64 u64, deserialize_u16 visit_u64 u64,
        deserialize_u32 visit_u64 u64, deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f64 f64, deserialize_f64 visit_f64 f64
    );

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.literal(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.literal(visitor)
    }

    /// Empty text stands for "not set": TOML has no null, and the reference shows every key.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.input {
            Input::Value(Value::String(_, text)) if text.is_empty() => visitor.visit_none(),
            Input::Value(Value::Empty(..)) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        if name != secret::NAME {
            return visitor.visit_newtype_struct(self);
        }
        self.reading.notes.borrow_mut().secret.insert(self.path.clone());
        let text: StringDeserializer<Fault> = self.secret()?.into_deserializer();
        visitor.visit_newtype_struct(text)
    }

    /// A list; text of the environment is split at commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.input {
            Input::Value(Value::String(tag, text)) if self.reading.layers.is_text_only(tag) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let items = items.map(|item| Value::String(tag, item.to_owned())).collect();
                De { input: Input::Value(Value::Array(tag, items)), ..self }.any(visitor)
            }
            input => De { input, ..self }.literal(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let known = fields.iter().map(|field| format!("{}.{field}", self.path));
        self.reading.notes.borrow_mut().known.extend(known);
        let (reading, path, value) = self.value()?;
        match value {
            Value::Dict(_, dict) => {
                let at = De::at(reading, path.clone());
                let entries = at.entries(dict, fields)?.into_iter();
                visitor.visit_map(Map { at, entries, next: None }).map_err(|fault| match fault.located {
                    true => fault,
                    // What is wrong with a section as a whole is a missing key.
                    false => Fault { what: format!("section [{path}]: {fault}"), located: true },
                })
            }
            other => Err(Fault {
                what: format!(
                    "{path} = {} (from {}): expected a section of keys: [{path}]",
                    text::show(&other),
                    reading.layers.source(other.tag(), &path)
                ),
                located: true,
            }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (reading, path, value) = self.value()?;
        match value {
            Value::String(_, text) => {
                let text: StringDeserializer<Fault> = text.into_deserializer();
                visitor.visit_enum(text)
            }
            Value::Dict(_, dict) => visitor.visit_enum(MapAccessDeserializer::new(Map {
                at: De::at(reading, path),
                entries: inputs(dict).into_iter(),
                next: None,
            })),
            other => Err(de::Error::custom(format!("expected a name, found {}", text::show(&other)))),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct map identifier ignored_any
    }
}
