//! Finding what is to be tested: programs of this workspace, built as the tests were built.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The `greenroom` program. `GREENROOM_BIN` names another one.
pub fn greenroom() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("GREENROOM_BIN") {
        Some(path) => path.into(),
        None => cargo(&["-p", "greenroom-actors", "--bin", "greenroom"]).join("greenroom"),
    })
}

/// An example of this package.
pub fn example(name: &str) -> PathBuf {
    cargo(&["-p", "greenroom", "--example", name]).join("examples").join(name)
}

/// The root of this clone. The runner of the tests says where that is: clones may share what they
/// have compiled, so what this was compiled in may be another one, or gone.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Builds into the directory and with the profile of this very test, and answers where that is.
fn cargo(what: &[&str]) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile_dir = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps").to_owned();
    let target = profile_dir.parent().expect("tests are in target/<profile>/deps");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut command = Command::new(env!("CARGO"));
    // What cargo tells this test of its own package would make build scripts run again in there.
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours.iter().any(|p| name.to_string_lossy().starts_with(p)))
    {
        command.env_remove(name);
    }
    let output = command
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build {what:?}: {}", String::from_utf8_lossy(&output.stderr));
    profile_dir
}
