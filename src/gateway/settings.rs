//! The numbers that bound the gateway. Every one is a key of `config.toml`.
//! Invariant: whatever passed [`Settings::check`] can be served.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::error::{Error, Result};

/// Bounds of the gateway.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve HTTP.
    pub workers: usize,
    /// Connections one worker holds at once; more wait to be taken.
    pub max_connections: usize,
    /// The largest body of a request, in bytes.
    pub body_bytes: usize,
    /// The largest head of a request (target and headers), in bytes.
    pub header_bytes: usize,
    /// How long a client may take to send the head.
    pub head_timeout: Duration,
    /// How long a client may take to send the body.
    pub body_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a closing connection may linger.
    pub disconnect_timeout: Duration,
    /// The longest a handler may take to answer; longer than [`Settings::max_wait`].
    pub request_timeout: Duration,
    /// The longest `Prefer: wait=N` waits.
    pub max_wait: Duration,
    /// How long a graceful stop waits for answers that are being made.
    pub shutdown_timeout: Duration,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_retention: Duration,
    /// Open streams of server-sent events at once.
    pub max_event_streams: usize,
    /// How often a silent stream of events shows that it lives.
    pub heartbeat: Duration,
    /// Origins whose pages may call the API (`https://shop.example`); `*` is any. None by default.
    pub cors_origins: Vec<String>,
    /// The bearer token of `/admin`. Without one, `/admin` is open on loopback and closed elsewhere.
    pub admin_token: Option<String>,
    /// The name of this node in the cookie by which a load balancer brings clients back to it.
    pub affinity: Option<String>,
    /// Who may ask how often. No limits by default.
    pub limits: super::limits::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(2),
            max_connections: 25_000,
            body_bytes: 1 << 20,
            header_bytes: 32 << 10,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            disconnect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(75),
            max_wait: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(25),
            idempotency_retention: Duration::from_secs(24 * 3600),
            max_event_streams: 4_096,
            heartbeat: Duration::from_secs(15),
            cors_origins: Vec::new(),
            admin_token: None,
            affinity: None,
            limits: Default::default(),
        }
    }
}

impl Settings {
    /// The shortest admin token: guessing must be hopeless.
    pub const MIN_TOKEN: usize = 16;

    /// Terminal error naming the first setting that cannot be served.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [
            ("workers", self.workers),
            ("max_connections", self.max_connections),
            ("body_bytes", self.body_bytes),
            ("header_bytes", self.header_bytes),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::terminal(format!("gateway {name} is 0: expected at least 1")));
        }
        if self.request_timeout <= self.max_wait {
            return Err(Error::terminal(format!(
                "gateway request_timeout ({:?}) must be longer than max_wait ({:?}), or waiting would end as an error",
                self.request_timeout, self.max_wait
            )));
        }
        if self.heartbeat.is_zero() {
            return Err(Error::terminal("gateway heartbeat is 0: expected a time"));
        }
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(Error::terminal(format!(
                "gateway cors_origins has {origin:?}: expected scheme://host[:port] without a path, or *"
            )));
        }
        if let Some(name) = self.affinity.as_ref().filter(|name| !is_node(name)) {
            return Err(Error::terminal(format!(
                "gateway affinity is {name:?}: expected this node's own name, 1 to 64 letters, digits, - or _"
            )));
        }
        match &self.admin_token {
            Some(token) if token.len() < Self::MIN_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(Error::terminal(format!(
                    "gateway admin_token cannot be used: expected {} or more visible ASCII characters",
                    Self::MIN_TOKEN
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `text` can be a node's name in cookies and load balancers.
fn is_node(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether `text` is a web origin as browsers send it.
fn is_origin(text: &str) -> bool {
    text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https")
                && !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        })
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart so that a new field cannot be forgotten, nor the token be shown.
        let Self {
            listen,
            workers,
            max_connections,
            body_bytes,
            header_bytes,
            head_timeout,
            body_timeout,
            keep_alive,
            disconnect_timeout,
            request_timeout,
            max_wait,
            shutdown_timeout,
            idempotency_retention,
            max_event_streams,
            heartbeat,
            cors_origins,
            admin_token,
            affinity,
            limits,
        } = self;
        f.debug_struct("Settings")
            .field("listen", listen)
            .field("workers", workers)
            .field("max_connections", max_connections)
            .field("body_bytes", body_bytes)
            .field("header_bytes", header_bytes)
            .field("head_timeout", head_timeout)
            .field("body_timeout", body_timeout)
            .field("keep_alive", keep_alive)
            .field("disconnect_timeout", disconnect_timeout)
            .field("request_timeout", request_timeout)
            .field("max_wait", max_wait)
            .field("shutdown_timeout", shutdown_timeout)
            .field("idempotency_retention", idempotency_retention)
            .field("max_event_streams", max_event_streams)
            .field("heartbeat", heartbeat)
            .field("cors_origins", cors_origins)
            .field("admin_token", &admin_token.as_ref().map(|_| "redacted"))
            .field("affinity", affinity)
            .field("limits", limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        assert!(Settings::default().check().is_ok());
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(with(|s| s.workers = 0).contains("workers"));
        assert!(with(|s| s.max_wait = Duration::from_secs(600)).contains("request_timeout"));
        assert!(with(|s| s.cors_origins = vec!["https://a.example/path".into()]).contains("cors_origins"));
        assert!(with(|s| s.admin_token = Some("short".into())).contains("admin_token"));
        assert!(with(|s| s.affinity = Some("node a".into())).contains("affinity"));
    }

    #[test]
    fn the_token_is_never_shown() {
        let settings = Settings { admin_token: Some("0123456789abcdef".into()), ..Settings::default() };
        let shown = format!("{settings:?}");
        assert!(shown.contains("redacted") && !shown.contains("0123456789abcdef"));
    }
}
