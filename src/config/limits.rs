//! `[limits]` as `config.toml` writes it: limits by name, of kinds and of HTTP requests.

use std::time::Duration;

use actix_web::http::{Method, header::HeaderName};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::units::parse_duration;
use crate::{
    coordination::limit::{Declarations, Limit, Unavailable},
    gateway::limits::{Network, Rule, Settings, Who},
};

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Limits {
    named: Vec<Named>,
    kind: Vec<OfKind>,
    http: Vec<OfHttp>,
    user_header: Option<Header>,
    tenant_header: Option<Header>,
    ip_header: Option<Header>,
    trusted_proxies: Vec<Trusted>,
}

/// `[[limits.named]]`
#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
    rate: Option<Per>,
    burst: Option<u64>,
    quota: Option<Per>,
    at_once: Option<u32>,
    lease: Option<Time>,
    unavailable: Option<Then>,
}

/// `[[limits.kind]]`
#[derive(Clone, Debug, Deserialize)]
struct OfKind {
    kind: String,
    #[serde(default)]
    each_key: bool,
    rate: Option<Per>,
    burst: Option<u64>,
    quota: Option<Per>,
    at_once: Option<u32>,
    lease: Option<Time>,
    unavailable: Option<Then>,
}

/// `[[limits.http]]`
#[derive(Clone, Debug, Deserialize)]
struct OfHttp {
    name: String,
    who: Counted,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    methods: Vec<Verb>,
    rate: Option<Per>,
    burst: Option<u64>,
    quota: Option<Per>,
    unavailable: Option<Then>,
}

impl Limits {
    /// The limits of the runtime.
    pub(crate) fn declarations(&self) -> Declarations {
        let limit =
            |rate: &Option<Per>, burst, quota: &Option<Per>, at_once, lease: &Option<Time>, then: &Option<Then>| {
                Limit {
                    rate: rate.as_ref().map(|rate| rate.0),
                    burst,
                    quota: quota.as_ref().map(|quota| quota.0),
                    at_once,
                    lease: lease.as_ref().map(|lease| lease.0),
                    unavailable: then.as_ref().map(|then| then.0),
                }
            };
        let mut all = Declarations::default();
        for it in &self.named {
            let limit = limit(&it.rate, it.burst, &it.quota, it.at_once, &it.lease, &it.unavailable);
            all.named.push((it.name.clone(), limit));
        }
        for it in &self.kind {
            let limit = limit(&it.rate, it.burst, &it.quota, it.at_once, &it.lease, &it.unavailable);
            let of = if it.each_key { &mut all.keys } else { &mut all.kinds };
            of.push((it.kind.clone(), limit));
        }
        all
    }

    /// The limits of the gateway.
    pub(crate) fn gateway(&self) -> Settings {
        let rule = |it: &OfHttp| Rule {
            name: it.name.clone(),
            who: it.who.0,
            paths: it.paths.clone(),
            methods: it.methods.iter().map(|verb| verb.0.clone()).collect(),
            limit: Limit {
                rate: it.rate.as_ref().map(|rate| rate.0),
                burst: it.burst,
                quota: it.quota.as_ref().map(|quota| quota.0),
                unavailable: it.unavailable.as_ref().map(|then| then.0),
                ..Limit::default()
            },
        };
        let header = |header: &Option<Header>| header.as_ref().map(|header| header.0.clone());
        Settings {
            rules: self.http.iter().map(rule).collect(),
            identify: None,
            user_header: header(&self.user_header),
            tenant_header: header(&self.tenant_header),
            ip_header: header(&self.ip_header),
            trusted_proxies: self.trusted_proxies.iter().map(|trusted| trusted.0).collect(),
        }
    }
}

/// Declares what text is read as.
macro_rules! from_text {
    ($($(#[$doc:meta])* $name:ident($of:ty) = $read:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        struct $name($of);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let read: fn(&str) -> Result<$of, String> = $read;
                read(&text).map(Self).map_err(D::Error::custom)
            }
        }
    )*};
}

from_text! {
    /// So many per time: `10/s`, `10000/1d`.
    Per((u64, Duration)) = per;
    Time(Duration) = parse_duration;
    Then(Unavailable) = |text| match text {
        "local" => Ok(Unavailable::Local),
        "refuse" => Ok(Unavailable::Refuse),
        _ => Err("expected \"local\" (each node counts for itself meanwhile) or \"refuse\"".to_owned()),
    };
    Counted(Who) = |text| match text {
        "tenant" => Ok(Who::Tenant),
        "user" => Ok(Who::User),
        "ip" => Ok(Who::Ip),
        "everybody" => Ok(Who::Everybody),
        _ => Err("expected \"tenant\", \"user\", \"ip\" or \"everybody\"".to_owned()),
    };
    Verb(Method) = |text| {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| known.contains(&text));
        method.ok_or_else(|| format!("expected one of {}", known.join(", ")))
    };
    Header(HeaderName) = |text| text.parse().map_err(|_| "expected the name of a header, such as \"x-user\"".to_owned());
    Trusted(Network) = |text| text.parse().map_err(|error: crate::Error| error.to_string());
}

fn per(text: &str) -> Result<(u64, Duration), String> {
    const EXPECTED: &str = "expected so many per time, such as \"10/s\", \"500/m\" or \"10000/1d\"";
    let (tokens, time) = text.split_once('/').ok_or(EXPECTED)?;
    let tokens = tokens.trim().parse().map_err(|_| format!("{:?} is no whole number: {EXPECTED}", tokens.trim()))?;
    let time = time.trim();
    if time.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    let one = if time.starts_with(|c: char| c.is_ascii_digit()) { time.to_owned() } else { format!("1{time}") };
    Ok((tokens, parse_duration(&one)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_per_time_is_read_as_people_write_it() {
        let second = Duration::from_secs(1);
        assert_eq!(per("10/s"), Ok((10, second)));
        assert_eq!(per(" 500 / m "), Ok((500, 60 * second)));
        assert_eq!(per("3/100ms"), Ok((3, second / 10)));
        assert_eq!(per("10000/1d"), Ok((10_000, 86_400 * second)));
        for (text, says) in [
            ("10", "expected so many per time"),
            ("x/s", "\"x\" is no whole number"),
            ("1/", "expected so many per time"),
            ("1/fortnight", "no unit of time"),
            ("1.5/s", "\"1.5\" is no whole number"),
        ] {
            assert!(per(text).unwrap_err().contains(says), "{text}: {:?}", per(text));
        }
    }
}
