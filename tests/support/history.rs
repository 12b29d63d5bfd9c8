//! The clients' own notes: a file that no server knows of, a line of JSON for each event.

use std::{
    fs::File,
    io::{BufWriter, Write},
    marker::PhantomData,
    path::Path,
    sync::Mutex,
};

use serde::{Serialize, de::DeserializeOwned};

/// The file, while it is written.
pub struct History<E> {
    file: Mutex<BufWriter<File>>,
    event: PhantomData<fn(E)>,
}

impl<E: Serialize> History<E> {
    pub fn create(path: &Path) -> Self {
        let file = Mutex::new(BufWriter::new(File::create(path).expect("a file")));
        Self { file, event: PhantomData }
    }

    pub fn write(&self, event: &E) {
        let mut file = self.file.lock().unwrap();
        serde_json::to_writer(&mut *file, event).expect("written");
        file.write_all(b"\n").expect("written");
    }
}

impl<E> Drop for History<E> {
    fn drop(&mut self) {
        self.file.get_mut().unwrap().flush().expect("written");
    }
}

/// The file, when all is over.
pub fn read<E: DeserializeOwned>(path: &Path) -> Vec<E> {
    let text = std::fs::read_to_string(path).expect("the history");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the history")).collect()
}
