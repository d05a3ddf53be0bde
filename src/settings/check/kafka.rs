//! How to reach Kafka.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::super::load::{FILE_SUFFIX, Loaded, is_secret_property};
use super::super::raw::Secret;
use super::{Checked, secret};
use crate::daemon::broker::kafka::{KafkaConfig, Sasl, Security, Tls, TokenSource};

pub(super) fn kafka(loaded: &Loaded) -> Checked<KafkaConfig> {
    let raw = &loaded.raw.kafka;
    let (tls, sasl) = match raw.security.as_str() {
        "plaintext" => (false, false),
        "tls" => (true, false),
        "sasl_plaintext" => (false, true),
        "sasl_tls" => (true, true),
        other => {
            let message = format!("`{other}` is none of plaintext, tls, sasl_plaintext, sasl_tls");
            return Err(loaded.error("kafka.security", message));
        }
    };
    if sasl && !tls && !raw.allow_plaintext_password {
        let message = "sends the password unencrypted; use sasl_tls, or say \
                       kafka.allow_plaintext_password = true";
        return Err(loaded.error("kafka.security", message));
    }
    for (section, is_used) in [("kafka.tls", tls), ("kafka.sasl", sasl)] {
        if let Some(key) = loaded.written(section).filter(|_| !is_used) {
            let message = format!("is not used with kafka.security = \"{}\"", raw.security);
            return Err(loaded.error(&key, message));
        }
    }
    let security = Security {
        tls: if tls { Some(kafka_tls(loaded)?) } else { None },
        sasl: if sasl { Some(kafka_sasl(loaded)?) } else { None },
    };
    let run = &loaded.raw.run;
    let mut properties: BTreeMap<String, String> = [
        ("client.id", raw.client_id.clone()),
        ("compression.type", compression(loaded)?.to_owned()),
        ("queued.max.messages.kbytes", (run.prefetch_bytes >> 10).to_string()),
        ("queue.buffering.max.kbytes", (run.send_queue_bytes >> 10).to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    for (name, value) in &raw.properties {
        let twin = name.strip_suffix(FILE_SUFFIX).filter(|name| is_secret_property(name));
        let Some(name) = twin else {
            properties.insert(name.clone(), value.clone());
            continue;
        };
        let key = format!("kafka.properties.{name}");
        let written = Secret::from(raw.properties.get(name).cloned().unwrap_or_default());
        if let Some(secret) = secret(loaded, &key, &written, value)? {
            properties.insert(name.to_owned(), secret.reveal().to_owned());
        }
    }
    let config = KafkaConfig { brokers: raw.brokers.join(","), security, properties };
    config.check().map_err(|error| {
        let message = format!("refused: {}", error.reason);
        loaded.error(&format!("kafka.properties.{}", error.property), message)
    })?;
    Ok(config)
}

fn kafka_tls(loaded: &Loaded) -> Checked<Tls> {
    let raw = &loaded.raw.kafka.tls;
    let password =
        secret(loaded, "kafka.tls.key_password", &raw.key_password, &raw.key_password_file)?;
    Ok(Tls {
        ca_file: raw.ca_file.clone(),
        certificate_file: raw.certificate_file.clone(),
        key_file: raw.key_file.clone(),
        key_password: Zeroizing::new(password.as_ref().map_or("", Secret::reveal).to_owned()),
    })
}

fn kafka_sasl(loaded: &Loaded) -> Checked<Sasl> {
    let raw = &loaded.raw.kafka.sasl;
    let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
    if !known.contains(&raw.mechanism.as_str()) {
        let message = format!("`{}` is none of {}", raw.mechanism, known.join(", "));
        return Err(loaded.error("kafka.sasl.mechanism", message));
    }
    if raw.mechanism == "OAUTHBEARER" {
        return token_source(loaded).map(|source| Sasl::Token(Box::new(source)));
    }
    let password = secret(loaded, "kafka.sasl.password", &raw.password, &raw.password_file)?;
    Ok(Sasl::Password {
        mechanism: raw.mechanism.clone(),
        username: raw.username.clone(),
        password: Zeroizing::new(password.as_ref().map_or("", Secret::reveal).to_owned()),
    })
}

fn token_source(loaded: &Loaded) -> Checked<TokenSource> {
    let kafka = &loaded.raw.kafka;
    let raw = &kafka.sasl;
    let endpoint = &raw.token_endpoint;
    let refuse = |message: &str| Err(loaded.error("kafka.sasl.token_endpoint", message));
    if endpoint.is_empty() {
        let elsewhere = ["sasl.oauthbearer.method", "enable.sasl.oauthbearer.unsecure.jwt"];
        if !elsewhere.iter().any(|name| kafka.properties.contains_key(*name)) {
            return refuse("is empty: OAUTHBEARER needs to know where tokens come from");
        }
    } else if !cfg!(feature = "oidc") {
        return refuse("needs libcurl, which this build leaves out (feature `oidc`)");
    } else if endpoint.starts_with("http://") && !kafka.allow_plaintext_password {
        return refuse(
            "sends the client secret unencrypted; use https://, or say \
             kafka.allow_plaintext_password = true",
        );
    } else if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
        return refuse("expected https://HOST/PATH");
    }
    let secret =
        secret(loaded, "kafka.sasl.client_secret", &raw.client_secret, &raw.client_secret_file)?;
    Ok(TokenSource {
        endpoint: endpoint.clone(),
        client_id: raw.client_id.clone(),
        client_secret: Zeroizing::new(secret.as_ref().map_or("", Secret::reveal).to_owned()),
        scope: raw.scope.clone(),
    })
}

fn compression(loaded: &Loaded) -> Checked<&str> {
    let written = loaded.raw.run.compression.as_str();
    let known = ["none", "lz4", "zstd", "snappy", "gzip"];
    if known.contains(&written) {
        Ok(written)
    } else {
        let message = format!("`{written}` is none of {}", known.join(", "));
        Err(loaded.error("run.compression", message))
    }
}
