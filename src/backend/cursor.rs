//! Where a page of a query ended, as text that a client gives back to go on. Opaque to clients, so
//! each backend reads only what it wrote.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    query::Value,
};

/// Where a page ended: the sort value and the key of its last row.
#[derive(Serialize, Deserialize)]
pub(super) struct Cursor(pub(super) Value, pub(super) String);

impl Cursor {
    pub(super) fn write(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        json.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn read(text: &str) -> Result<Self> {
        let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
            Error::terminal("the cursor is none of ours: use the one of the page before").code("bad_cursor")
        })
    }
}
