//! Two tiny servers of ours: one says what it is told, one speaks HTTP.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::support::{eventually, servers::port};

/// Sends everything back; its address. It lives as long as the test.
pub(crate) fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

/// Says nothing and tells whatever it hears, piece by piece, with nothing at all for the end of a connection.
pub(crate) fn listener() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let say = say.clone();
            thread::spawn(move || {
                let mut buffer = [0; 64 << 10];
                loop {
                    let length = stream.read(&mut buffer).unwrap_or(0);
                    if say.send(buffer[..length].to_vec()).is_err() || length == 0 {
                        return;
                    }
                }
            });
        }
    });
    (address, heard)
}

/// A connection that waits for at most `patience` when it reads.
pub(crate) fn connect(address: &str, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether nothing at all comes within the patience of the connection.
pub(crate) fn silent(stream: &mut TcpStream) -> bool {
    let read = stream.read(&mut [0; 1]);
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// An HTTP server that answers everything with its name, `GET /readyz` too; dies when told to.
pub(crate) struct Node {
    name: &'static str,
    port: u16,
    life: Arc<Life>,
}

/// What is over when it dies.
struct Life {
    dead: AtomicBool,
    ready: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    posts: AtomicU64,
}

impl Node {
    pub(crate) fn start(name: &'static str) -> Self {
        port::started("a node", |port| Self::on(name, port))
    }

    fn on(name: &'static str, port: u16) -> Option<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let life = Life {
            dead: AtomicBool::new(false),
            ready: AtomicBool::new(true),
            open: Mutex::default(),
            posts: AtomicU64::new(0),
        };
        let life = Arc::new(life);
        let shared = life.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut open = shared.open.lock().unwrap();
                if shared.dead.load(Ordering::SeqCst) {
                    break;
                }
                open.push(stream.try_clone().unwrap());
                let life = shared.clone();
                thread::spawn(move || serve(name, stream, &life));
            }
        });
        Some(Self { name, port, life })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many POSTs arrived in whole.
    pub(crate) fn posts(&self) -> u64 {
        self.life.posts.load(Ordering::SeqCst)
    }

    /// Says from now on that it is not ready, but serves.
    pub(crate) fn retire(&self) {
        self.life.ready.store(false, Ordering::SeqCst);
    }

    /// Closes everything and listens no longer.
    pub(crate) fn die(&self) {
        self.life.dead.store(true, Ordering::SeqCst);
        eventually("it to be dead", || TcpStream::connect(self.address()).err());
        for stream in self.life.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lives again, on its port.
    pub(crate) fn revive(&mut self) {
        *self = Self::on(self.name, self.port).expect("its port is free");
    }
}

fn serve(name: &str, stream: TcpStream, life: &Life) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        reader.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
        if head.starts_with("post ") {
            life.posts.fetch_add(1, Ordering::SeqCst);
        }
        let ready = life.ready.load(Ordering::SeqCst) || !head.starts_with("get /readyz ");
        let status = if ready { "200 OK" } else { "503 Service Unavailable" };
        let length = name.len();
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{name}").as_bytes()).ok()?;
    }
}
