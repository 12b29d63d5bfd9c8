//! Greenroom's own sections, as `config.toml` writes them, and the settings they become.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    duration,
    secret::Secret,
    size,
    values::{
        address, file, filter, lease, listen, name, partitions, percent, positive, threads, with_password, workers,
    },
};
use crate::{
    backend::{cluster, embedded},
    coordination::{live::settings as live, session},
    gateway,
    runtime::settings::Settings,
};

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Store {
    pub(crate) kind: Kind,
    pub(crate) data: PathBuf,
    #[serde(deserialize_with = "partitions")]
    pub(crate) partitions: u16,
    #[serde(deserialize_with = "size")]
    pub(crate) mailbox_bytes: u64,
    #[serde(deserialize_with = "address")]
    redis: String,
    redis_password: Option<Secret>,
    #[serde(deserialize_with = "file")]
    redis_ca: Option<PathBuf>,
    #[serde(deserialize_with = "file")]
    redis_cert: Option<PathBuf>,
    #[serde(deserialize_with = "file")]
    redis_key: Option<PathBuf>,
    #[serde(deserialize_with = "address")]
    mongo: String,
    mongo_password: Option<Secret>,
    #[serde(deserialize_with = "name")]
    database: String,
    #[serde(deserialize_with = "name")]
    prefix: String,
    accept: cluster::Accept,
    #[serde(deserialize_with = "lease")]
    lease: Duration,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Embedded,
    Cluster,
}

impl Store {
    pub(crate) fn embedded(&self) -> embedded::Options {
        // Whatever else the options hold has a default of its own.
        #[allow(clippy::needless_update)]
        embedded::Options { partitions: self.partitions, mailbox_bytes: self.mailbox_bytes, ..Default::default() }
    }

    pub(crate) fn cluster(&self) -> cluster::Options {
        cluster::Options {
            redis: with_password(&self.redis, self.redis_password.as_ref()),
            mongo: with_password(&self.mongo, self.mongo_password.as_ref()),
            database: self.database.clone(),
            prefix: self.prefix.clone(),
            partitions: self.partitions,
            mailbox_bytes: self.mailbox_bytes,
            accept: self.accept,
            lease: self.lease,
            forget: cluster::FORGET,
            redis_tls: cluster::Tls {
                ca: self.redis_ca.clone(),
                cert: self.redis_cert.clone(),
                key: self.redis_key.clone(),
            },
            faults: None,
        }
    }

    /// Where it is, as a person would say it; without secrets.
    pub(crate) fn place(&self) -> String {
        match self.kind {
            Kind::Embedded => {
                std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone()).display().to_string()
            }
            Kind::Cluster => format!("{} ({}) and {} ({})", self.redis, self.prefix, self.mongo, self.database),
        }
    }
}

/// `[runtime]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Runtime {
    #[serde(deserialize_with = "threads")]
    arbiters: usize,
    #[serde(deserialize_with = "positive")]
    window_messages: usize,
    #[serde(deserialize_with = "size")]
    window_bytes: usize,
    #[serde(deserialize_with = "percent")]
    tenant_share: u8,
    #[serde(deserialize_with = "size")]
    activation_bytes: usize,
    #[serde(deserialize_with = "duration")]
    idle: Duration,
    #[serde(deserialize_with = "positive")]
    crash_limit: u32,
    #[serde(deserialize_with = "duration")]
    retention: Duration,
    #[serde(deserialize_with = "duration")]
    stall: Duration,
    #[serde(deserialize_with = "size")]
    state_bytes: usize,
    #[serde(deserialize_with = "duration")]
    linger: Duration,
    #[serde(deserialize_with = "positive")]
    journal_entries: usize,
    #[serde(deserialize_with = "size")]
    journal_bytes: usize,
}

