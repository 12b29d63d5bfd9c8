//! Whether the gateway can listen where it is told to, and who could then reach /admin.

use std::{net::TcpListener, path::Path};

use super::Finding;
use crate::{app::Presence, config::Config};

pub(super) fn examine(config: &Config, data: &Path) -> Vec<Finding> {
    vec![port(config, data), admin(config)]
}

fn port(config: &Config, data: &Path) -> Finding {
    const CHECK: &str = "port";
    let listen = config.gateway.listen;
    let other = "stop it, or listen elsewhere: --listen 127.0.0.1:8081 (port 0 takes a free one)";
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok(CHECK, format!("{listen} is free")),
        Err(error) => {
            let ours =
                Presence::find(data).and_then(|p| p.listen).is_some_and(|url| url.ends_with(&listen.to_string()));
            match (ours, error.kind()) {
                (true, _) => Finding::ok(CHECK, format!("{listen} is taken by the process that serves this directory")),
                (_, std::io::ErrorKind::AddrInUse) => {
                    Finding::failure(CHECK, format!("{listen} is taken by another process"), other)
                }
                (_, std::io::ErrorKind::PermissionDenied) => Finding::failure(
                    CHECK,
                    format!("{listen}: not permitted"),
                    "use a port above 1023, behind a proxy that has the low one",
                ),
                (_, std::io::ErrorKind::AddrNotAvailable) => Finding::failure(
                    CHECK,
                    format!("{listen} is no address of this machine"),
                    "listen on 127.0.0.1, or on 0.0.0.0 for every network interface",
                ),
                _ => Finding::failure(CHECK, format!("{listen}: {error}"), other),
            }
        }
    }
}

fn admin(config: &Config) -> Finding {
    const CHECK: &str = "admin";
    let listen = config.gateway.listen;
    match &config.admin.token {
        // The gateway refuses to start with a shorter one.
        Some(token) if token.reveal().len() < 16 => Finding::failure(
            CHECK,
            "the admin token is shorter than 16 characters: it can be guessed",
            "export GREENROOM_ADMIN__TOKEN=$(openssl rand -hex 24)",
        ),
        Some(_) => Finding::ok(CHECK, "/admin is behind a token"),
        None if listen.ip().is_loopback() => Finding::ok(CHECK, "/admin is open, on loopback only"),
        None => Finding::warning(
            CHECK,
            format!("{listen} is reachable from other machines and there is no admin token: /admin stays closed"),
            "export GREENROOM_ADMIN__TOKEN=$(openssl rand -hex 24)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};
    use crate::config::Sources;

    fn with(vars: &[(&str, &str)]) -> Config {
        let environment = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_sources(Sources { environment, ..Sources::default() }).unwrap()
    }

    #[test]
    fn a_taken_port_is_a_failure_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let config = with(&[("GREENROOM_GATEWAY__LISTEN", &address)]);
        assert_eq!(port(&config, Path::new("/nowhere")).level, Level::Failure);
        drop(taken);
        assert_eq!(port(&config, Path::new("/nowhere")).level, Level::Ok);
    }

    #[test]
    fn beyond_loopback_a_token_is_wanted() {
        let everywhere = ("GREENROOM_GATEWAY__LISTEN", "0.0.0.0:0");
        assert_eq!(admin(&with(&[])).level, Level::Ok);
        assert_eq!(admin(&with(&[everywhere])).level, Level::Warning);
        assert_eq!(admin(&with(&[everywhere, ("GREENROOM_ADMIN__TOKEN", "short")])).level, Level::Failure);
        assert_eq!(admin(&with(&[everywhere, ("GREENROOM_ADMIN__TOKEN", "0123456789abcdef")])).level, Level::Ok);
    }
}
