//! The shipped configurations, with the addresses of a test in place of their own.

use std::{fs, path::Path};

use crate::support::{Haproxy, Nginx, build};

/// A load balancer that runs.
pub(crate) enum Balancer {
    Haproxy(Haproxy),
    Nginx(Nginx),
}

/// Which one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Haproxy,
    Nginx,
}

impl Kind {
    /// In front of these addresses.
    pub(crate) fn start(self, nodes: &[String]) -> Balancer {
        match self {
            Self::Haproxy => {
                let balancer = Haproxy::configured(|dir, port| haproxy(dir, port, nodes));
                balancer.wait_up(&vec![true; nodes.len()]);
                Balancer::Haproxy(balancer)
            }
            Self::Nginx => Balancer::Nginx(Nginx::configured(|dir, port| nginx(dir, port, nodes))),
        }
    }

    /// How long a node has to be not ready before it may end: as its file says.
    pub(crate) fn notice(self) -> String {
        let text = match self {
            Self::Haproxy => shipped("haproxy.cfg"),
            Self::Nginx => shipped("nginx.conf"),
        };
        text.split("notice = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("it says so").to_owned()
    }
}

impl Balancer {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Haproxy(balancer) => balancer.url(),
            Self::Nginx(balancer) => balancer.url(),
        }
    }
}

fn shipped(name: &str) -> String {
    fs::read_to_string(build::root().join("deploy").join(name)).expect("it is shipped")
}

/// What stands there once or more is replaced: what does not stand there any more is not tested.
fn replaced(text: String, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old:?} is not in the file");
    text.replace(old, new)
}

fn with_nodes(text: String, nodes: &[String]) -> String {
    let shipped = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"];
    shipped.iter().zip(nodes).fold(text, |text, (old, new)| replaced(text, old, new))
}

fn haproxy(dir: &Path, port: u16, nodes: &[String]) -> String {
    let text = with_nodes(shipped("haproxy.cfg"), nodes);
    let text = replaced(text, "\nglobal\n", &format!("\nglobal\n    stats socket {}/stats\n", dir.display()));
    let text = replaced(text, "maxconn 20000", "maxconn 500");
    replaced(text, "\n    bind :80\n", &format!("\n    bind 127.0.0.1:{port}\n"))
}

fn nginx(dir: &Path, port: u16, nodes: &[String]) -> String {
    let text = with_nodes(shipped("nginx.conf"), nodes);
    // In the foreground, and everything in its own directory, which is ours alone.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let main = format!("{user}daemon off;\npid nginx.pid;\nerror_log stderr notice;\nworker_processes 2;");
    let text = replaced(text, "worker_processes auto;", &main);
    let text = replaced(text, "worker_rlimit_nofile 40000;", "");
    let text = replaced(text, "worker_connections 10000;", "worker_connections 500;");
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", dir.display()))
        .concat();
    let text = replaced(text, "\nhttp {\n", &format!("\nhttp {{\n    access_log off;\n{temp}"));
    let text = replaced(text, "/var/cache/greenroom-ready", &format!("{}/ready", dir.display()));
    replaced(text, "\n        listen 80;\n", &format!("\n        listen 127.0.0.1:{port};\n"))
}
