//! A web server that takes webhooks: it records each request in full before it answers as it was told.

use super::program::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The secret that [`Receiver::table`] configures.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Request {
    /// The stable id of the message.
    pub fn webhook_id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The body.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What the server says to a request.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: String,
    body: String,
    delay: Duration,
    hangs_up: bool,
}

impl Reply {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        let (headers, body) = (String::new(), String::new());
        Self { status, headers, body, delay: Duration::ZERO, hangs_up: false }
    }

    /// No answer: the connection is closed after the request was read.
    pub fn hang_up() -> Self {
        Self { hangs_up: true, ..Self::status(0) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// Answers only after this time.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Answer = dyn Fn(usize, &Request) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    /// How long it works before it has taken a request.
    work: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    connections: usize,
    accepted: usize,
    closing: bool,
}

/// A running server. It ends when this value is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts a server. `answer` gets the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_working(Duration::ZERO, answer)
    }

    /// The same for one that works so long before it has taken a request. What a client breaks off before then never
    /// happened.
    pub fn start_working(
        work: Duration,
        answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { answer: Box::new(answer), work, state, changed });
        let inside = Arc::clone(&shared);
        std::thread::spawn(move || inside.accept(&listener));
        Self { address, shared }
    }

    /// A server that accepts everything.
    pub fn accepting() -> Self {
        Self::start(|_, _| Reply::status(200))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The configuration of a channel that sends here.
    pub fn table(&self, channel_type: &str) -> String {
        format!(
            "[channels.\"{channel_type}\"]\nkind = \"webhook\"\nurl = \"{}\"\n\
             secret = \"{SECRET}\"\nallow_private = true\n",
            self.url()
        )
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// Waits until there are so many requests, and returns them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        assert!(self.has_within(count, PATIENCE), "{} of {count} requests in time", self.count());
        self.requests()
    }

    /// Whether there are so many requests within this time.
    pub fn has_within(&self, count: usize, patience: Duration) -> bool {
        let waiting = |state: &mut State| state.requests.len() < count;
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.requests.len() >= count
    }

    /// Waits until everything that a killed client had sent has been read.
    #[track_caller]
    pub fn wait_until_unconnected(&self) {
        // Connections are accepted in order: when this one is, all earlier ones are known.
        let before = self.shared.lock().accepted;
        drop(TcpStream::connect(self.address).expect("the server listens"));
        let waiting = |state: &mut State| state.accepted <= before || state.connections > 0;
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!(state.connections, 0, "connections that stayed open");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        // The accepting thread sees the mark.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let mut state = self.lock();
            if state.closing {
                return;
            }
            state.accepted += 1;
            state.connections += 1;
            drop(state);
            let inside = Arc::clone(self);
            std::thread::spawn(move || {
                // A client that breaks off is what is being tested.
                let _ = inside.serve(&stream);
                inside.lock().connections -= 1;
                inside.changed.notify_all();
            });
        }
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            if !self.work.is_zero() && is_broken_off_within(stream, self.work)? {
                return Ok(());
            }
            let mut state = self.lock();
            let number = state.requests.len();
            let reply = (self.answer)(number, &request);
            state.requests.push(request);
            self.changed.notify_all();
            let until = Instant::now() + reply.delay;
            while !state.closing && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(state);
            if reply.hangs_up {
                return Ok(());
            }
            let Reply { status, headers, body, .. } = reply;
            let length = body.len();
            let text = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {length}\r\n\r\n{body}");
            (&mut &*stream).write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

/// Whether the client, which has nothing more to say before it has an answer, breaks off within this time.
fn is_broken_off_within(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(time).expect("a short time");
    let events = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout))?;
    Ok(events > 0)
}

/// None at the end of the connection, and for what is cut off: nobody has accepted that.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { headers, body, at: Instant::now() }))
}
