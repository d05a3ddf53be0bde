use super::*;
use std::io::{Read, Write};
use std::net::TcpStream as Client;

use crate::pipeline::metric::Metric;
use crate::pipeline::record::Timestamp;

struct Fixed {
    ready: bool,
}

impl Probes for Fixed {
    fn live(&self) -> Vec<Check> {
        vec![Check { name: "loop".into(), ok: true, detail: "turns".into() }]
    }

    fn ready(&self) -> Vec<Check> {
        vec![Check { name: "partitions".into(), ok: self.ready, detail: "restoring 1".into() }]
    }
}

/// Has no file descriptors left at first.
struct Exhausted {
    failures: u32,
    listener: TcpListener,
}

impl Listen for Exhausted {
    async fn accept(&mut self) -> io::Result<TcpStream> {
        const EMFILE: i32 = 24;
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Listen::accept(&mut self.listener).await
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = Client::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn with_server(ready: bool, check: impl FnOnce(SocketAddr)) {
    with_bounds(Metrics::new(), ready, Bounds::default(), check);
}

fn with_bounds(metrics: Metrics, ready: bool, bounds: Bounds, check: impl FnOnce(SocketAddr)) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(bind("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(Arc::new(metrics), Arc::new(Fixed { ready }), bounds);
    let served = runtime.spawn(serve_from(Exhausted { failures: 2, listener }, server, async {
        let _dropped = stopped.await;
    }));
    check(address);
    stop.send(()).unwrap();
    runtime.block_on(served).unwrap();
}

/// More text than the buffers of a connection hold.
fn many_metrics() -> Metrics {
    let metrics = Metrics::new();
    let padding = "x".repeat(2_000);
    for tenant in 0..10_000 {
        let update = Metric::BotTurns.update(&[&format!("{tenant}{padding}")], 1.0);
        metrics.apply(&[update], Timestamp::EPOCH);
    }
    metrics
}

/// Asks for metrics, again and again, and reads none.
fn scrape_without_reading(address: SocketAddr) -> Client {
    let mut stream = Client::connect(address).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
    stream.write_all(requests.as_bytes()).unwrap();
    stream
}

#[test]
fn probes_answer_while_scrapers_hang() {
    with_bounds(many_metrics(), true, Bounds::default(), |address| {
        let hanging: Vec<Client> =
            (0..HTTP_CONNECTIONS_MAX).map(|_| scrape_without_reading(address)).collect();
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        drop(hanging);
    });
}

#[test]
fn a_client_that_does_not_read_loses_its_connection() {
    let bounds = Bounds {
        scrapes: 1,
        renderings: 1,
        connection: Duration::from_secs(3),
        ..Bounds::default()
    };
    with_bounds(many_metrics(), true, bounds, |address| {
        let mut hanging = scrape_without_reading(address);
        hanging.read_exact(&mut [0]).unwrap();
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 503"), "its place is taken");
        while !get(address, "/metrics").starts_with("HTTP/1.1 200") {}
        drop(hanging);
    });
}

#[test]
fn a_client_that_asks_nothing_loses_its_connection() {
    let bounds =
        Bounds { connections: 1, header_read: Duration::from_millis(100), ..Bounds::default() };
    with_bounds(Metrics::new(), true, bounds, |address| {
        let silent = Client::connect(address).unwrap();
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        drop(silent);
    });
}

#[test]
fn a_listener_that_fails_for_a_while_answers_again() {
    with_server(true, |address| {
        let live = get(address, "/livez");
        assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    });
}

#[test]
fn probes_and_metrics_answer() {
    with_server(false, |address| {
        let get = |path: &str| get(address, path);
        assert!(get("/livez").starts_with("HTTP/1.1 200"));
        let ready = get("/readyz");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("[-]partitions restoring 1"), "{ready}");
        assert!(get("/metrics").contains("version=0.0.4"));
        assert!(get("/nothing").starts_with("HTTP/1.1 404"));
        let post =
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert!(ask(address, post).starts_with("HTTP/1.1 405"));
    });
}

#[test]
fn openmetrics_is_served_to_those_who_ask() {
    with_server(true, |address| {
        let answer = ask(
            address,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.contains("application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.ends_with("# EOF\n"));
    });
}
