//! The W3C trace context that every message carries, so one trace spans HTTP request to last
//! effect. Source: <https://www.w3.org/TR/trace-context/>, version 00.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `traceparent`: trace id, parent span id, flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace; never zero.
    pub trace: u128,
    /// The span that caused what follows; never zero.
    pub span: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

impl Trace {
    /// A new trace with a random id.
    pub fn start() -> Self {
        Self { trace: uuid::Uuid::now_v7().as_u128(), span: span_id(), flags: 1 }
    }

    /// The same trace with a span of its own.
    pub fn child(self) -> Self {
        Self { span: span_id(), ..self }
    }

    /// Reads a `traceparent` header; `None` when it is not one (the standard says to start a
    /// new trace then).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower_hex = |s: &str, len| s.len() == len && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower_hex(version, 2) || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        if !lower_hex(trace, 32) || !lower_hex(span, 16) || !lower_hex(flags, 2) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace, span, flags: u8::from_str_radix(flags, 16).ok()? })
    }

    /// The trace id as 32 hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

fn span_id() -> u64 {
    // The low half of a version 7 id is random apart from its two variant bits.
    (uuid::Uuid::now_v7().as_u128() as u64) | 1
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Trace::parse(&text).ok_or_else(|| serde::de::Error::custom("not a traceparent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_allows_is_read() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Trace::parse(good).unwrap().to_string(), good);
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replace("00-", "ff-"),
            &format!("{good}-x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }
}
