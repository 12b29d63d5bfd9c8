//! The clients' own history: a file that the server knows nothing of. A line is written before a
//! request is first sent, and another when its `202` arrived.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::Mutex,
};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// Step `step` of order number `order` is about to be sent.
    Sent { order: u64, step: usize },
    /// It was promised, as request `request`; the order is called `id`.
    Promised { order: u64, step: usize, request: String, id: String },
}

/// The file, while it is written.
pub(super) struct History {
    file: Mutex<BufWriter<File>>,
}

impl History {
    pub(super) fn create(path: &Path) -> Self {
        Self { file: Mutex::new(BufWriter::new(File::create(path).expect("a file"))) }
    }

    pub(super) fn write(&self, event: &Event) {
        let mut file = self.file.lock().unwrap();
        serde_json::to_writer(&mut *file, event).expect("written");
        file.write_all(b"\n").expect("written");
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.file.get_mut().unwrap().flush().expect("written");
    }
}

/// The file, when all is over.
pub(super) fn read(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).expect("the history");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the history")).collect()
}
