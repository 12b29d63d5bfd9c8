//! One direction of one connection: a thread that reads and one that writes, with what the proxy does to the
//! bytes between them.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Shared, Way};

/// How much is on its way in one direction before the sender has to wait: chunks of this size …
const CHUNK: usize = 64 << 10;
/// … and so many of them.
const CHUNKS: usize = 64;

/// Which direction of which connection.
struct Pump {
    shared: Arc<Shared>,
    connection: u64,
    way: Way,
}

/// Starts both threads: one reads and notes when it is due, one writes when it is.
pub(super) fn start(shared: Arc<Shared>, connection: u64, both: Arc<()>, way: Way, from: TcpStream, to: TcpStream) {
    let (read, due) = mpsc::sync_channel(CHUNKS);
    let pump = Arc::new(Pump { shared, connection, way });
    let reader = pump.clone();
    thread::spawn(move || reader.read_all(from, &read));
    thread::spawn(move || {
        pump.write_all(&to, &due);
        // The second of the two finds itself alone.
        if Arc::into_inner(both).is_some() {
            pump.shared.lock().close(connection);
        }
    });
}

/// What becomes of a chunk.
enum Fate {
    Forwarded,
    Lost,
    /// So much of it arrives, and nothing after it.
    Cut(usize),
}

impl Pump {
    fn read_all(&self, mut from: TcpStream, read: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let mut state = self.shared.lock();
            if self.way == Way::ToServer {
                state.heard(self.connection, &buffer[..length]);
            }
            let delay = if state.suffers(self.connection) { state.delay[self.way as usize] } else { Duration::ZERO };
            drop(state);
            // Nothing at all stands for the end.
            if read.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() || length == 0 {
                return;
            }
        }
    }

    fn write_all(&self, mut to: &TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
        while let Ok((due, bytes)) = due.recv() {
            if !self.shared.wait(self.connection, due) {
                return;
            }
            if bytes.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let (part, on) = match self.fate(bytes.len()) {
                Fate::Forwarded => (bytes.len(), true),
                Fate::Lost => (0, true),
                Fate::Cut(at) => (at, false),
            };
            if to.write_all(&bytes[..part]).is_err() {
                // What it would answer is lost as well.
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            if !on {
                return self.shared.lock().close(self.connection);
            }
        }
    }

    fn fate(&self, length: usize) -> Fate {
        let mut state = self.shared.lock();
        // A connection that has lost something carries nothing more in this direction.
        if state.lossy == Some(self.way) && state.suffers(self.connection) {
            state.robbed.insert(self.connection);
            return Fate::Lost;
        }
        match state.large {
            Some(least) if self.way == Way::ToServer && length >= least => Fate::Cut(length / 2),
            _ => Fate::Forwarded,
        }
    }
}
