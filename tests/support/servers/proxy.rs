//! A TCP proxy that does what networks do: cut connections, refuse them, be slow, be silent.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{super::eventually, port};

/// How much is on its way in one direction before the sender has to wait: chunks of this size …
const CHUNK: usize = 64 << 10;
/// … and so many of them.
const CHUNKS: usize = 64;

/// A proxy in front of one server, on loopback; gone when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    delay: Duration,
    /// Whoever listens while this is another number stops: each [`Proxy::heal`] listens anew.
    listener: u64,
    /// Both ends of every open connection.
    open: HashMap<u64, [TcpStream; 2]>,
    accepted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Cut,
}

impl Proxy {
    /// Listens in front of `upstream`, such as `127.0.0.1:7001`.
    pub fn start(upstream: &str) -> Self {
        let state = State { mode: Mode::Open, delay: Duration::ZERO, listener: 0, open: HashMap::new(), accepted: 0 };
        let shared = Shared { upstream: upstream.to_owned(), state: Mutex::new(state), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let port = port::started("a proxy", |port| {
            let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
            listen(shared.clone(), listener, 0);
            Some(port)
        });
        Self { shared, port }
    }

    /// Its port, the same however often it is cut.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Such as `127.0.0.1:7002`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address as a URL, such as `url("redis")` for `redis://127.0.0.1:7002`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address())
    }

    /// How many connections it took.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Closes all connections, with whatever is on its way in them, and refuses new ones.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        if state.mode != Mode::Cut {
            state.listener += 1;
            state.mode = Mode::Cut;
        }
        state.close_all();
        self.shared.changed.notify_all();
        drop(state);
        // Whoever listens wakes up, sees that it is over and closes; then nothing answers here.
        eventually("the proxy to refuse", || TcpStream::connect(("127.0.0.1", self.port)).err());
    }

    /// Takes connections and forwards, at once, after [`cut`](Self::cut) or [`stall`](Self::stall);
    /// what was held back arrives now.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        if state.mode == Mode::Cut {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("its port is free again");
            listen(self.shared.clone(), listener, state.listener);
        }
        state.mode = Mode::Open;
        state.delay = Duration::ZERO;
        self.shared.changed.notify_all();
    }

    /// Whatever arrives from now on leaves later, in both directions. The bandwidth stays.
    pub fn delay(&self, each_way: Duration) {
        self.shared.lock().delay = each_way;
    }

    /// Keeps all connections, takes new ones, and forwards nothing, as a network that swallows.
    pub fn stall(&self) {
        let mut state = self.shared.lock();
        assert!(state.mode != Mode::Cut, "it is cut: heal it first");
        state.mode = Mode::Stalled;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    /// Waits until `due`, and until nothing is stalled; `false` once the connection is cut.
    fn wait(&self, connection: u64, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if !state.open.contains_key(&connection) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if state.mode == Mode::Stalled {
                state = self.changed.wait(state).expect("nothing panics with it");
            } else if !left.is_zero() {
                state = self.changed.wait_timeout(state, left).expect("nothing panics with it").0;
            } else {
                return true;
            }
        }
    }
}

impl State {
    fn close_all(&mut self) {
        for end in self.open.drain().flat_map(|(_, ends)| ends) {
            // It may be closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Takes connections until another listener is due.
fn listen(shared: Arc<Shared>, listener: TcpListener, turn: u64) {
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if shared.lock().listener != turn {
                break;
            }
            connect(&shared, client, turn);
        }
    });
}

/// Connects a client with the server; closes it when the server cannot be reached.
fn connect(shared: &Arc<Shared>, client: TcpStream, turn: u64) {
    let Some(server) = server(&shared.upstream) else { return };
    let both = |stream: &TcpStream| {
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>((stream.try_clone()?, stream.try_clone()?))
    };
    let (Ok((from_client, to_client)), Ok((from_server, to_server))) = (both(&client), both(&server)) else { return };
    let mut state = shared.lock();
    if state.listener != turn {
        return;
    }
    state.accepted += 1;
    let connection = state.accepted;
    state.open.insert(connection, [client, server]);
    drop(state);
    // A connection is over when both of its directions are.
    let both = Arc::new(());
    pump(shared.clone(), connection, both.clone(), from_client, to_server);
    pump(shared.clone(), connection, both, from_server, to_client);
}

fn server(upstream: &str) -> Option<TcpStream> {
    let address: SocketAddr = upstream.parse().expect("an address such as 127.0.0.1:7001");
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()
}

/// One direction: one thread reads and notes when it is due, one writes when it is.
fn pump(shared: Arc<Shared>, connection: u64, both: Arc<()>, from: TcpStream, to: TcpStream) {
    let (read, due) = mpsc::sync_channel(CHUNKS);
    let reader = shared.clone();
    thread::spawn(move || read_all(&reader, from, &read));
    thread::spawn(move || {
        write_all(&shared, connection, &to, &due);
        // Whoever is second finds itself alone.
        if Arc::into_inner(both).is_some() {
            let ends = shared.lock().open.remove(&connection);
            for end in ends.into_iter().flatten() {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    });
}

fn read_all(shared: &Shared, mut from: TcpStream, read: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + shared.lock().delay;
        // Nothing at all stands for the end.
        if read.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

fn write_all(shared: &Shared, connection: u64, mut to: &TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = due.recv() {
        if !shared.wait(connection, due) {
            return;
        }
        if bytes.is_empty() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if to.write_all(&bytes).is_err() {
            // What it would answer is lost as well.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
