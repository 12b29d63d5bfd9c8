//! What can be said of sessions: `[session]` in the configuration.
//! Invariant: whatever passed [`Settings::check`] can be served.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    config::Secret,
    error::{Error, Result},
};

/// Bounds of sessions, and what their cookies are like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One that nobody used this long has ended.
    pub idle: Duration,
    /// One has ended this long after it was opened, used or not.
    pub absolute: Duration,
    /// The secret in the cookie is replaced this often.
    pub rotate: Duration,
    /// The secret before opens it too for so long, unless it was replaced by a login.
    pub grace: Duration,
    /// The cookie's name; a secure one is called `__Host-` and this.
    pub cookie: String,
    /// Whether cookies are for TLS only.
    pub secure: Secure,
    /// Sessions of one user at once.
    pub per_user: usize,
    /// Sessions of nobody at once, about.
    pub anonymous: usize,
    /// The largest data of one, as JSON, in bytes.
    pub bytes: usize,
    /// What cookies are signed with: one or several texts separated by white space, of which the first
    /// signs and each is good for checking. Without, it follows from the store's own secret.
    pub secret: Secret,
}

/// Whether cookies are for TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secure {
    /// Unless the client calls this server by a loopback name and without TLS.
    Auto,
    /// Always.
    Always,
    /// Never: whoever listens to the network can take a session over.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(12 * 3600),
            absolute: Duration::from_secs(14 * 24 * 3600),
            rotate: Duration::from_secs(3600),
            grace: Duration::from_secs(60),
            cookie: "session".into(),
            secure: Secure::Auto,
            per_user: 100,
            anonymous: 1_000_000,
            bytes: 4 << 10,
            secret: Secret::default(),
        }
    }
}

impl Settings {
    /// Sessions of one user, at most: all are looked through when one is opened.
    pub const MOST_PER_USER: usize = 1000;
    /// Sessions of nobody, at most: those of a drawer are looked through when there are too many.
    pub const MOST_ANONYMOUS: usize = 4_000_000;
    /// Data of one session, at most: it is read with every request.
    pub const MOST_BYTES: usize = 64 << 10;
    /// The shortest secret.
    pub const MIN_SECRET: usize = 32;

    /// Terminal error naming the first setting that cannot be served.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::terminal(what).code("bad_config"));
        if self.idle.is_zero() || self.idle > self.absolute {
            return wrong(format!(
                "session idle ({:?}) must be more than nothing and at most absolute ({:?})",
                self.idle, self.absolute
            ));
        }
        if self.rotate < self.grace * 2 {
            return wrong(format!(
                "session rotate ({:?}) must be at least twice the grace ({:?}), or two secrets would be in their grace",
                self.rotate, self.grace
            ));
        }
        if !(1..=Self::MOST_PER_USER).contains(&self.per_user) {
            return wrong(format!("session per_user is {}: expected 1 to {}", self.per_user, Self::MOST_PER_USER));
        }
        if !(1..=Self::MOST_ANONYMOUS).contains(&self.anonymous) {
            return wrong(format!("session anonymous is {}: expected 1 to {}", self.anonymous, Self::MOST_ANONYMOUS));
        }
        if !(2..=Self::MOST_BYTES).contains(&self.bytes) {
            return wrong(format!("session bytes is {}: expected 2 to {} bytes", self.bytes, Self::MOST_BYTES));
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=48).contains(&self.cookie.len()) || !self.cookie.chars().all(fine) || self.cookie.starts_with("__") {
            return wrong(format!(
                "session cookie is {:?}: expected 1 to 48 letters, digits, - or _, without a prefix of its own",
                self.cookie
            ));
        }
        if self.secrets().any(|secret| secret.len() < Self::MIN_SECRET) {
            return wrong(format!("session secret is too short: expected {} or more characters", Self::MIN_SECRET));
        }
        Ok(())
    }

    /// What cookies may be signed with, the one that signs first.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secret.reveal().split_whitespace()
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
        assert!(with(|s| s.idle = Duration::ZERO).contains("idle"));
        assert!(with(|s| s.idle = Duration::from_secs(1 << 30)).contains("absolute"));
        assert!(with(|s| s.grace = s.rotate).contains("grace"));
        assert!(with(|s| s.per_user = 0).contains("per_user"));
        assert!(with(|s| s.anonymous = 0).contains("anonymous"));
        assert!(with(|s| s.bytes = 1 << 20).contains("bytes"));
        for cookie in ["", "a=b", "__Host-x"] {
            let settings = Settings { cookie: cookie.into(), ..Settings::default() };
            assert!(settings.check().unwrap_err().to_string().contains("cookie"), "{cookie}");
        }
        let shown = with(|s| s.secret = Secret::new(format!("{} short", "x".repeat(32))));
        assert!(shown.contains("32 or more") && !shown.contains("short "), "{shown}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let settings = Settings { secret: Secret::new("0123456789abcdef"), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    }
}
