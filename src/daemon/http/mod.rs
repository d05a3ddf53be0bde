//! `/metrics`, `/livez`, `/readyz`, `/version`: read only, no state of its own. Liveness is about
//! the loops of the process, never about the brokers; readiness is about serving its partitions.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{Exposition, Metrics};
use crate::pipeline::limits::{
    HTTP_CONNECTION_MS_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEADER_READ_MS_MAX, HTTP_RENDERINGS_MAX,
    HTTP_SCRAPES_MAX,
};

/// Pause before the next connection is accepted when accepting one failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One named check of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Short name, such as `shard scrub-0`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// One line for people; no record content.
    pub detail: String,
}

/// What the probes ask.
pub trait Probes: Send + Sync + 'static {
    /// The loops turn.
    fn live(&self) -> Vec<Check>;
    /// Partitions are served, or this instance stands by; not draining.
    fn ready(&self) -> Vec<Check>;
}

/// Where connections come from.
trait Listen: Send {
    fn accept(&mut self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Listen for TcpListener {
    async fn accept(&mut self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _peer)| stream)
    }
}

/// How much is served at once, and for how long.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    connections: usize,
    scrapes: usize,
    renderings: usize,
    header_read: Duration,
    connection: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: HTTP_CONNECTIONS_MAX,
            scrapes: HTTP_SCRAPES_MAX,
            renderings: HTTP_RENDERINGS_MAX,
            header_read: Duration::from_millis(HTTP_HEADER_READ_MS_MAX),
            connection: Duration::from_millis(HTTP_CONNECTION_MS_MAX),
        }
    }
}

struct Server {
    metrics: Arc<Metrics>,
    probes: Arc<dyn Probes>,
    bounds: Bounds,
    connections: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    renderings: Arc<Semaphore>,
}

/// The text of a scrape, which keeps its places until it is sent.
struct Rendering {
    text: String,
    _places: [OwnedSemaphorePermit; 2],
}

impl AsRef<[u8]> for Rendering {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Serves until `stop` resolves. Nothing else ends it: whoever watches this process can't do
/// without.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    probes: Arc<dyn Probes>,
    stop: impl Future<Output = ()>,
) {
    serve_from(listener, Server::new(metrics, probes, Bounds::default()), stop).await;
}

async fn serve_from(
    mut listener: impl Listen,
    server: Arc<Server>,
    stop: impl Future<Output = ()>,
) {
    let mut failing = false;
    tokio::pin!(stop);
    loop {
        let next = async {
            let slot = place(&server.connections).await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = &mut stop => return,
            next = next => next,
        };
        match accepted {
            Ok(stream) => {
                failing = false;
                tokio::spawn(Arc::clone(&server).serve_connection(stream, slot));
            }
            // A connection that died before it was accepted is its own problem.
            Err(error) if is_connection_error(&error) => {}
            // File descriptors or memory have run out, and come back.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "http: no connection is accepted; tried again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(places).acquire_owned().await.expect("it is never closed")
}

impl Server {
    fn new(metrics: Arc<Metrics>, probes: Arc<dyn Probes>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            probes,
            bounds,
            connections: Arc::new(Semaphore::new(bounds.connections)),
            scrapes: Arc::new(Semaphore::new(bounds.scrapes)),
            renderings: Arc::new(Semaphore::new(bounds.renderings)),
        })
    }

    /// Answers one request: a connection kept open would hold its slot for nothing.
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let server = &*self;
        let service = service_fn(move |request: Request<Incoming>| async move {
            let (head, _body) = request.into_parts();
            Ok::<_, Infallible>(server.answer(&head).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.header_read)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A client that breaks off or does not read harms itself only.
        let _broken = tokio::time::timeout(self.bounds.connection, served).await;
        drop(slot);
    }

    async fn answer(&self, head: &Parts) -> Response<Full<Bytes>> {
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a constant is valid"));
            return response;
        }
        let verbose = head.uri.query().is_some_and(|query| query.contains("verbose"));
        match head.uri.path() {
            "/metrics" => {
                let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
                self.scrape(Exposition::negotiate(accept.unwrap_or_default())).await
            }
            "/livez" => probe(&self.probes.live(), verbose),
            "/readyz" | "/healthz" => probe(&self.probes.ready(), verbose),
            "/version" => plain(StatusCode::OK, format!("blotter {}\n", env!("CARGO_PKG_VERSION"))),
            _ => plain(StatusCode::NOT_FOUND, "/metrics /livez /readyz /version\n".to_owned()),
        }
    }

    /// Renders beside the thread that answers probes and takes signals. Scrapes past the first few
    /// wait, those past many are turned away, so that probes find a connection.
    async fn scrape(&self, exposition: Exposition) -> Response<Full<Bytes>> {
        let Ok(scrape) = Arc::clone(&self.scrapes).try_acquire_owned() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n".to_owned());
        };
        let places = [scrape, place(&self.renderings).await];
        let metrics = Arc::clone(&self.metrics);
        let rendering = tokio::task::spawn_blocking(move || Rendering {
            text: metrics.render(exposition),
            _places: places,
        });
        match rendering.await {
            Ok(rendering) => {
                let body = Bytes::from_owner(rendering);
                respond(StatusCode::OK, exposition.content_type(), body)
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "not rendered\n".to_owned()),
        }
    }
}

/// Binds `address`.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

fn probe(checks: &[Check], verbose: bool) -> Response<Full<Bytes>> {
    let ok = checks.iter().all(|check| check.ok);
    let mut body = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        let mark = if check.ok { '+' } else { '-' };
        body.push_str(&format!("[{mark}]{} {}\n", check.name, check.detail));
    }
    body.push_str(if ok { "ok\n" } else { "failed\n" });
    plain(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(body))
}

fn respond(status: StatusCode, content_type: &str, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(body))
        .expect("constant headers are valid")
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
