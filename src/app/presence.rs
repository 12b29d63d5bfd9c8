//! Who serves a data directory: what the serving process wrote into the lock file. The lock
//! itself decides who may open the store; this only tells where to find whoever holds it.

use std::path::Path;

use serde::Deserialize;

use crate::backend::embedded::LOCK_FILE;

/// A process that says it serves a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Presence {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its gateway, if it has one.
    #[serde(default)]
    pub(crate) listen: Option<String>,
}

impl Presence {
    /// The live process that serves `data`, if any. A process that was killed leaves its entry
    /// behind, so the process id must exist; whether it is still the same process only asking it
    /// can tell.
    pub(crate) fn find(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(data.join(LOCK_FILE)).ok()?;
        let presence: Self = serde_json::from_str(&text).ok()?;
        is_alive(presence.pid).then_some(presence)
    }
}

#[cfg(unix)]
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // Not permitted to signal it means it is there, and somebody else's.
    pid.is_some_and(|pid| matches!(rustix::process::test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM)))
}

#[cfg(not(unix))]
fn is_alive(_: u32) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_process_is_present() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Presence::find(dir.path()), None);
        let write = |text: String| std::fs::write(dir.path().join(LOCK_FILE), text).unwrap();
        write(format!("{{\"pid\":{},\"listen\":\"http://127.0.0.1:1\"}}", std::process::id()));
        assert_eq!(Presence::find(dir.path()).unwrap().listen.as_deref(), Some("http://127.0.0.1:1"));
        write(format!("{{\"pid\":{},\"listen\":null}}", std::process::id()));
        assert_eq!(Presence::find(dir.path()).unwrap().listen, None);
        // Above the largest process id that Linux gives out.
        write("{\"pid\":4194305}".into());
        assert_eq!(Presence::find(dir.path()), None);
        write(String::new());
        assert_eq!(Presence::find(dir.path()), None);
    }
}
