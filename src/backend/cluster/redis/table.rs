//! Which server of a cluster has which slots: the answer of `CLUSTER SLOTS`, read.

use fred::types::{Value, config::Server};

use super::{int, list};

/// How many slots a cluster has.
const SLOTS: usize = 16_384;
/// In a table: the slot has no server.
const NONE: u16 = u16::MAX;

/// The masters, and which of them has each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    servers: Vec<Server>,
    slots: Box<[u16]>,
}

impl Table {
    /// Reads the answer of a server; one that names no host means that one. `None` when it knows no slots.
    pub(super) fn read(answer: Value, from: &Server) -> Option<Self> {
        let mut table = Self { servers: Vec::new(), slots: vec![NONE; SLOTS].into() };
        for range in list(answer) {
            let mut parts = list(range).into_iter();
            let (first, last) = (int(&parts.next()?), int(&parts.next()?));
            let mut master = list(parts.next()?).into_iter();
            let host = master.next().and_then(|host| host.as_string()).filter(|host| !host.is_empty() && host != "?");
            let port = u16::try_from(int(&master.next()?)).ok()?;
            let server = Server::new(host.unwrap_or_else(|| from.host.to_string()), port);
            let index = table.index(server);
            let range = usize::try_from(first).ok()?..=usize::try_from(last).ok()?;
            table.slots.get_mut(range)?.fill(index);
        }
        (!table.servers.is_empty()).then_some(table)
    }

    fn index(&mut self, server: Server) -> u16 {
        let index = self.servers.iter().position(|other| *other == server).unwrap_or_else(|| {
            self.servers.push(server);
            self.servers.len() - 1
        });
        // There are no more servers than slots.
        index as u16
    }

    /// Says that a slot is at a server, which may be a new one.
    pub(super) fn moved(&mut self, slot: u16, server: Server) {
        let index = self.index(server);
        if let Some(at) = self.slots.get_mut(usize::from(slot)) {
            *at = index;
        }
    }

    /// The masters.
    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Which of them has a slot.
    pub(super) fn at(&self, slot: u16) -> Option<usize> {
        self.slots.get(usize::from(slot)).copied().filter(|index| *index != NONE).map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &'static str, port: i64) -> Value {
        let master = vec![Value::from(host), Value::from(port), Value::from("id")];
        Value::Array(vec![Value::from(first), Value::from(last), Value::Array(master)])
    }

    #[test]
    fn each_slot_has_the_server_that_the_cluster_names() {
        let answer = Value::Array(vec![range(0, 99, "a", 1), range(100, 199, "", 2), range(200, 16_383, "a", 1)]);
        let mut table = Table::read(answer, &Server::new("asked", 9)).unwrap();
        assert_eq!(table.servers(), [Server::new("a", 1), Server::new("asked", 2)]);
        assert_eq!([0, 99, 100, 199, 200, 16_383].map(|slot| table.at(slot).unwrap()), [0, 0, 1, 1, 0, 0]);
        table.moved(99, Server::new("new", 3));
        assert_eq!([98, 99, 100].map(|slot| table.at(slot).unwrap()), [0, 2, 1]);
    }

    #[test]
    fn a_slot_without_a_server_has_none_and_an_empty_answer_is_no_table() {
        let table = Table::read(Value::Array(vec![range(5, 6, "a", 1)]), &Server::new("a", 1)).unwrap();
        assert_eq!((table.at(4), table.at(5), table.at(7)), (None, Some(0), None));
        assert_eq!(Table::read(Value::Array(vec![]), &Server::new("a", 1)), None);
        assert_eq!(Table::read(Value::Array(vec![range(0, 16_384, "a", 1)]), &Server::new("a", 1)), None);
    }
}
