//! Which limits apply to a request.
//!
//! Invariant: rules are applied to the path that is routed, so no other spelling of it gets around them.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest,
    http::{Method, header::HeaderName},
};

use super::identity::{Asker, Finder, Identify, Network};
use crate::{
    coordination::limit::{Limit, Limits, declared::Declared, draw::Drawn},
    error::{Error, Result},
};

/// Whom a rule counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// All requests of a customer; of whoever has none, those of the address.
    Tenant,
    /// All requests of a user; of whoever is not known, those of the address.
    User,
    /// All requests of an address.
    Ip,
    /// All requests.
    Everybody,
}

/// A limit of HTTP requests.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, as clients and operators see it: `[a-z0-9_-]+`.
    pub name: String,
    /// Whom it counts together.
    pub who: Who,
    /// Paths it applies to, each with all below it; every path when there are none.
    pub paths: Vec<String>,
    /// Methods it applies to, `GET` with `HEAD`; every one when there are none. `OPTIONS` of a browser that
    /// asks for permission is never limited.
    pub methods: Vec<Method>,
    /// The rate, the quota or both.
    pub limit: Limit,
}

/// The limits of the gateway, and how it knows whom a request is from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All that apply to a request must allow it.
    pub rules: Vec<Rule>,
    /// How the product tells whom a request is from.
    pub identify: Option<Identify>,
    /// The header in which a trusted proxy names the user.
    pub user_header: Option<HeaderName>,
    /// The header in which a trusted proxy names the tenant.
    pub tenant_header: Option<HeaderName>,
    /// The header in which a trusted proxy lists the addresses that a request came through.
    pub ip_header: Option<HeaderName>,
    /// Who is a trusted proxy.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            identify: None,
            user_header: None,
            tenant_header: None,
            ip_header: Some(HeaderName::from_static("x-forwarded-for")),
            trusted_proxies: Vec::new(),
        }
    }
}

/// What nobody limits: load balancers look at these, and operators need them most when all is full.
const FREE: [&str; 4] = ["/livez", "/readyz", "/metrics", "/admin"];

/// Rules in force.
#[derive(Default)]
pub(crate) struct Rules {
    rules: Vec<Compiled>,
    finder: Finder,
}

pub(super) struct Compiled {
    pub(super) rule: Rule,
    pub(super) limit: Arc<Declared>,
}

/// A rule, and what it says of a request.
pub(super) struct Applied<'a> {
    pub(super) by: &'a Compiled,
    pub(super) drawn: Result<Drawn>,
}

impl Rules {
    /// Checks the rules and declares their limits. Terminal error naming the first that is wrong.
    pub(crate) fn new(settings: &Settings, limits: &Limits) -> Result<Self> {
        let mut rules: Vec<Compiled> = Vec::new();
        for rule in &settings.rules {
            let wrong = |what: &str| Err(Error::terminal(format!("the HTTP limit {:?}: {what}", rule.name)));
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            if rule.name.is_empty() || rule.name.len() > 48 || !rule.name.chars().all(fine) {
                return wrong("expected a name of up to 48 of a-z, 0-9, - and _");
            }
            if rules.iter().any(|known| known.rule.name == rule.name) {
                return wrong("there are two of that name");
            }
            if let Some(path) = rule.paths.iter().find(|path| !path.starts_with('/')) {
                return wrong(&format!("the path {path:?} does not begin with /"));
            }
            if rule.limit.at_once.is_some() {
                return wrong("how many at once cannot be limited here");
            }
            let limit = limits.declare(format!("http:{}", rule.name), &rule.limit)?;
            rules.push(Compiled { rule: rule.clone(), limit });
        }
        let finder = Finder {
            identify: settings.identify.clone(),
            user: settings.user_header.clone(),
            tenant: settings.tenant_header.clone(),
            ip: settings.ip_header.clone(),
            trusted: settings.trusted_proxies.clone(),
        };
        Ok(Self { rules, finder })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Those that apply to a request, in their order.
    pub(super) fn applying(&self, req: &HttpRequest) -> Vec<&Compiled> {
        // As the router reads it: with what is escaped for nothing unescaped.
        let path = req.match_info().as_str();
        if req.method() == Method::OPTIONS || FREE.iter().any(|free| is_below(path, free)) {
            return Vec::new();
        }
        let applies = |compiled: &&Compiled| {
            let Rule { paths, methods, .. } = &compiled.rule;
            (paths.is_empty() || paths.iter().any(|prefix| is_below(path, prefix)))
                && (methods.is_empty() || methods.contains(req.method()))
        };
        self.rules.iter().filter(applies).collect()
    }

    /// Draws from all of them at once.
    pub(super) async fn draw<'a>(
        &'a self,
        rules: Vec<&'a Compiled>,
        limits: &Limits,
        req: &HttpRequest,
    ) -> Vec<Applied<'a>> {
        let asker = self.finder.find(req);
        let drawn = rules.into_iter().map(async |by| {
            let who = by.rule.who.of(&asker);
            Applied { by, drawn: limits.draw(&by.limit, &who, 1, Duration::ZERO).await }
        });
        futures_util::future::join_all(drawn).await
    }
}

impl Who {
    /// Whom it counts a request of somebody with. An address never counts as the user of that name.
    fn of(self, asker: &Asker) -> String {
        let named = |what: &str, name: &Option<String>| match name {
            Some(name) => format!("{what} {name}"),
            None => format!("ip {}", asker.address),
        };
        match self {
            Self::Tenant => named("tenant", &asker.identity.tenant),
            Self::User => named("user", &asker.identity.user),
            Self::Ip => format!("ip {}", asker.address),
            Self::Everybody => String::new(),
        }
    }
}

/// Whether a path is that of a prefix or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_does() {
        assert!(
            is_below("/orders", "/orders") && is_below("/orders/7", "/orders") && is_below("/orders/7", "/orders/")
        );
        assert!(!is_below("/ordersx", "/orders") && !is_below("/", "/orders"));
        assert!(is_below("/anything", "/") && is_below("/", "/"));
    }
}
