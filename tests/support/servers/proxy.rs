//! A TCP proxy that does what networks do: cut connections, refuse them, be slow, be silent, in one direction
//! or in both.

mod pump;

use std::{
    collections::{HashMap, HashSet},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use super::{super::eventually, port};

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What clients ask.
    ToServer,
    /// What they are answered.
    ToClient,
}

/// A proxy in front of one server, on loopback; gone when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    upstream: String,
    mode: Mode,
    /// How much later whatever arrives leaves: to the server, to the client.
    delay: [Duration; 2],
    /// The direction in which everything is thrown away.
    lossy: Option<Way>,
    /// A request of at least so many bytes is cut in its middle.
    large: Option<usize>,
    /// With such words a client makes its connection one of those that suffer; without any all do.
    words: &'static [&'static str],
    suffering: HashSet<u64>,
    /// The connections that have lost something: they are of no use any more.
    robbed: HashSet<u64>,
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
        let state = State {
            upstream: upstream.to_owned(),
            mode: Mode::Open,
            delay: [Duration::ZERO; 2],
            lossy: None,
            large: None,
            words: &[],
            suffering: HashSet::new(),
            robbed: HashSet::new(),
            listener: 0,
            open: HashMap::new(),
            accepted: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
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

    /// Closes all connections that suffer, with whatever is on its way in them, and takes new ones.
    pub fn hang_up(&self) {
        let mut state = self.shared.lock();
        let open: Vec<u64> = state.open.keys().copied().filter(|connection| state.suffers(*connection)).collect();
        open.into_iter().for_each(|connection| state.close(connection));
        self.shared.changed.notify_all();
    }

    /// Until it is healed only connections on which one of these words was said from now on are slow, lossy or
    /// hung up: such as those that write.
    pub fn only(&self, words: &'static [&'static str]) {
        let mut state = self.shared.lock();
        state.words = words;
        state.suffering.clear();
    }

    /// Takes connections and forwards, at once, after [`cut`](Self::cut), [`stall`](Self::stall) and all else;
    /// what was held back arrives now. Connections that lost something are closed.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        if state.mode == Mode::Cut {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("its port is free again");
            listen(self.shared.clone(), listener, state.listener);
        }
        state.mode = Mode::Open;
        state.delay = [Duration::ZERO; 2];
        (state.lossy, state.large) = (None, None);
        for connection in std::mem::take(&mut state.robbed) {
            state.close(connection);
        }
        state.words = &[];
        state.suffering.clear();
        self.shared.changed.notify_all();
    }

    /// Whatever arrives from now on leaves later, in both directions. The bandwidth stays.
    pub fn delay(&self, each_way: Duration) {
        self.shared.lock().delay = [each_way; 2];
    }

    /// The same in one direction.
    pub fn delay_one(&self, way: Way, by: Duration) {
        self.shared.lock().delay[way as usize] = by;
    }

    /// Throws away whatever would leave in this direction from now on. The connections stay until it is healed:
    /// only then do those that lost something end.
    pub fn lose(&self, way: Way) {
        self.shared.lock().lossy = Some(way);
    }

    /// Whenever a client sends at least so many bytes at once, the server gets half of them and the connection
    /// is closed. At most 64 KiB can be one piece.
    pub fn cut_large(&self, least: usize) {
        self.shared.lock().large = Some(least.max(2));
    }

    /// Connects new clients with this server instead. Whoever is connected stays where it is.
    pub fn lead_to(&self, upstream: &str) {
        self.shared.lock().upstream = upstream.to_owned();
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
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter().for_each(|connection| self.close(connection));
        self.robbed.clear();
    }

    /// Whether what is wrong is wrong with this connection.
    fn suffers(&self, connection: u64) -> bool {
        self.words.is_empty() || self.suffering.contains(&connection)
    }

    /// Notes what a client said.
    fn heard(&mut self, connection: u64, bytes: &[u8]) {
        let says = |word: &&str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        if !self.words.is_empty() && !self.suffering.contains(&connection) && self.words.iter().any(says) {
            self.suffering.insert(connection);
        }
    }

    fn close(&mut self, connection: u64) {
        for end in self.open.remove(&connection).into_iter().flatten() {
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
    let upstream = shared.lock().upstream.clone();
    let Some(server) = server(&upstream) else { return };
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
    pump::start(shared.clone(), connection, both.clone(), Way::ToServer, from_client, to_server);
    pump::start(shared.clone(), connection, both, Way::ToClient, from_server, to_client);
}

fn server(upstream: &str) -> Option<TcpStream> {
    let address: SocketAddr = upstream.parse().expect("an address such as 127.0.0.1:7001");
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()
}
