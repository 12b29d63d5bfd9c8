//! Values as `config.toml` writes them, read and checked.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{duration, secret::Secret};
use crate::{request::MAX_PARTITIONS, runtime::settings::Settings};

/// A number of threads, `"auto"` for one a core.
pub(super) fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Ok(number_or_auto(deserializer)?.unwrap_or_else(|| Settings::default().arbiters))
}

/// A number of HTTP threads: they only parse and wait, so more than two take cores from actors.
pub(super) fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Ok(number_or_auto(deserializer)?.unwrap_or_else(|| Settings::default().arbiters.min(2)))
}

pub(super) fn number_or_auto<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Threads {
        Number(usize),
        Text(String),
    }
    match Threads::deserialize(deserializer) {
        Ok(Threads::Number(number @ 1..=4096)) => Ok(Some(number)),
        Ok(Threads::Text(auto)) if auto == "auto" => Ok(None),
        _ => Err(D::Error::custom("expected a number of threads from 1 to 4096, or \"auto\"")),
    }
}

pub(super) fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::logging::check_filter(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// A password set apart from the address it belongs to, where it belongs.
pub(super) fn with_password(address: &str, password: Option<&Secret>) -> String {
    let Some(password) = password.filter(|password| !password.is_empty()) else { return address.to_owned() };
    let escaped: String = form_urlencoded::byte_serialize(password.reveal().as_bytes()).collect();
    let escaped = escaped.replace('+', "%20");
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    match rest.split_once('@') {
        Some((user, host)) => format!("{scheme}://{user}:{escaped}@{host}"),
        None => format!("{scheme}://:{escaped}@{rest}"),
    }
}

/// The address of a server, which shows up in logs and so holds no password.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let Some((_, rest)) = text.split_once("://") else {
        return Err(D::Error::custom("expected an address such as \"redis://host:6379\" or \"mongodb://host:27017\""));
    };
    match rest.split_once('@') {
        Some((user, _)) if user.contains(':') => Err(D::Error::custom(
            "it holds a password: leave that out, and set the key of the same name that ends in _password",
        )),
        _ => Ok(text),
    }
}

/// The path of a file; none when it is empty.
pub(super) fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

/// A name that goes into keys and collections.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=48).contains(&text.len()) && text.chars().all(fine) {
        return Ok(text);
    }
    Err(D::Error::custom("expected 1 to 48 letters, digits, - or _"))
}

/// Shorter ones would take a node for dead whenever it is busy; longer ones leave its work undone.
pub(super) fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let lease = duration(deserializer)?;
    if (Duration::from_millis(500)..=Duration::from_secs(300)).contains(&lease) {
        return Ok(lease);
    }
    Err(D::Error::custom("expected between 500ms and 5m"))
}

pub(super) fn partitions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        number @ 1..=MAX_PARTITIONS => Ok(number),
        _ => Err(D::Error::custom(format!("expected a number from 1 to {MAX_PARTITIONS}"))),
    }
}

pub(super) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        number @ 1..=100 => Ok(number),
        _ => Err(D::Error::custom("expected a percentage from 1 to 100")),
    }
}

pub(super) fn positive<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default + PartialEq>(
    d: D,
) -> Result<T, D::Error> {
    let number = T::deserialize(d)?;
    if number == T::default() { Err(D::Error::custom("expected at least 1")) } else { Ok(number) }
}

pub(super) fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_listen(&text).map_err(D::Error::custom)
}

/// Reads an address to listen on: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080` (all
/// interfaces).
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "expected an address and port such as \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every \
                            network interface";
    let full = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None => text.to_owned(),
    };
    full.parse().map_err(|_| EXPECTED.to_owned())
}
