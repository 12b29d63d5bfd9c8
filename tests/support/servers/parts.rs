//! The programs that tests start.

use std::path::{Path, PathBuf};

/// The program of this name. `make setup` decides which one that is.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".parts/bin").join(name);
    assert!(path.is_file(), "there is no {}: run `make setup`", path.display());
    path
}
