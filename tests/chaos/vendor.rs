//! The vendor that payments call: a server of this very process, so that it survives every fault. It does
//! a thing once for each idempotency key, and writes down every call.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{command::Call, history::now, support::Random};

/// One of so many calls has no answer, though it was done.
const LOST: u64 = 25;
/// One of so many takes a while: at most so many milliseconds.
const SLOW: u64 = 4;
const SLOWEST: u64 = 400;

/// A call that came.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) call: Call,
    pub(crate) at: i64,
    /// It was not answered, on purpose.
    pub(crate) lost: bool,
}

/// The running vendor.
pub(crate) struct Vendor {
    address: String,
    books: Arc<Mutex<Books>>,
}

struct Books {
    random: Random,
    calls: Vec<Called>,
    /// What was done under each key: its receipt.
    receipts: HashMap<String, usize>,
}

impl Vendor {
    pub(crate) fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it listens").to_string();
        let random = Random::seeded(seed ^ 0x5e11);
        let books = Arc::new(Mutex::new(Books { random, calls: Vec::new(), receipts: HashMap::new() }));
        let shared = books.clone();
        // It ends with the process, as vendors do not end at all.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let books = shared.clone();
                // A caller that was killed does not hear the answer.
                thread::spawn(move || _ = serve(stream, &books));
            }
        });
        Self { address, books }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Every call so far, in the order in which they came.
    pub(crate) fn calls(&self) -> Vec<Called> {
        self.books.lock().unwrap().calls.clone()
    }
}

/// Does what is asked, and answers with the receipt.
fn serve(mut stream: TcpStream, books: &Mutex<Books>) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    // One that was killed in the middle of a line has not asked for anything.
    let Ok(call) = serde_json::from_str::<Call>(&line) else { return Ok(()) };
    let (receipt, lost, slow) = {
        let mut books = books.lock().unwrap();
        let lost = books.random.below(LOST) == 0;
        let slow = if books.random.below(SLOW) == 0 { books.random.below(SLOWEST) } else { 0 };
        let next = books.receipts.len();
        let receipt = *books.receipts.entry(call.key.clone()).or_insert(next);
        books.calls.push(Called { call, at: now(), lost });
        (receipt, lost, slow)
    };
    thread::sleep(Duration::from_millis(slow));
    if lost { Ok(()) } else { stream.write_all(format!("{receipt}\n").as_bytes()) }
}
