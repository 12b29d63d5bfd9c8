//! Messages that a saved commit has touched, read back from the bytes that lie beside its state.
//!
//! Why: an owner may have read a message before the commit that ends it was finished, and must not handle it on the
//! state that holds its effect already. Which messages those are is said by the saved bytes, whoever finished the
//! commit and whichever answer of that was lost.

use super::{
    encode::home,
    pack::{Packer, Unpacker},
};
use crate::backend::Home;

/// What a saved commit ended, deferred or parked, and where each was: the witness first.
pub(super) fn touched(blob: &[u8], witness: u64) -> Vec<(u64, Home)> {
    let read = || {
        let (mut read, mut touched) = (Unpacker::any(blob)?, Vec::new());
        for each in [6, 5, 2] {
            let values = read.nested()?;
            for _ in 0..values / each {
                let number = read.int()? as u64;
                let home = if read.int()? == 0 { Home::Mailbox } else { Home::Deferred };
                touched.push((number, home));
                for _ in 2..each {
                    read.skip()?;
                }
            }
        }
        Some(touched)
    };
    let mut touched = read().unwrap_or_default();
    match touched.iter().position(|(number, _)| *number == witness) {
        Some(at) => touched.swap(0, at),
        None => touched.insert(0, (witness, Home::Mailbox)),
    }
    touched
}

/// Numbers and homes as the functions take them.
pub(super) fn pack_touched(touched: &[(u64, Home)]) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(touched.len() * 2);
    for (number, at) in touched {
        packer.int(*number as i64).int(home(*at));
    }
    packer.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Error,
        backend::{Commit, Deferral, Done, Outcome, cluster::encode},
        envelope::Position,
    };

    #[test]
    fn a_saved_commit_names_what_it_touched() {
        let at = |number| Position::new(3, number);
        let mut commit = Commit::of("thing/a".parse().unwrap(), 5);
        let done = |number, home, outcome| Done {
            position: at(number),
            home,
            outcome,
            size: 10,
            attempts: 1,
            keep: true,
            journal: false,
        };
        commit.done.push(done(7, Home::Deferred, Outcome::Dead(vec![Error::new("no").failure(1, 5)])));
        commit.done.push(done(1 << 40, Home::Mailbox, Outcome::Completed(serde_json::from_str("1").unwrap())));
        commit.deferred.push(Deferral {
            position: at(9),
            home: Home::Mailbox,
            due: 6,
            attempts: 1,
            failures: vec![],
            blocks: true,
        });
        commit.parked.push((at(10), Home::Mailbox));
        let blob = encode::commit(&commit, &[]);
        let expected = [(1 << 40, Home::Mailbox), (7, Home::Deferred), (9, Home::Mailbox), (10, Home::Mailbox)];
        assert_eq!(touched(&blob, 1 << 40), expected);
        assert_eq!(touched(b"what is no commit", 4), [(4, Home::Mailbox)]);
    }
}
