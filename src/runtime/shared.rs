//! What all threads of a node share. Hot paths take no lock here: maps are sharded, and most
//! messages touch none of them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{deliver::Waiting, faults::Faults, kind::Kind, settings::Settings};
use crate::{backend::Backend, clock::Clock, envelope::Position, metrics::Metrics, request::RequestId};

/// A node's shared parts.
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
    pub(crate) kinds: HashMap<&'static str, Arc<dyn Kind>>,
    pub(crate) waiting: Waiting,
    pub(crate) faults: Faults,
    pub(crate) draining: AtomicBool,
    /// Held while a message runs that may have taken the process down before: one at a time, so
    /// that the guilty one is known (G6).
    pub(crate) alone: tokio::sync::Mutex<()>,
    pub(crate) seed: u64,
    secret: [u8; 32],
    tokens: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Clock,
        settings: Settings,
        kinds: HashMap<&'static str, Arc<dyn Kind>>,
        faults: Faults,
        seed: u64,
    ) -> Self {
        Self {
            secret: backend.secret(),
            backend,
            clock,
            metrics: Metrics::default(),
            settings,
            kinds,
            waiting: Waiting::default(),
            faults,
            draining: AtomicBool::new(false),
            alone: tokio::sync::Mutex::new(()),
            seed,
            tokens: AtomicU64::new(1),
        }
    }

    pub(crate) fn id(&self, position: Position) -> RequestId {
        RequestId::seal(position, &self.secret)
    }

    pub(crate) fn position(&self, id: RequestId) -> Option<Position> {
        id.open(&self.secret).filter(|position| position.partition() < self.backend.partitions())
    }

    pub(crate) fn token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A number in `0..1` that is the same for the same attempt of the same message under the same
    /// seed: jitter that spreads in production and repeats in tests.
    pub(crate) fn jitter(&self, position: Position, failures: u32) -> f64 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&position.packed().to_le_bytes());
        bytes[8..].copy_from_slice(&failures.to_le_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.seed);
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }
}
