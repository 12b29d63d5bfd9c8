//! A real nginx in front of several nodes.

use std::{fs, net::TcpStream, path::Path};

use tempfile::TempDir;

use super::servers::{port, process::Process};

/// A running nginx, master and workers; killed when dropped.
pub struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// With the configuration that is made of its directory and its port. It is to run in the foreground and
    /// keep to the directory.
    pub fn configured(configuration: impl Fn(&Path, u16) -> String) -> Self {
        port::started("nginx", |port| {
            let dir = TempDir::new().expect("a directory");
            let config = dir.path().join("nginx.conf");
            fs::write(&config, configuration(dir.path(), port)).expect("written");
            let prefix = dir.path().display().to_string();
            let arguments = ["-e", "stderr", "-p", &prefix, "-c", &config.display().to_string()];
            let mut process = Process::start("nginx", dir, arguments.map(str::to_owned).to_vec());
            let answers = |_: &Process| TcpStream::connect(("127.0.0.1", port)).is_ok();
            process.becomes("ready", answers).then_some(Self { process, port })
        })
    }

    /// Such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Nginx {
    /// Its workers end when their master tells them to, not when it is killed.
    fn drop(&mut self) {
        self.process.signal(rustix::process::Signal::TERM);
        self.process.wait();
    }
}
