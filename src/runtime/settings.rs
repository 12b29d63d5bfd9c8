//! The numbers that bound a node. Every one is a key of `config.toml`.

use std::{sync::Arc, time::Duration};

use crate::coordination::{limit::Declarations, session};

/// Bounds of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that run actors; 0 runs them on the calling thread (tests).
    pub arbiters: usize,
    /// Messages of one partition in memory at once.
    pub window_messages: usize,
    /// Bytes of messages of one partition in memory at once.
    pub window_bytes: usize,
    /// How much of a mailbox's byte budget one tenant may have before no more is accepted for it, in percent;
    /// 100 lets it have all.
    pub tenant_share: u8,
    /// Bytes that idle activations of the node may occupy before the least used are passivated.
    pub activation_bytes: usize,
    /// An activation that was idle this long is passivated.
    pub idle: Duration,
    /// How often a message may take the process down before it is quarantined.
    pub crash_limit: u32,
    /// How long results are kept.
    pub retention: Duration,
    /// A handler that blocks its thread this long without awaiting loses the thread.
    pub stall: Duration,
    /// The largest state, in bytes.
    pub state_bytes: usize,
    /// A command that waits is kept in memory this long; then it is run again when it goes on.
    pub linger: Duration,
    /// Most entries in the journal of one command.
    pub journal_entries: usize,
    /// Most bytes in the journal of one command.
    pub journal_bytes: usize,
    /// Bounds of live connections.
    pub live: crate::coordination::live::settings::Settings,
    /// Which build of the product this is, as journals name it.
    pub build: Arc<str>,
    /// Sessions of people at their browsers.
    pub session: session::Settings,
    /// Limits over all nodes, besides those that features declare.
    pub limits: Declarations,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiters: std::thread::available_parallelism().map_or(1, usize::from),
            window_messages: 1024,
            window_bytes: 8 << 20,
            tenant_share: 50,
            activation_bytes: 256 << 20,
            idle: Duration::from_secs(60),
            crash_limit: 5,
            retention: Duration::from_secs(24 * 3600),
            stall: Duration::from_secs(10),
            state_bytes: 16 << 20,
            linger: Duration::from_secs(1),
            journal_entries: 10_000,
            journal_bytes: 8 << 20,
            live: Default::default(),
            build: env!("CARGO_PKG_VERSION").into(),
            session: session::Settings::default(),
            limits: Declarations::default(),
        }
    }
}
