//! Messages as they lie in Redis, read: where each is says how.

use std::sync::Arc;

use fred::types::Value;

use super::{
    pack::{Packer, Unpacker},
    redis::{int, raw},
};
use crate::{
    address::Address,
    backend::{Dead, Home, Stored, message::Undecodable},
    envelope::{Envelope, Position},
};

fn envelope(bytes: &[u8]) -> Result<Arc<Envelope>, Undecodable> {
    serde_json::from_slice(bytes)
        .map(Arc::new)
        .map_err(|e| Undecodable { reason: format!("the stored bytes are no envelope: {e}"), bytes: bytes.to_vec() })
}

/// A message in the mailbox.
pub(super) fn fresh(position: Position, bytes: &[u8], attempts: u32) -> Stored {
    Stored {
        position,
        envelope: envelope(bytes),
        home: Home::Mailbox,
        size: bytes.len(),
        attempts,
        failures: Vec::new(),
        due: 0,
        parked: false,
    }
}

/// Number and envelope, repeated. What cannot be read is a message that cannot be read.
pub(super) fn letters(partition: u16, values: &[Value], attempts: impl Fn(u64) -> u32) -> Vec<Stored> {
    let one = |pair: &[Value]| {
        let number = int(&pair[0]) as u64;
        fresh(Position::new(partition, number), &raw(pair[1].clone()), attempts(number))
    };
    values.chunks_exact(2).map(one).collect()
}

/// A deferred message: `{due parked kind key failures envelope}`.
pub(super) fn deferred(position: Position, record: &[u8], attempts: i64) -> Stored {
    let fields = || {
        let mut read = Unpacker::array(record, 6)?;
        let (due, parked) = (read.int()?, read.int()?);
        let (_kind, _key) = (read.bytes()?, read.bytes()?);
        Some((due, parked, read.bytes()?, read.bytes()?))
    };
    // A record that cannot be read is a message that cannot be read.
    let (due, parked, causes, bytes) = fields().unwrap_or((0, 1, b"", record));
    Stored {
        position,
        envelope: envelope(bytes),
        home: Home::Deferred,
        size: bytes.len(),
        attempts: attempts as u32,
        failures: serde_json::from_slice(causes).unwrap_or_default(),
        due,
        parked: parked == 1,
    }
}

/// Digits of the longest number of a message.
const DIGITS: u32 = 15;

/// Numbers as a sorted set orders members of equal scores: digit by digit, a shorter one before those that
/// begin with it.
pub(super) fn tie(number: u64) -> u64 {
    let length = number.checked_ilog10().map_or(1, |log| log + 1).min(DIGITS);
    (number * 10u64.pow(DIGITS - length)) * 16 + u64::from(length)
}

/// The digits of such a number.
pub(super) fn tied(tie: u64) -> String {
    let length = (tie % 16) as usize;
    format!("{:015}", tie / 16).chars().take(length).collect()
}

/// A dead letter with its kind and key: `{died attempts kind key failures envelope}`.
pub(super) fn dead(position: Position, record: &[u8]) -> Option<(Dead, String, String)> {
    let mut read = Unpacker::array(record, 6)?;
    let (died, attempts) = (read.int()?, read.int()?);
    let (kind, key) = (read.text()?.to_owned(), read.text()?.to_owned());
    let (causes, bytes) = (read.bytes()?, read.bytes()?);
    let (found, text) = match envelope(bytes) {
        Ok(envelope) => (Some((*envelope).clone()), None),
        Err(_) => (None, Some(String::from_utf8_lossy(bytes).into_owned())),
    };
    let dead = Dead {
        position,
        envelope: found,
        raw: text,
        attempts: attempts as u32,
        failures: serde_json::from_slice(causes).unwrap_or_default(),
        died,
    };
    Some((dead, kind, key))
}

/// Whom a deferred message or a dead letter is for; `None` when the record does not say.
pub(super) fn addressee(record: &[u8]) -> Option<Address> {
    let mut read = Unpacker::array(record, 6)?;
    let (_time, _count) = (read.int()?, read.int()?);
    Address::new(read.text()?, read.text()?).ok()
}

/// Whom a message in the mailbox is for; `None` when it cannot be read.
pub(super) fn receiver(bytes: &[u8]) -> Option<Address> {
    Some(envelope(bytes).ok()?.to.clone())
}

/// A deferred message without an address, due at once: a record that cannot be read becomes one when it moves.
pub(super) fn unreadable(record: &[u8]) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(6).int(1).int(0).bytes(b"").bytes(b"").bytes(b"").bytes(record);
    packer.done()
}

/// Whom an idempotency key was used for: `{fingerprint number answer expires address partition?}`.
pub(super) fn used_for(record: &[u8]) -> Option<Address> {
    let mut read = Unpacker::array(record, 5).or_else(|| Unpacker::array(record, 6))?;
    let (_fingerprint, _number, _answer, _expires) = (read.bytes()?, read.int()?, read.bytes()?, read.int()?);
    read.text()?.parse().ok()
}

/// Number, record and attempts, repeated.
pub(super) fn deferreds(partition: u16, values: &[Value]) -> Vec<Stored> {
    let one = |three: &[Value]| {
        let record = raw(three[1].clone());
        deferred(Position::new(partition, int(&three[0]) as u64), &record, int(&three[2]))
    };
    // A record that is gone was ended between two looks of the function: there is none such.
    values.chunks_exact(3).filter(|three| !three[1].is_null()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_tied_in_the_order_of_their_digits() {
        let mut numbers: Vec<u64> = vec![9, 10, 1, 100, 99, 2, 281_474_976_710_655, 28, 281_474_976_710_656];
        numbers.sort_by_key(|number| tie(*number));
        let mut digits: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        digits.sort();
        assert_eq!(numbers.iter().map(ToString::to_string).collect::<Vec<_>>(), digits);
        assert_eq!(numbers.iter().map(|number| tied(tie(*number))).collect::<Vec<_>>(), digits);
    }
}
