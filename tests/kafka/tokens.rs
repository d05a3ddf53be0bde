//! OAUTHBEARER as a user has it: tokens fetched from a provider, a broker that wants them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use blotter::daemon::broker::kafka::{KafkaConfig, KafkaConnector, Sasl, Security, TokenSource};
use blotter::daemon::topics::TopicAdmin;
use data_encoding::BASE64URL_NOPAD;

use crate::harness::{Admin, Cluster, millis_since_epoch, unique};
use crate::slots::{Slot, slot};

/// A provider on a port of its own, with the number of tokens it has given out.
fn provider() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/token", listener.local_addr().expect("bound"));
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            if is_credentials_grant(&mut stream) {
                count.fetch_add(1, Ordering::SeqCst);
                answer(&mut stream);
            }
        }
    });
    (url, given)
}

/// Whether the request asks as client `blotter` with the secret `hush`.
fn is_credentials_grant(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut bytes = [0; 1_024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return false,
            Ok(count) => request.extend_from_slice(&bytes[..count]),
        }
        let text = String::from_utf8_lossy(&request);
        // "blotter:hush" in base64.
        if text.contains("grant_type=client_credentials") {
            return text.contains("Basic YmxvdHRlcjpodXNo");
        }
    }
}

fn answer(stream: &mut TcpStream) {
    let seconds = millis_since_epoch() / 1_000;
    let claims = format!(r#"{{"sub":"blotter","iat":{seconds},"exp":{}}}"#, seconds + 60);
    let parts = [r#"{"alg":"none"}"#, &claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let body = format!(r#"{{"access_token":"{}."}}"#, parts.join("."));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let response = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(response.as_bytes()).expect("the client waits");
}

#[test]
fn every_client_logs_in_with_tokens_of_a_provider() {
    let cluster = Cluster::single();
    let source = unique("tokens");
    Admin { brokers: cluster.brokers() }.create_topic(&source, 1, &[]);
    let (endpoint, given) = provider();
    let tokens = TokenSource {
        endpoint,
        client_id: "blotter".to_owned(),
        client_secret: "hush".to_owned().into(),
        scope: String::new(),
    };
    let config = KafkaConfig {
        brokers: cluster.token_broker(),
        security: Security { tls: None, sasl: Some(Sasl::Token(Box::new(tokens))) },
        ..KafkaConfig::default()
    };
    let admin = TopicAdmin::connect(&config, Duration::from_secs(30)).expect("it logs in");
    assert!(admin.list().expect("it may ask").contains_key(&source));
    let connector = KafkaConnector::new(config).expect("harmless properties");
    let member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(1);
    assert_eq!(&*member.owned[0].topic, source);
    assert!(given.load(Ordering::SeqCst) >= 3, "a token for each client");
}
