//! What Redis functions are given and what they stored: MessagePack, which Lua reads and writes
//! natively. Written bytes are strings, as Lua's are: any bytes.

use rmp::{
    decode,
    encode::{self, ByteBuf},
};

/// Writes values one after the other. Writing to memory cannot fail, so results are not looked at.
#[derive(Default)]
pub(super) struct Packer(ByteBuf);

impl Packer {
    /// An array of `len` values, which follow.
    pub(super) fn array(&mut self, len: usize) -> &mut Self {
        let _ = encode::write_array_len(&mut self.0, len as u32);
        self
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        let _ = encode::write_sint(&mut self.0, value);
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let _ = encode::write_str_len(&mut self.0, value.len() as u32);
        self.0.as_mut_vec().extend_from_slice(value);
        self
    }

    /// Lua's `false`: nothing here.
    pub(super) fn nothing(&mut self) -> &mut Self {
        let _ = encode::write_bool(&mut self.0, false);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

/// Reads an array that Lua packed, value by value; `None` where it is not what was asked for.
pub(super) struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// Opens an array of `len` values.
    pub(super) fn array(mut bytes: &'a [u8], len: u32) -> Option<Self> {
        let found = decode::read_array_len(&mut bytes).ok()?;
        (found == len).then_some(Self(bytes))
    }

    /// Opens an array of any length.
    pub(super) fn any(mut bytes: &'a [u8]) -> Option<Self> {
        decode::read_array_len(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Goes into an array inside; how many values it has.
    pub(super) fn nested(&mut self) -> Option<u32> {
        decode::read_array_len(&mut self.0).ok()
    }

    /// Passes a number, bytes or nothing over.
    pub(super) fn skip(&mut self) -> Option<()> {
        let before = self.0;
        if self.int().is_some() {
            return Some(());
        }
        self.0 = before;
        if self.bytes().is_some() {
            return Some(());
        }
        self.0 = before;
        decode::read_bool(&mut self.0).ok().map(drop)
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        // Lua's numbers are floating; those beyond its integers are written as such.
        let before = self.0;
        if let Ok(value) = decode::read_int::<i64, _>(&mut self.0) {
            return Some(value);
        }
        self.0 = before;
        decode::read_f64(&mut self.0).ok().map(|value| value as i64)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = decode::read_str_len(&mut self.0).ok()? as usize;
        let (value, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut packer = Packer::default();
        packer.array(3).int(1_767_225_600_000).bytes(b"\xff\x00").bytes(b"text");
        let bytes = packer.done();
        let mut read = Unpacker::array(&bytes, 3).unwrap();
        assert_eq!(read.int(), Some(1_767_225_600_000));
        assert_eq!(read.bytes(), Some(b"\xff\x00".as_slice()));
        assert_eq!(read.text(), Some("text"));
        assert_eq!(read.int(), None);
        assert!(Unpacker::array(&bytes, 2).is_none());
    }
}
