//! Who a request is from: what the product says, else what a trusted proxy says, else the address it came
//! from.
//!
//! Invariant: what a client writes into a header is believed only where a proxy that is trusted has
//! written it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use actix_web::{HttpRequest, http::header::HeaderName};

use crate::error::{Error, Result};

/// Whom a request is from, as the product knows it: from a session, a token, an API key. Names stand in
/// what operators see of limits, so give an id and no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The customer that the user belongs to.
    pub tenant: Option<String>,
    /// The user.
    pub user: Option<String>,
}

/// How the product tells whom a request is from; `None` when it does not know. Called before routing, for
/// each request that a rule applies to.
#[derive(Clone)]
pub struct Identify(Arc<Ask>);

type Ask = dyn Fn(&HttpRequest) -> Option<Identity> + Send + Sync;

impl Identify {
    /// By this function. It must not wait.
    pub fn by(identify: impl Fn(&HttpRequest) -> Option<Identity> + Send + Sync + 'static) -> Self {
        Self(Arc::new(identify))
    }
}

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identify")
    }
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    bits: u32,
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (128 - self.bits) };
        (wide(address) ^ self.address) & mask == 0
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::terminal(format!("{text:?} is no network: expected one such as \"10.0.0.0/8\""));
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.trim().parse::<u32>()).map_err(|_| wrong())?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address: wide(address), bits: bits + 128 - most })
    }
}

/// IPv4 addresses as IPv6 has them, so that a socket of both says the same of one client.
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// How it is found out who a request is from.
#[derive(Clone, Debug, Default)]
pub(super) struct Finder {
    pub(super) identify: Option<Identify>,
    pub(super) user: Option<HeaderName>,
    pub(super) tenant: Option<HeaderName>,
    pub(super) ip: Option<HeaderName>,
    pub(super) trusted: Vec<Network>,
}

/// Who a request is from.
pub(super) struct Asker {
    pub(super) identity: Identity,
    /// The client's address, of an IPv6 one its network: whoever has one has 2^64 of them.
    pub(super) address: String,
}

impl Finder {
    pub(super) fn find(&self, req: &HttpRequest) -> Asker {
        let peer = req.peer_addr().map(|peer| peer.ip());
        let trusted = peer.is_some_and(|peer| self.trusts(peer));
        let said = |name: &Option<HeaderName>| {
            let value = name.as_ref().filter(|_| trusted).and_then(|name| req.headers().get(name))?;
            value.to_str().ok().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let known = self.identify.as_ref().and_then(|identify| (identify.0)(req));
        let identity = known.unwrap_or_else(|| Identity { tenant: said(&self.tenant), user: said(&self.user) });
        let client = if trusted { self.forwarded(req).or(peer) } else { peer };
        Asker { identity, address: client.map_or_else(|| "unknown".to_owned(), network) }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.holds(address))
    }

    /// The last address of the list that is none of a trusted proxy: those before it anybody may write.
    fn forwarded(&self, req: &HttpRequest) -> Option<IpAddr> {
        let name = self.ip.as_ref()?;
        let texts: Vec<&str> = req.headers().get_all(name).filter_map(|value| value.to_str().ok()).collect();
        let mut first = None;
        for text in texts.iter().rev().flat_map(|text| text.rsplit(',')) {
            // Something else than an address: nobody before it is believed.
            let Some(address) = address(text.trim()) else { break };
            first = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        first
    }
}

/// Reads `1.2.3.4`, `1.2.3.4:567`, `::1`, `[::1]` and `[::1]:567`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(inner, _)| inner);
    bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
}

fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Ipv4Addr::to_string(&v4),
            None => format!("{}/64", Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        },
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn finder() -> Finder {
        Finder {
            user: Some(HeaderName::from_static("x-user")),
            ip: Some(HeaderName::from_static("x-forwarded-for")),
            trusted: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            ..Finder::default()
        }
    }

    fn found(peer: &str, headers: &[(&'static str, &str)]) -> Asker {
        let mut req = TestRequest::get().peer_addr(std::net::SocketAddr::new(peer.parse().unwrap(), 9));
        for (name, value) in headers {
            req = req.append_header((*name, *value));
        }
        finder().find(&req.to_http_request())
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let headers = [("x-user", "ann"), ("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.0.0.9")];
        let through = found("10.0.0.1", &headers);
        assert_eq!((through.identity.user.as_deref(), through.address.as_str()), (Some("ann"), "7.7.7.7"));
        let direct = found("8.8.8.8", &headers);
        assert_eq!((direct.identity.user, direct.address.as_str()), (None, "8.8.8.8"));
    }

    #[test]
    fn what_a_client_puts_in_front_of_the_list_is_not_read() {
        let address = |list| found("10.0.0.1", &[("x-forwarded-for", list)]).address;
        assert_eq!(address("10.9.9.9, 10.0.0.9"), "10.9.9.9");
        assert_eq!(address("1.1.1.1, nonsense, 10.0.0.9"), "10.0.0.9");
        assert_eq!(address("9.9.9.9:123"), "9.9.9.9");
        assert_eq!(address("[2001:db8::1]:5"), "2001:db8::/64");
        assert_eq!(address(""), "10.0.0.1");
        let split = found("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7")]);
        assert_eq!(split.address, "7.7.7.7");
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_one_is_ipv4() {
        assert_eq!(found("2001:db8:1:2:3:4:5:6", &[]).address, "2001:db8:1:2::/64");
        assert_eq!(found("::ffff:8.8.8.8", &[]).address, "8.8.8.8");
    }

    #[test]
    fn networks_are_read_and_hold_what_they_say() {
        let holds = |network: &str, address: &str| network.parse::<Network>().unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1") && holds("0.0.0.0/0", "1.2.3.4"));
        assert!(holds("2001:db8::/32", "2001:db8:9::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("1.2.3.4", "1.2.3.4") && !holds("1.2.3.4", "1.2.3.5"));
        for wrong in ["", "10.0.0.0/33", "ten", "10.0.0.0/x", "::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
