//! Layers of settings: the embedded defaults, files, environment, `--set`. Every layer is first
//! checked alone, so that an error names the place that holds it; then they are merged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, FileFormat};
use toml::{Table, Value};

use super::raw::RawSettings;

/// The embedded `config/default.toml`.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Prefix of the environment variables that are settings.
pub const ENVIRONMENT_PREFIX: &str = "BLOTTER__";

/// Keys that hold secrets: masked when shown, refused in `--set`.
const SECRET_KEYS: &[&str] = &[
    "kafka.sasl.password",
    "kafka.sasl.client_secret",
    "kafka.tls.key_password",
    "keys.encryption_key",
];

/// Parts of librdkafka property names whose values are secrets.
const SECRET_PROPERTY_WORDS: &[&str] =
    &["password", "passphrase", "secret", "jaas", "oauthbearer.config", "key.pem"];

/// A secret's key with this behind it names the file that holds the secret.
pub(super) const FILE_SUFFIX: &str = "_file";

/// What was asked for on the command line and in the environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files in the order in which they override each other.
    pub files: Vec<PathBuf>,
    /// The whole environment; only names with [`ENVIRONMENT_PREFIX`] matter.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` from the command line.
    pub overrides: Vec<String>,
    /// The same from a command's own flags (`--brokers`), which win.
    pub flags: Vec<(String, String)>,
}

/// A setting that can't be used, and the place that holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SettingsError {
    /// `file:line`, the environment variable, the flag, or the key.
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Merged settings with the place that each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings as written.
    pub raw: RawSettings,
    merged: Table,
    origins: BTreeMap<String, String>,
}

/// Reads and merges all layers.
///
/// # Errors
/// An unreadable file, a syntax error, an unknown key or a value of the wrong type, with its place.
pub fn load(sources: &Sources) -> Result<Loaded, SettingsError> {
    let mut builder = Config::builder();
    let mut origins = BTreeMap::new();
    for layer in layers(sources)? {
        for (key, place) in layer.places {
            origins.insert(key, place);
        }
        builder = builder.add_source(config::File::from_str(&layer.text, FileFormat::Toml));
    }
    let broken = |error: ConfigError| SettingsError {
        place: "settings".to_owned(),
        message: explain(&error.to_string()),
    };
    let merged = builder.build().map_err(broken)?;
    let raw = merged.clone().try_deserialize().map_err(broken)?;
    let merged = merged.try_deserialize().map_err(broken)?;
    Ok(Loaded { raw, merged, origins })
}

impl Loaded {
    /// The place a key's value came from, or that of the value it is part of (`a.b[0].c` of `a.b`);
    /// the key itself where there is none.
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        let unquoted = key.replace('"', "");
        let mut parts = unquoted.split('[');
        let first = parts.next().unwrap_or_default().to_owned();
        let whole = parts.fold(first, |path, part| path + part.split_once(']').map_or("", |p| p.1));
        let mut at = whole.as_str();
        loop {
            if let Some(place) = self.origins.get(at) {
                return format!("{place}: {key}");
            }
            match at.rsplit_once('.') {
                Some((outer, _)) => at = outer,
                None => return key.to_owned(),
            }
        }
    }

    /// An error at the place of `key`.
    #[must_use]
    pub fn error(&self, key: &str, message: impl Into<String>) -> SettingsError {
        SettingsError { place: self.place(key), message: message.into() }
    }

    /// A key of `section` that somebody has given a value.
    #[must_use]
    pub fn written(&self, section: &str) -> Option<String> {
        let is_written = |(key, value): &(String, Value)| {
            let is_inside = key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
            is_inside && self.origins.contains_key(key) && value.as_str() != Some("")
        };
        leaves(&self.merged).into_iter().find(is_written).map(|(key, _)| key)
    }

    /// The keys whose values are not those of `other`.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (own, others) = (leaves(&self.merged), leaves(&other.merged));
        let only = |these: &[(String, Value)], those: &[(String, Value)]| -> Vec<String> {
            these.iter().filter(|one| !those.contains(one)).map(|(key, _)| key.clone()).collect()
        };
        let mut keys = only(&own, &others);
        keys.extend(only(&others, &own));
        keys.sort();
        keys.dedup();
        keys
    }

    /// One line per setting, `key = value  # place`, secrets masked.
    #[must_use]
    pub fn show(&self) -> String {
        let mut lines = String::new();
        for (key, value) in leaves(&self.merged) {
            let shown = if is_secret(&key) && value.as_str() != Some("") {
                "\"***\"".to_owned()
            } else {
                value.to_string()
            };
            let place = self.origins.get(&key).map_or("default", String::as_str);
            lines.push_str(&format!("{key} = {shown}  # {place}\n"));
        }
        lines
    }
}

