//! Where Redis is and how it is reached: the address, read once, and a client of fred for each connection.
//!
//! Invariant: a client of fred is one connection, and ends with it. It never reconnects, so nothing is sent
//! twice, nothing is sent late, and what is asked of a connection is asked of the one that was written to.

use std::{fmt, time::Duration};

use fred::{
    prelude::{Builder, Client, Config, ServerConfig},
    types::config::Server,
};

use super::{super::Tls, tls};
use crate::error::{Error, Result};

/// How long an answer may take before it counts as lost.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long connecting may take, and each of its steps.
const CONNECT: Duration = Duration::from_secs(3);
/// Letters that wait to be sorted, before some are missed.
const LETTERS: usize = 16_384;

/// What all connections have in common.
pub(super) struct Address {
    config: Config,
}

/// What is known of where the masters are.
pub(super) enum Masters<'a> {
    /// One server, or one that sentinels know.
    One,
    /// A cluster, which these servers know.
    Cluster(&'a [Server]),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Calls,
    Letters,
}

impl Address {
    /// Terminal error when it cannot be understood, or a file of TLS cannot be read.
    pub(super) fn parse(url: &str, files: &Tls) -> Result<Self> {
        let bad = |e: &dyn fmt::Display| {
            Error::terminal(format!("the Redis address cannot be understood: {e}")).code("bad_config")
        };
        let encrypted = url.starts_with("rediss");
        // Where TLS is wanted, it is made here and not of what the client takes for the system's.
        let plain = if encrypted { url.replacen("rediss", "redis", 1) } else { url.to_owned() };
        let mut config = Config::from_url(&several(&plain)).map_err(|e| bad(&e))?;
        if encrypted {
            config.tls = Some(tls::connector(files)?.into());
        } else if *files != Tls::default() {
            return Err(bad(&"it has files for TLS, and does not begin with rediss"));
        }
        Ok(Self { config })
    }

    pub(super) fn masters(&self) -> Masters<'_> {
        match &self.config.server {
            ServerConfig::Clustered { hosts, .. } => Masters::Cluster(hosts),
            _ => Masters::One,
        }
    }

    /// A client that is not connected, to the server that the address names, or to one of a cluster.
    pub(super) fn client(&self, server: Option<&Server>, purpose: Purpose) -> Result<Client, String> {
        let mut config = self.config.clone();
        if let Some(server) = server {
            config.server = ServerConfig::Centralized { server: server.clone() };
        }
        let mut builder = Builder::from_config(config);
        builder
            .with_performance_config(|performance| {
                performance.default_command_timeout = ANSWER;
                if purpose == Purpose::Letters {
                    performance.broadcast_channel_capacity = LETTERS;
                }
            })
            .with_connection_config(|connection| {
                // Sent twice, an append would be two messages.
                connection.max_command_attempts = 1;
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                connection.max_command_buffer_len = 100_000;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(4));
                connection.unresponsive.interval = Duration::from_secs(1);
            });
        builder.build().map_err(|e| e.to_string())
    }
}

/// Several hosts, separated by commas, as the client wants to read them.
fn several(url: &str) -> String {
    match url.split_once(',') {
        Some((first, more)) if url.contains("-cluster://") => {
            let more: Vec<String> = more.split(',').map(|host| format!("node={host}")).collect();
            format!("{first}?{}", more.join("&"))
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_known_by_all_its_hosts() {
        let address = Address::parse("redis-cluster://a:1,b:2,c:3", &Tls::default()).unwrap();
        let Masters::Cluster(hosts) = address.masters() else { panic!("no cluster") };
        let mut ports: Vec<u16> = hosts.iter().map(|host| host.port).collect();
        ports.sort();
        assert_eq!(ports, [1, 2, 3]);
        assert!(matches!(Address::parse("redis://a:1", &Tls::default()).unwrap().masters(), Masters::One));
    }

    #[test]
    fn files_of_tls_are_not_ignored_silently() {
        let files = Tls { ca: Some("ca.pem".into()), ..Tls::default() };
        let error = Address::parse("redis://a:1", &files).err().unwrap().to_string();
        assert!(error.contains("rediss"), "{error}");
    }
}
