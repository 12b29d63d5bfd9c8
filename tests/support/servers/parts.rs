//! The programs that tests start.

use std::path::PathBuf;

use crate::support::build::root;

/// The program of this name. `make setup` decides which one that is. `GREENROOM_TEST_PARTS` names
/// the directory of another clone, for one that has none.
pub fn program(name: &str) -> PathBuf {
    let own = || root().join(".parts/bin");
    let path = std::env::var_os("GREENROOM_TEST_PARTS").map_or_else(own, PathBuf::from).join(name);
    assert!(path.is_file(), "there is no {}: run `make setup`", path.display());
    path
}