struct Layer {
    text: String,
    places: Vec<(String, String)>,
}

fn layers(sources: &Sources) -> Result<Vec<Layer>, SettingsError> {
    let mut layers = vec![Layer { text: DEFAULTS.to_owned(), places: Vec::new() }];
    for path in &sources.files {
        layers.push(file_layer(path)?);
    }
    for (name, value) in &sources.environment {
        if let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) {
            layers.push(value_layer(&environment_key(key), value, &format!("environment {name}"))?);
        }
    }
    for written in &sources.overrides {
        let place = format!("--set {}", written.split('=').next().unwrap_or_default());
        let Some((key, value)) = written.split_once('=') else {
            return Err(SettingsError { place, message: "expected section.key=value".to_owned() });
        };
        if is_secret(key) {
            let message = format!(
                "secrets are refused on the command line, where every process can read them; \
                 use {key}{FILE_SUFFIX} or the environment"
            );
            return Err(SettingsError { place, message });
        }
        layers.push(value_layer(&split_key(key), value, &place)?);
    }
    for (key, value) in &sources.flags {
        layers.push(value_layer(&split_key(key), value, "command line")?);
    }
    Ok(layers)
}

fn file_layer(path: &Path) -> Result<Layer, SettingsError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| SettingsError { place: shown.clone(), message: error.to_string() })?;
    let at = |error: &toml::de::Error| SettingsError {
        place: error.span().map_or_else(
            || shown.clone(),
            |span| format!("{shown}:{}", line_of(&text, span.start)),
        ),
        message: explain(error.message()),
    };
    toml::from_str::<RawSettings>(&text).map_err(|error| at(&error))?;
    let table: toml::Spanned<toml::de::DeTable<'_>> =
        toml::de::DeTable::parse(&text).map_err(|error| at(&error))?;
    let mut places = Vec::new();
    spanned_places(
        table.get_ref(),
        "",
        &|offset| format!("{shown}:{}", line_of(&text, offset)),
        &mut places,
    );
    Ok(Layer { text: text.clone(), places })
}

fn spanned_places(
    table: &toml::de::DeTable<'_>,
    prefix: &str,
    place: &dyn Fn(usize) -> String,
    places: &mut Vec<(String, String)>,
) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => spanned_places(inner, &path, place, places),
            _ => places.push((path, place(key.span().start))),
        }
    }
}

/// One value of the environment or the command line as a layer of its own, checked alone: as it is,
/// or as a list where the settings want one.
fn value_layer(key: &[String], written: &str, place: &str) -> Result<Layer, SettingsError> {
    let fits = |value: Value| {
        let mut nested = value;
        for part in key.iter().rev() {
            nested = Value::Table(Table::from_iter([(part.clone(), nested)]));
        }
        let text = toml::to_string(&nested).map_err(|failure| failure.to_string())?;
        let read = Config::builder()
            .add_source(config::File::from_str(&text, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize::<RawSettings>);
        match read {
            // What a table needs beside this value, another layer may have.
            Ok(_) | Err(ConfigError::NotFound(_)) => Ok(text),
            Err(failure) => Err(failure.to_string()),
        }
    };
    let fitting = fits(Value::String(written.to_owned())).or_else(|failure| {
        if failure.contains("expected a sequence") { fits(list(written)) } else { Err(failure) }
    });
    let text = fitting
        .map_err(|failure| SettingsError { place: place.to_owned(), message: explain(&failure) })?;
    Ok(Layer { text, places: vec![(key.join("."), place.to_owned())] })
}

/// A list as TOML writes it, or its entries separated by commas, but for the commas in braces,
/// where a pattern has them (`a{1,2}`).
fn list(written: &str) -> Value {
    let toml = toml::from_str::<Table>(&format!("list = {written}"));
    if let Some(Value::Array(items)) = toml.ok().and_then(|mut table| table.remove("list"))
        && items.iter().all(|item| item.is_str() || item.is_table())
    {
        return Value::Array(items);
    }
    let mut depth = 0_usize;
    let outside = |character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    };
    let items = written.split(outside).map(str::trim).filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

fn environment_key(name: &str) -> Vec<String> {
    let parts: Vec<String> = name.split("__").map(str::to_lowercase).collect();
    properties_key(parts, |property| match property.strip_suffix(FILE_SUFFIX) {
        Some(secret) if is_secret_property(&secret.replace('_', ".")) => {
            secret.replace('_', ".") + FILE_SUFFIX
        }
        _ => property.replace('_', "."),
    })
}

fn split_key(key: &str) -> Vec<String> {
    properties_key(key.split('.').map(str::to_owned).collect(), str::to_owned)
}

/// Everything behind `kafka.properties` is one librdkafka property, dots included.
fn properties_key(parts: Vec<String>, spell: impl Fn(&str) -> String) -> Vec<String> {
    match parts.as_slice() {
        [kafka, properties, rest @ ..]
            if kafka == "kafka" && properties == "properties" && !rest.is_empty() =>
        {
            vec![kafka.clone(), properties.clone(), spell(&rest.join("."))]
        }
        _ => parts,
    }
}

fn is_secret(key: &str) -> bool {
    SECRET_KEYS.contains(&key)
        || key.strip_prefix("kafka.properties.").is_some_and(is_secret_property)
}

/// Whether the value of a librdkafka property is a secret; the name of a file that holds one is not.
pub(super) fn is_secret_property(name: &str) -> bool {
    !name.ends_with(FILE_SUFFIX) && SECRET_PROPERTY_WORDS.iter().any(|word| name.contains(word))
}

/// Shortens serde's list of every known key to the nearest one, and takes out a value that doesn't
/// fit: it may be a secret.
fn explain(message: &str) -> String {
    let Some(rest) = message.split("unknown field `").nth(1) else {
        return without_value(message.trim());
    };
    let mut quoted = rest.split('`');
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, _)| *distance <= 1 + unknown.len() / 3);
    match nearest {
        Some((_, name)) => format!("unknown key `{unknown}`; did you mean `{name}`?"),
        None => format!("unknown key `{unknown}`; known here: {}", known.join(", ")),
    }
}

