use super::*;
use std::io::{Read, Write};
use std::net::TcpStream as Client;

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

fn with_server(ready: bool, check: impl FnOnce(SocketAddr)) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(bind("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = runtime.spawn(serve_from(
        Exhausted { failures: 2, listener },
        Arc::new(Metrics::new()),
        Arc::new(Fixed { ready }),
        async {
            let _dropped = stopped.await;
        },
    ));
    check(address);
    stop.send(()).unwrap();
    runtime.block_on(served).unwrap();
}

#[test]
fn a_listener_that_fails_for_a_while_answers_again() {
    with_server(true, |address| {
        let live = ask(address, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    });
}

#[test]
fn probes_and_metrics_answer() {
    with_server(false, |address| {
        let get = |path: &str| {
            ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        };
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
