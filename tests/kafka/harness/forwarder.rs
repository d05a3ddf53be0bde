//! A TCP forwarder that understands Kafka's framing: it can hold, delay or cut the traffic of each
//! direction, lose the answer to a chosen kind of request, or keep such a request and let it
//! arrive late.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wait::now;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToBroker,
    ToClient,
}

/// What happens to the frames of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Passed on at once.
    Pass,
    /// Kept until the traffic is passed again.
    Hold,
    /// Passed on after this long.
    Delay(Duration),
}

/// Forwards one port to another until dropped.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    port: u16,
    upstream: u16,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    to_broker: Traffic,
    to_client: Traffic,
    /// After a request with this API key, answers are held.
    hold_answers_after: Option<i16>,
    /// Number of requests seen that matched `hold_answers_after`.
    matched: usize,
    /// The next request with this API key is kept.
    keep: Option<i16>,
    kept: Option<Vec<u8>>,
    /// Connections older than this epoch are closed.
    epoch: u64,
    refuse: bool,
    stopped: bool,
}

impl Forwarder {
    /// Listens on `port` and connects to `upstream`, both of 127.0.0.1.
    pub(crate) fn start(port: u16, upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port was set aside");
        let state = State {
            to_broker: Traffic::Pass,
            to_client: Traffic::Pass,
            hold_answers_after: None,
            matched: 0,
            keep: None,
            kept: None,
            epoch: 0,
            refuse: false,
            stopped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, upstream, &own));
        Self { shared, port, upstream }
    }

    /// Sets what happens to the frames of one direction from now on.
    pub(crate) fn set(&self, direction: Direction, traffic: Traffic) {
        self.shared.change(|state| match direction {
            Direction::ToBroker => state.to_broker = traffic,
            Direction::ToClient => state.to_client = traffic,
        });
    }

    /// Holds every answer from the moment the next request with `api_key` has passed.
    pub(crate) fn hold_answers_after(&self, api_key: i16) {
        self.shared.change(|state| {
            state.hold_answers_after = Some(api_key);
            state.matched = 0;
        });
    }

    /// Whether the request [`Forwarder::hold_answers_after`] waits for has passed.
    pub(crate) fn has_matched(&self) -> bool {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).matched > 0
    }

    /// Takes the next request with `api_key` out of its connection, whose other traffic passes.
    pub(crate) fn keep_next(&self, api_key: i16) {
        self.shared.change(|state| (state.keep, state.kept) = (Some(api_key), None));
    }

    /// The request that was kept, with its length.
    pub(crate) fn take_kept(&self) -> Vec<u8> {
        let mut kept = None;
        self.shared.change(|state| kept = state.kept.take());
        kept.expect("a request was kept")
    }

    /// Sends a request on a connection of its own, and gives the broker's answer.
    pub(crate) fn deliver(&self, request: &[u8]) -> Vec<u8> {
        let mut broker = TcpStream::connect(("127.0.0.1", self.upstream)).expect("it listens");
        broker.write_all(request).expect("it takes requests");
        read_frame(&mut broker).expect("it answers")
    }

    /// Closes every connection (what is held is lost) and refuses new ones.
    pub(crate) fn cut(&self) {
        self.shared.change(|state| {
            state.epoch += 1;
            state.refuse = true;
        });
    }

    /// Passes everything again, on old and new connections.
    pub(crate) fn restore(&self) {
        self.shared.change(|state| {
            state.to_broker = Traffic::Pass;
            state.to_client = Traffic::Pass;
            state.hold_answers_after = None;
            state.refuse = false;
        });
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.epoch += 1;
        });
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until a frame of `direction` that came at `arrived` may pass; `false` when its
    /// connection is to be closed.
    fn admit(&self, direction: Direction, epoch: u64, arrived: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.epoch != epoch {
                return false;
            }
            let traffic = match direction {
                Direction::ToBroker => state.to_broker,
                Direction::ToClient => state.to_client,
            };
            match traffic {
                Traffic::Pass => return true,
                Traffic::Hold => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Traffic::Delay(time) => {
                    let left = (arrived + time).saturating_duration_since(now());
                    let waited =
                        self.changed.wait_timeout_while(state, left, |state| state.epoch == epoch);
                    return waited.unwrap_or_else(PoisonError::into_inner).0.epoch == epoch;
                }
            }
        }
    }

    /// Whether a request passes, or is kept.
    fn passes(&self, frame: &[u8]) -> bool {
        let Some(&[high, low]) = frame.get(4..6) else { return true };
        let api_key = Some(i16::from_be_bytes([high, low]));
        let mut passes = true;
        self.change(|state| {
            if state.hold_answers_after == api_key {
                state.matched += 1;
                state.to_client = Traffic::Hold;
            }
            if state.keep == api_key {
                (state.keep, state.kept) = (None, Some(frame.to_vec()));
                passes = false;
            }
        });
        passes
    }
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let (epoch, refuse, stopped) = {
            let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.epoch, state.refuse, state.stopped)
        };
        if stopped {
            return;
        }
        let Ok(client) = client else { continue };
        if refuse {
            continue;
        }
        // A broker that is down refuses: dropping the client's connection passes that on.
        let Ok(broker) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
        let watched = [client.try_clone(), broker.try_clone()];
        for (from, to, direction) in [
            (client.try_clone(), broker.try_clone(), Direction::ToBroker),
            (Ok(broker), Ok(client), Direction::ToClient),
        ] {
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let shared = Arc::clone(shared);
            std::thread::spawn(move || pump(from, to, direction, epoch, &shared));
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || close_when_cut(&shared, epoch, watched.into_iter().flatten()));
    }
}

/// Frees a reader that waits for bytes when its connection is to be closed.
fn close_when_cut(shared: &Shared, epoch: u64, streams: impl Iterator<Item = TcpStream>) {
    let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    drop(shared.changed.wait_while(state, |state| state.epoch == epoch));
    streams.for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}

/// Passes frames until either side closes. They are read as they come and written when they may
/// pass, so that a delay holds each of them as long, as distance does.
fn pump(from: TcpStream, to: TcpStream, way: Direction, epoch: u64, shared: &Arc<Shared>) {
    let (frames, arriving) = channel();
    let [reading, writing] = [&from, &to].map(TcpStream::try_clone);
    let (Ok(mut reading), Ok(mut writing)) = (reading, writing) else { return };
    let own = Arc::clone(shared);
    let writer = std::thread::spawn(move || {
        for (arrived, frame) in arriving {
            let frame: Vec<u8> = frame;
            if !own.admit(way, epoch, arrived) || writing.write_all(&frame).is_err() {
                // Frees the reader.
                let _ = writing.shutdown(Shutdown::Both);
                return;
            }
        }
    });
    while let Some(frame) = read_frame(&mut reading) {
        if way == Direction::ToBroker && !shared.passes(&frame) {
            continue;
        }
        if frames.send((now(), frame)).is_err() {
            break;
        }
    }
    drop(frames);
    let _ = writer.join();
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A frame is a length of four bytes, then as many bytes.
fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = length.to_vec();
    let body = u64::from(u32::from_be_bytes(length));
    let read = from.take(body).read_to_end(&mut frame).ok()?;
    (read as u64 == body).then_some(frame)
}
