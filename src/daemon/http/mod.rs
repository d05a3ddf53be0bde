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
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{Exposition, Metrics};
use crate::pipeline::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEADER_READ_MS_MAX};

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

/// Serves until `stop` resolves. Nothing else ends it: whoever watches this process can't do
/// without.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    probes: Arc<dyn Probes>,
    stop: impl Future<Output = ()>,
) {
    serve_from(listener, metrics, probes, stop).await;
}

async fn serve_from(
    mut listener: impl Listen,
    metrics: Arc<Metrics>,
    probes: Arc<dyn Probes>,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut failing = false;
    tokio::pin!(stop);
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("it is never closed");
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = &mut stop => return,
            next = next => next,
        };
        match accepted {
            Ok(stream) => {
                failing = false;
                let (metrics, probes) = (Arc::clone(&metrics), Arc::clone(&probes));
                tokio::spawn(serve_connection(stream, metrics, probes, slot));
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

async fn serve_connection(
    stream: TcpStream,
    metrics: Arc<Metrics>,
    probes: Arc<dyn Probes>,
    slot: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let response = answer(&request, &metrics, &*probes);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that breaks off harms itself only.
    let _broken = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HTTP_HEADER_READ_MS_MAX))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    drop(slot);
}

/// Binds `address`.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    probes: &dyn Probes,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a constant is valid"));
        return response;
    }
    let verbose = request.uri().query().is_some_and(|query| query.contains("verbose"));
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let exposition = Exposition::negotiate(accept.unwrap_or_default());
            let body = metrics.render(exposition);
            respond(StatusCode::OK, exposition.content_type(), body)
        }
        "/livez" => probe(&probes.live(), verbose),
        "/readyz" | "/healthz" => probe(&probes.ready(), verbose),
        "/version" => plain(StatusCode::OK, format!("blotter {}\n", env!("CARGO_PKG_VERSION"))),
        _ => plain(StatusCode::NOT_FOUND, "/metrics /livez /readyz /version\n".to_owned()),
    }
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
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(Bytes::from(body)))
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
