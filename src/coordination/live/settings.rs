//! The numbers that bound live connections: the section `[live]` of `config.toml`.
//! Invariant: whatever passed [`Settings::check`] can be kept.

use std::time::Duration;

use crate::error::{Error, Result};

/// Bounds of live connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections of this node at once.
    pub connections: usize,
    /// Connections of one channel on one node at once.
    pub per_channel: usize,
    /// Events that one channel keeps for those who come back.
    pub ring_events: usize,
    /// Bytes of them.
    pub ring_bytes: usize,
    /// How long it keeps them.
    pub ring_age: Duration,
    /// The largest event, in bytes of JSON.
    pub event_bytes: usize,
    /// Events that may wait for a slow connection; one more, and it is closed.
    pub buffer_events: usize,
    /// Bytes of them.
    pub buffer_bytes: usize,
    /// The largest message of a client, in bytes.
    pub message_bytes: usize,
    /// The time over which the clients of a node that drains are told to come back.
    pub spread: Duration,
    /// How often a quiet channel is looked at, in case its last event was lost on the way.
    pub check: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_channel: 1_000,
            ring_events: 64,
            ring_bytes: 32 << 10,
            ring_age: Duration::from_secs(300),
            event_bytes: 16 << 10,
            buffer_events: 128,
            buffer_bytes: 256 << 10,
            message_bytes: 16 << 10,
            spread: Duration::from_secs(5),
            check: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// The largest event there can be: it is posted between nodes, as any broadcast.
    pub const MAX_EVENT: usize = 60 << 10;

    /// Terminal error naming the first setting that cannot be kept.
    pub fn check(&self) -> Result<()> {
        if self.event_bytes > Self::MAX_EVENT {
            let most = Self::MAX_EVENT;
            return Err(Error::terminal(format!("live event_bytes is {}: expected at most {most}", self.event_bytes)));
        }
        for (name, bytes) in [("ring_bytes", self.ring_bytes), ("buffer_bytes", self.buffer_bytes)] {
            if bytes < self.event_bytes {
                let least = self.event_bytes;
                return Err(Error::terminal(format!(
                    "live {name} is {bytes}: expected at least event_bytes ({least}), or the largest event would not fit"
                )));
            }
        }
        if self.ring_age.is_zero() || self.check.is_zero() {
            return Err(Error::terminal("live ring_age and check are times above 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        assert!(Settings::default().check().is_ok());
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(with(|s| s.event_bytes = 64 << 10).contains("event_bytes"));
        assert!(with(|s| s.ring_bytes = 100).contains("ring_bytes"));
        assert!(with(|s| s.buffer_bytes = 100).contains("buffer_bytes"));
        assert!(with(|s| s.check = Duration::ZERO).contains("check"));
    }
}