impl Runtime {
    pub(crate) fn settings(&self) -> Settings {
        #[allow(clippy::needless_update)]
        Settings {
            arbiters: self.arbiters,
            window_messages: self.window_messages,
            window_bytes: self.window_bytes,
            tenant_share: self.tenant_share,
            activation_bytes: self.activation_bytes,
            idle: self.idle,
            crash_limit: self.crash_limit,
            retention: self.retention,
            stall: self.stall,
            state_bytes: self.state_bytes,
            linger: self.linger,
            journal_entries: self.journal_entries,
            journal_bytes: self.journal_bytes,
            ..Settings::default()
        }
    }
}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gateway {
    #[serde(deserialize_with = "listen")]
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "workers")]
    pub(crate) workers: usize,
    #[serde(deserialize_with = "positive")]
    pub(crate) max_connections: usize,
    #[serde(deserialize_with = "size")]
    pub(crate) body_bytes: usize,
    #[serde(deserialize_with = "size")]
    pub(crate) header_bytes: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) head_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) body_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) keep_alive: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) disconnect_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) request_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) max_wait: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) idempotency_retention: Duration,
    #[serde(deserialize_with = "positive")]
    pub(crate) max_event_streams: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) heartbeat: Duration,
    pub(crate) cors_origins: Vec<String>,
    affinity: Option<String>,
}

impl Gateway {
    pub(crate) fn settings(&self, admin_token: Option<String>, shutdown_timeout: Duration) -> gateway::Settings {
        gateway::Settings {
            listen: self.listen,
            workers: self.workers,
            max_connections: self.max_connections,
            body_bytes: self.body_bytes,
            header_bytes: self.header_bytes,
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            keep_alive: self.keep_alive,
            disconnect_timeout: self.disconnect_timeout,
            request_timeout: self.request_timeout,
            max_wait: self.max_wait,
            shutdown_timeout,
            idempotency_retention: self.idempotency_retention,
            max_event_streams: self.max_event_streams,
            heartbeat: self.heartbeat,
            cors_origins: self.cors_origins.clone(),
            admin_token,
            affinity: self.affinity.clone(),
            ..gateway::Settings::default()
        }
    }
}

/// `[session]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Session {
    #[serde(deserialize_with = "duration")]
    idle: Duration,
    #[serde(deserialize_with = "duration")]
    absolute: Duration,
    #[serde(deserialize_with = "duration")]
    rotate: Duration,
    #[serde(deserialize_with = "duration")]
    grace: Duration,
    cookie: String,
    secure: session::Secure,
    #[serde(deserialize_with = "positive")]
    per_user: usize,
    #[serde(deserialize_with = "positive")]
    anonymous: usize,
    #[serde(deserialize_with = "size")]
    bytes: usize,
    secret: Option<Secret>,
}

impl Session {
    pub(crate) fn settings(&self) -> session::Settings {
        session::Settings {
            idle: self.idle,
            absolute: self.absolute,
            rotate: self.rotate,
            grace: self.grace,
            cookie: self.cookie.clone(),
            secure: self.secure,
            per_user: self.per_user,
            anonymous: self.anonymous,
            bytes: self.bytes,
            secret: self.secret.clone().unwrap_or_default(),
        }
    }
}

/// `[live]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Live {
    #[serde(deserialize_with = "positive")]
    connections: usize,
    #[serde(deserialize_with = "positive")]
    per_channel: usize,
    #[serde(deserialize_with = "positive")]
    ring_events: usize,
    #[serde(deserialize_with = "size")]
    ring_bytes: usize,
    #[serde(deserialize_with = "duration")]
    ring_age: Duration,
    #[serde(deserialize_with = "size")]
    event_bytes: usize,
    #[serde(deserialize_with = "positive")]
    buffer_events: usize,
    #[serde(deserialize_with = "size")]
    buffer_bytes: usize,
    #[serde(deserialize_with = "size")]
    message_bytes: usize,
    #[serde(deserialize_with = "duration")]
    spread: Duration,
    #[serde(deserialize_with = "duration")]
    check: Duration,
}

impl Live {
    pub(crate) fn settings(&self) -> live::Settings {
        live::Settings {
            connections: self.connections,
            per_channel: self.per_channel,
            ring_events: self.ring_events,
            ring_bytes: self.ring_bytes,
            ring_age: self.ring_age,
            event_bytes: self.event_bytes,
            buffer_events: self.buffer_events,
            buffer_bytes: self.buffer_bytes,
            message_bytes: self.message_bytes,
            spread: self.spread,
            check: self.check,
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Admin {
    pub(crate) token: Option<Secret>,
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Drain {
    #[serde(deserialize_with = "duration")]
    pub(crate) deadline: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) notice: Duration,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Log {
    #[serde(deserialize_with = "filter")]
    pub(crate) filter: String,
    pub(crate) format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Auto,
    Pretty,
    Json,
}
