//! The embedded backend: one SQLite file, one writer thread, one transaction for a whole group.

use std::path::Path;

/// How the file is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions of a new file; an existing one must have as many.
    pub partitions: u16,
    /// Byte budget of one partition's mailbox (G10).
    pub mailbox_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { partitions: 16, mailbox_bytes: 256 << 20 }
    }
}

/// The store.
pub struct Embedded {}

impl Embedded {
    /// Opens or creates `greenroom.db` in the directory `data` for this process alone. Terminal
    /// error when another process serves it.
    pub fn open(_data: &Path, _options: Options) -> crate::Result<Self> {
        Ok(Self {})
    }

    /// Opens an existing store only to read it; works beside a serving process.
    pub fn inspect(_data: &Path) -> crate::Result<Self> {
        Ok(Self {})
    }
}