/// `invalid type: string "x", expected u16` without the `x`.
fn without_value(message: &str) -> String {
    let parts = message
        .find("invalid ")
        .and_then(|at| message[at..].split_once(": "))
        .and_then(|(fault, rest)| Some((fault, rest.rsplit_once(", expected ")?)));
    match parts {
        Some((fault, (found, expected))) => {
            let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
            format!("{fault}: {kind}, expected {expected}")
        }
        None => message.to_owned(),
    }
}

fn leaves(table: &Table) -> Vec<(String, Value)> {
    fn walk(table: &Table, prefix: &str, found: &mut Vec<(String, Value)>) {
        for (key, value) in table {
            let path = join(prefix, key);
            match value {
                Value::Table(inner) => walk(inner, &path, found),
                other => found.push((path, other.clone())),
            }
        }
    }
    let mut found = Vec::new();
    walk(table, "", &mut found);
    found
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Sources) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blotter.toml");
        std::fs::write(&path, text).unwrap();
        (folder, Sources { files: vec![path], ..Sources::default() })
    }

    #[test]
    fn later_layers_win_and_tell_where_they_stand() {
        let (_folder, mut sources) = file("[input]\ntopics = [\"a\"]\n[run]\nshards = 2\n");
        sources.environment = vec![
            ("BLOTTER__KAFKA__BROKERS".into(), "one:1, two:2".into()),
            ("BLOTTER__KAFKA__PROPERTIES__CLIENT_RACK".into(), "r1".into()),
            ("BLOTTER__KAFKA__SASL__PASSWORD".into(), "0123".into()),
            ("PATH".into(), "/bin".into()),
        ];
        sources.overrides = vec!["run.shards=3".into()];
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.raw.run.shards, 3);
        assert_eq!(loaded.raw.kafka.brokers, ["one:1", "two:2"]);
        assert_eq!(loaded.raw.kafka.properties["client.rack"], "r1");
        assert_eq!(loaded.raw.kafka.sasl.password.reveal(), "0123");
        assert_eq!(loaded.raw.group.session_timeout_ms, 15_000);
        assert!(loaded.place("input.topics").ends_with("blotter.toml:2: input.topics"));
        let shown = loaded.show();
        assert!(shown.contains(
            "kafka.sasl.password = \"***\"  # environment BLOTTER__KAFKA__SASL__PASSWORD"
        ));
        assert!(shown.contains("run.shards = \"3\"  # --set run.shards"), "{shown}");
        assert!(!shown.contains("0123"));
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let (_folder, sources) = file("[kafka]\n\nbrokerz = [\"a\"]\n");
        let error = load(&sources).unwrap_err();
        assert!(error.place.ends_with("blotter.toml:3"), "{error}");
        assert_eq!(error.message, "unknown key `brokerz`; did you mean `brokers`?");
    }

    #[test]
    fn a_typo_in_the_environment_is_an_error_too() {
        let environment = vec![("BLOTTER__KAFKA__BROKER".to_owned(), "a:1".to_owned())];
        let error = load(&Sources { environment, ..Sources::default() }).unwrap_err();
        assert_eq!(error.place, "environment BLOTTER__KAFKA__BROKER");
        assert!(error.message.contains("did you mean `brokers`"), "{error}");
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused() {
        for key in ["kafka.sasl.password", "kafka.properties.ssl.key.password"] {
            let overrides = vec![format!("{key}=x")];
            let error = load(&Sources { overrides, ..Sources::default() }).unwrap_err();
            assert!(error.message.starts_with("secrets are refused"), "{error}");
        }
    }

    #[test]
    fn lists_are_set_from_the_environment_and_the_command_line() {
        let environment = [
            ("BLOTTER__REDACT__REGIONS", "IN, DE"),
            ("BLOTTER__REDACT__ALLOW__PHONES", "[\"+49 30 1234567\"]"),
            ("BLOTTER__INGEST__TENANT__FROM", "header,field"),
            ("BLOTTER__INGEST__TENANT__HEADER", "x-tenant"),
            ("BLOTTER__INPUT__PATTERNS", "[ab]{1,2}, c.*"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let overrides = [
            "sentinel.canaries=a,b",
            "input.topics=[]",
            "redact.patterns=[{ name = \"iban\", regex = \"a,b\" }]",
        ];
        let loaded = load(&Sources {
            environment: environment.to_vec(),
            overrides: overrides.map(str::to_owned).to_vec(),
            ..Sources::default()
        });
        let raw = loaded.unwrap().raw;
        assert_eq!(raw.redact.regions.unwrap(), ["IN", "DE"]);
        assert_eq!(raw.redact.allow.phones, ["+49 30 1234567"]);
        let tenant = raw.ingest.tenant.unwrap();
        assert_eq!((tenant.from.len(), tenant.header.as_deref()), (2, Some("x-tenant")));
        assert_eq!(raw.input.patterns, ["[ab]{1,2}", "c.*"]);
        assert_eq!(raw.sentinel.canaries, ["a", "b"]);
        assert!(raw.input.topics.is_empty());
        assert_eq!(raw.redact.patterns[0].regex, "a,b");
        let overrides = vec!["ingest.tenant.from=name".to_owned()];
        let error = load(&Sources { overrides, ..Sources::default() }).unwrap_err();
        assert!(error.message.contains("variant"), "{error}");
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_told() {
        let (_folder, sources) = file("[kafka.sasl]\npassword = 123456\n");
        let in_file = load(&sources).unwrap_err();
        let environment = |name: &str, value: &str| {
            let environment = vec![(name.to_owned(), value.to_owned())];
            load(&Sources { environment, ..Sources::default() }).unwrap_err()
        };
        let secret = "123456, expected 7";
        for error in [
            in_file,
            environment("BLOTTER__KAFKA__SASL", secret),
            environment("BLOTTER__KAFKA", secret),
            environment("BLOTTER__KAFKA__SASL__PASSWORD__X", secret),
        ] {
            assert!(!error.to_string().contains("123456"), "{error}");
            assert!(error.message.contains("expected "), "{error}");
        }
    }

    #[test]
    fn a_secret_property_is_read_from_the_file_its_twin_names() {
        let environment = [
            ("BLOTTER__KAFKA__PROPERTIES__SSL_KEYSTORE_PASSWORD_FILE", "/run/secret"),
            ("BLOTTER__KAFKA__PROPERTIES__SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE", "/run/k"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let overrides = vec!["kafka.properties.ssl.key.pem_file=/run/pem".to_owned()];
        let sources =
            Sources { environment: environment.to_vec(), overrides, ..Sources::default() };
        let properties = load(&sources).unwrap().raw.kafka.properties;
        let names: Vec<_> = properties.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "sasl.oauthbearer.assertion.private.key.file",
                "ssl.key.pem_file",
                "ssl.keystore.password_file"
            ]
        );
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let overrides = vec!["run.shards=many".to_owned()];
        let error = load(&Sources { overrides, ..Sources::default() }).unwrap_err();
        assert_eq!(error.place, "--set run.shards");
        let (_folder, sources) = file("[run]\nshards = \"x\"\n");
        assert!(load(&sources).unwrap_err().place.ends_with("blotter.toml:2"));
    }
}
