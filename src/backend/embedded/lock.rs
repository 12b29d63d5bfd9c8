//! One process a store: an operating-system lock on `greenroom.lock`, which also says who holds it.
//! The lock dies with its process, however that ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::error::{Error, Result};

/// The name of the lock file in the data directory.
pub const LOCK_FILE: &str = "greenroom.lock";

/// A held lock.
pub(super) struct Lock {
    file: Mutex<File>,
}

impl Lock {
    /// Takes the lock of `data`, or says which process holds it.
    pub(super) fn take(data: &Path) -> Result<Self> {
        let path = data.join(LOCK_FILE);
        let failed = |e: std::io::Error| Error::from(e).into_terminal().context(format!("locking {}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; that it is held is the point.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::terminal(format!(
                    "{} is in use by another process ({}): stop that one, or use another data directory",
                    data.display(),
                    if holder.trim().is_empty() { "unknown" } else { holder.trim() }
                ))
                .code("store_in_use"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let lock = Self { file: Mutex::new(file) };
        lock.announce(None).map_err(|e| e.context(format!("writing {}", path.display())))?;
        Ok(lock)
    }

    /// Writes who holds it and where it listens, as JSON.
    pub(super) fn announce(&self, listen: Option<&str>) -> Result<()> {
        let text = serde_json::json!({ "pid": std::process::id(), "listen": listen }).to_string();
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// The store file in a data directory.
pub(super) fn store_file(data: &Path) -> PathBuf {
    data.join("greenroom.db")
}
