//! Durations and sizes as people write them: `"90s"`, `"1h30m"`, `"64KiB"`. A unit is always
//! required, so no number in a configuration file needs its documentation to be understood.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use serde::{Deserializer, de::Error as _};

const TIME: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a duration: whole numbers with a unit (`d`, `h`, `m`, `s`, `ms`), largest first.
///
/// ```
/// use greenroom::config::parse_duration;
/// assert_eq!(parse_duration("1h30m").unwrap().as_secs(), 5400);
/// assert_eq!(parse_duration("60").unwrap_err(), "60 has no unit: did you mean \"60s\"?");
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as \"500ms\", \"60s\", \"24h\" or \"1h30m\"";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("nothing is written: {EXPECTED}"));
    }
    let (mut total, mut below) = (0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, unit, after) = part(rest).ok_or_else(|| format!("{rest:?} is no number: {EXPECTED}"))?;
        rest = after;
        if unit.starts_with('.') {
            return Err(format!("{text:?} has a fraction: write a smaller unit instead, 1500ms for 1.5s"));
        }
        if unit.is_empty() {
            return Err(format!("{number} has no unit: did you mean \"{text}s\"?"));
        }
        let (_, factor) = TIME
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("{unit:?} is no unit of time: expected d, h, m, s or ms"))?;
        if *factor >= below {
            return Err(format!("the units of {text:?} are out of order: write the largest first, each once"));
        }
        below = *factor;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor)?.checked_add(total))
            .filter(|ms| *ms <= i64::MAX as u64)
            .ok_or_else(|| format!("{text:?} is longer than any clock counts"))?;
    }
    Ok(Duration::from_millis(total))
}

/// Reads a size in bytes: a whole number with a unit (`B`, `KiB`, `MiB`, `GiB`, `TiB` of 1024, or
/// `KB`, `MB`, `GB`, `TB` of 1000).
///
/// ```
/// use greenroom::config::parse_size;
/// assert_eq!(parse_size("64KiB"), Ok(65536));
/// assert_eq!(parse_size("64kb").unwrap_err(), "\"kb\" is no unit of size: did you mean \"KB\"?");
/// ```
pub fn parse_size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a size such as \"512B\", \"64KiB\" or \"1MiB\"";
    let trimmed = text.trim();
    let (number, unit, rest) = part(trimmed).ok_or_else(|| format!("{trimmed:?} is no size: {EXPECTED}"))?;
    if unit.starts_with('.') || !rest.is_empty() {
        return Err(format!("{text:?} is not one whole number with a unit: {EXPECTED}"));
    }
    if unit.is_empty() {
        return Err(format!("{number} has no unit: did you mean \"{number}B\"?"));
    }
    let (_, factor) = SIZE.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
        let near = SIZE.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit) || name.trim_end_matches("iB") == unit);
        match near {
            Some((near, _)) => format!("{unit:?} is no unit of size: did you mean \"{near}\"?"),
            None => format!("{unit:?} is no unit of size: expected B, KiB, MiB, GiB, KB, MB or GB"),
        }
    })?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor))
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| format!("{text:?} is more than any machine holds"))
}

/// Splits `text` into its leading digits, the unit after them, and the rest.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if digits == 0 {
        return None;
    }
    let (number, tail) = text.split_at(digits);
    let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
    let (unit, rest) = tail.split_at(unit);
    Some((number, unit.trim(), rest))
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn show_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in TIME {
        if left >= factor {
            text += &format!("{}{unit}", left / factor);
            left %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Writes a size so that [`parse_size`] reads it back, exactly.
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    // Byte is the last unit and divides everything but zero.
    SIZE.iter().find(fits).map_or_else(|| "0B".into(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// For `#[serde(deserialize_with = "greenroom::config::duration")]` on a [`Duration`].
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = deserializer.deserialize_str(Text("a duration as text, such as \"60s\""))?;
    parse_duration(&text).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with = "greenroom::config::size")]` on a `u64` or `usize` of bytes.
pub fn size<'de, D: Deserializer<'de>, T: TryFrom<u64, Error: Display>>(deserializer: D) -> Result<T, D::Error> {
    let text = deserializer.deserialize_str(Text("a size as text, such as \"64KiB\""))?;
    T::try_from(parse_size(&text).map_err(D::Error::custom)?).map_err(D::Error::custom)
}

/// Takes text and says what else it expected.
struct Text(&'static str);

impl serde::de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_mistake_says_what_to_write_instead() {
        for (text, says) in [
            ("", "nothing is written"),
            ("60", "did you mean \"60s\"?"),
            ("60x", "\"x\" is no unit of time"),
            ("1.5s", "1500ms for 1.5s"),
            ("-5s", "\"-5s\" is no number"),
            ("5s1h", "out of order"),
            ("1s1s", "out of order"),
            ("9999999999999999d", "longer than any clock"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        for (text, says) in [
            ("", "expected a size"),
            ("1024", "did you mean \"1024B\"?"),
            ("1M", "did you mean \"MiB\"?"),
            ("1 mib", "did you mean \"MiB\"?"),
            ("1.5MiB", "not one whole number"),
            ("1MiB2KiB", "not one whole number"),
            ("99999999999TiB", "more than any machine"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_size("0B"), Ok(0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..=i64::MAX as u64, bytes in 0..=i64::MAX as u64, shift in 0u32..60) {
            let time = Duration::from_millis(ms >> shift);
            prop_assert_eq!(parse_duration(&show_duration(time)), Ok(time));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            prop_assert_eq!(parse_size(&show_size(bytes >> shift << shift)), Ok(bytes >> shift << shift));
        }

        #[test]
        fn no_text_breaks_the_parsers(text in "\\PC{0,12}|[0-9.]{0,24}[a-zA-Zµ ]{0,4}[0-9]{0,3}[a-z]{0,2}") {
            if let Ok(time) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&show_duration(time)), Ok(time));
            }
            if let Ok(bytes) = parse_size(&text) {
                prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            }
        }
    }
}
