//! Why a call has no answer, and how that is read from what Redis or the connection says.
//!
//! Invariant: [`Fault::Refused`] means that the call did not happen. So only replies are read as refusals
//! that Redis gives before it runs anything; every other one, and any silence, is [`Fault::Unknown`].

use fred::{
    error::{Error as FredError, ErrorKind},
    types::config::Server,
};

use crate::error::Error;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::cluster) enum Fault {
    /// The partition has another owner.
    Stale,
    /// The others have given this node up.
    Lost,
    /// The server has not confirmed the partition, or has lost some of it: it did not happen.
    Cold,
    /// The numbers that were reserved are used up: it did not happen.
    Reserve,
    /// Redis refused it (out of memory, read only, disk full), or cannot be reached: it did not happen.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => f.write_str("another owner has taken over"),
            Self::Lost => f.write_str("the other nodes have given this one up"),
            Self::Cold => {
                f.write_str("Redis may have lost what it had not synced, and the partition is not confirmed yet")
            }
            Self::Reserve => f.write_str("no numbers are reserved for the partition"),
            Self::Refused(why) => write!(f, "Redis refused: {why}"),
            Self::Unknown(why) => write!(f, "Redis did not answer: {why}"),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Stale => Error::terminal(fault.to_string()).code("stale_lease"),
            Fault::Lost => Error::terminal(fault.to_string()).code("node_lost"),
            _ => Error::new(fault.to_string()).code("redis"),
        }
    }
}

/// An error of one attempt, and so what is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It is the answer.
    Finally(Fault),
    /// Another server has the key's slot. It did not happen.
    Moved(u16, String),
    /// It did not happen, and may happen soon: a slot on its way, a server that loads its data.
    Soon(String),
    /// It did not happen, because this server is not the master, or not any more.
    NotMaster(String),
    /// The server does not know the functions. It did not happen.
    NoFunctions,
}

/// What Redis answers before it runs anything, where trying again would change nothing.
const REFUSED: [&str; 15] = [
    "RESIZED",
    "OOM ",
    "NOPERM",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
    "NOSCRIPT",
    "CROSSSLOT",
    "DENIED",
    "NOPROTO",
    "ERR unknown command",
    "ERR wrong number of arguments",
    "ERR max number of clients",
    "ERR Number of keys",
];

/// The same, of what passes.
const SOON: [&str; 4] = ["TRYAGAIN", "ASK ", "LOADING", "BUSY "];

/// The same, of a replica.
const NOT_MASTER: [&str; 2] = ["READONLY", "MASTERDOWN"];

/// What fred says of a command that it never wrote.
const UNSENT: [&str; 3] =
    ["Failed to route command.", "Client is not initialized.", "Failed to send command to router."];

/// Reads an error of a call.
pub(super) fn read(error: &FredError) -> Failed {
    let text = error.details();
    let says = |all: &[&str]| all.iter().any(|start| text.starts_with(start));
    match text.split(' ').next().unwrap_or_default() {
        "STALE" => return Failed::Finally(Fault::Stale),
        "LOST" => return Failed::Finally(Fault::Lost),
        "COLD" => return Failed::Finally(Fault::Cold),
        "RESERVE" => return Failed::Finally(Fault::Reserve),
        _ => {}
    }
    // The same words from the middle of a function, when some of it has happened.
    if text.contains("script: ") {
        return Failed::Finally(Fault::Unknown(text.to_owned()));
    }
    if let Some((slot, server)) = text.strip_prefix("MOVED ").and_then(|rest| rest.split_once(' ')) {
        return match slot.parse() {
            Ok(slot) => Failed::Moved(slot, server.to_owned()),
            Err(_) => Failed::Finally(Fault::Unknown(text.to_owned())),
        };
    }
    if text.contains("Function not found") {
        return Failed::NoFunctions;
    }
    if says(&SOON) || says(&UNSENT) || *error.kind() == ErrorKind::Backpressure {
        return Failed::Soon(text.to_owned());
    }
    if says(&NOT_MASTER) {
        return Failed::NotMaster(text.to_owned());
    }
    if says(&REFUSED) {
        return Failed::Finally(Fault::Refused(text.to_owned()));
    }
    // CLUSTERDOWN too: fred drops the connection over it, and gives that reply to all that was on its way.
    Failed::Finally(Fault::Unknown(error.to_string()))
}

/// The server that `MOVED` names; `from` is the one that said so, and known by the name that is left out.
pub(super) fn server(named: &str, from: &Server) -> Option<Server> {
    let (host, port) = named.rsplit_once(':')?;
    let host = if host.is_empty() || host == "?" { from.host.to_string() } else { host.to_owned() };
    Some(Server::new(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &'static str) -> Failed {
        read(&FredError::new(ErrorKind::Unknown, text))
    }

    #[test]
    fn what_did_not_happen_is_told_from_what_may_have() {
        assert_eq!(reply("STALE another owner"), Failed::Finally(Fault::Stale));
        assert_eq!(reply("COLD it was restarted"), Failed::Finally(Fault::Cold));
        assert_eq!(reply("RESERVE up to 7"), Failed::Finally(Fault::Reserve));
        assert_eq!(reply("MOVED 3999 127.0.0.1:6381"), Failed::Moved(3999, "127.0.0.1:6381".into()));
        for soon in ["TRYAGAIN Multiple keys", "ASK 3999 127.0.0.1:6381", "LOADING Redis is", "BUSY Redis is busy"] {
            assert_eq!(reply(soon), Failed::Soon(soon.into()));
        }
        assert_eq!(reply("ERR Function not found"), Failed::NoFunctions);
        assert!(matches!(reply("READONLY You can't write"), Failed::NotMaster(_)));
        for refused in ["OOM command not allowed", "NOPERM User", "MISCONF Errors writing", "ERR unknown command 'X'"] {
            assert_eq!(reply(refused), Failed::Finally(Fault::Refused(refused.into())));
        }
        for unknown in [
            "CLUSTERDOWN The cluster is down",
            "ERR something new",
            "OVER it is not remembered",
            "WRONGTYPE Operation script: f, on @user_function:3.",
            "OOM command not allowed when used memory > 'maxmemory'. script: f, on @user_function:3.",
        ] {
            assert!(matches!(reply(unknown), Failed::Finally(Fault::Unknown(_))), "{unknown}");
        }
        let cut = read(&FredError::new(ErrorKind::IO, "Connection closed."));
        assert!(matches!(cut, Failed::Finally(Fault::Unknown(_))));
    }

    #[test]
    fn the_server_that_moved_names_may_leave_out_its_host() {
        let from = Server::new("redis-1", 7000);
        assert_eq!(server("10.0.0.2:7001", &from), Some(Server::new("10.0.0.2", 7001)));
        assert_eq!(server(":7001", &from), Some(Server::new("redis-1", 7001)));
        assert_eq!(server("fe80::1:7001", &from), Some(Server::new("fe80::1", 7001)));
        assert_eq!(server("nothing", &from), None);
    }
}
