//! `blotter keys`: the folder of keys. Rotation starts a new epoch at a time; shredding makes what
//! was tokenised with an epoch unlinkable for good, and wrapping anew makes that so in copies too.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::{Common, print};
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::keys::{
    self, KeysError, certificate_text, change_keyring, open_or_create, random, rewrap_to,
};
use crate::pipeline::record::{TenantId, Timestamp};
use crate::pipeline::redact::sentinel::Canary;
use crate::pipeline::redact::token::EpochId;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct KeysArguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make the folder's missing keys, or a tenant's own keys
    Create(TenantArguments),
    /// Start a new epoch from a time on
    Rotate(TenantArguments),
    /// Destroy keys: their tokens can never be linked again
    Shred(ShredArguments),
    /// Wrap the keyring with a new key: shredding becomes final in copies of it
    Rewrap(RewrapArguments),
    /// Print the log lines to plant for the tenants of sentinel.canaries
    Canaries,
    /// Certify an instance's public key with the deployment key of the folder
    Certify(CertifyArguments),
}

#[derive(Debug, Args)]
struct TenantArguments {
    /// The tenant; without it the default keys
    #[arg(long)]
    tenant: Option<String>,
    /// When the new keys begin to count, RFC 3339; default now
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
}

#[derive(Debug, Args)]
struct ShredArguments {
    /// The tenant; without it the default keys
    #[arg(long)]
    tenant: Option<String>,
    /// One epoch only, as tokens name it
    #[arg(long)]
    epoch: Option<String>,
    /// Says that this cannot be undone
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct RewrapArguments {
    /// File of the new key, made when missing: where keys.encryption_key is set
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CertifyArguments {
    /// The instance's public key, 43 characters of base64url
    public_key: String,
    /// File to write; copy it to the instance's folder as instance.cert
    #[arg(long, value_name = "FILE", default_value = "instance.cert")]
    out: PathBuf,
}

pub(super) fn run(common: &Common, arguments: &KeysArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(Vec::new())?)?;
    let folder = settings.keys.folder.clone();
    let kek = settings.keys.encryption_key.as_ref().map(|secret| secret.reveal());
    let now = SystemClock::new().now();
    match &arguments.command {
        KeysCommand::Create(TenantArguments { tenant: None, .. }) => create(&settings, kek),
        KeysCommand::Canaries => canaries(&settings, kek),
        KeysCommand::Create(tenant) => {
            let (tenant, from) =
                (tenant_of(tenant.tenant.as_deref())?, time_of(tenant.not_before.as_deref(), now)?);
            let tenant = tenant.expect("the other arm has none");
            change_keyring(&folder, kek, |file, kek| {
                file.add_tenant(kek, &tenant, from, &mut random).map_err(|error| error.to_string())
            })?;
            print(&format!("{tenant} has keys of its own from {} on\n", from.to_rfc3339()))?;
            Ok(Exit::Success)
        }
        KeysCommand::Rotate(rotate) => {
            let (tenant, from) =
                (tenant_of(rotate.tenant.as_deref())?, time_of(rotate.not_before.as_deref(), now)?);
            let epoch = change_keyring(&folder, kek, |file, kek| {
                file.rotate(kek, tenant.as_ref(), from, &mut random)
                    .map_err(|error| error.to_string())
            })?;
            print(&format!(
                "epoch {epoch} begins at {}; restart the daemons before then\n",
                from.to_rfc3339()
            ))?;
            Ok(Exit::Success)
        }
        KeysCommand::Shred(shred) => {
            if !shred.yes {
                return Err(Failure::new(Exit::Usage, "shredding cannot be undone: say --yes"));
            }
            let tenant = tenant_of(shred.tenant.as_deref())?;
            let epoch = shred.epoch.as_deref().map(|text| {
                EpochId::parse(text)
                    .ok_or_else(|| Failure::new(Exit::Usage, format!("`{text}` is no epoch")))
            });
            let epoch = epoch.transpose()?;
            let count = change_keyring(&folder, kek, |file, _| {
                file.shred(tenant.as_ref(), epoch, now).map_err(|error| error.to_string())
            })?;
            print(&format!(
                "{count} keys destroyed; daemons hold them until they are restarted, copies of the \
                 folder until `blotter keys rewrap`\n"
            ))?;
            Ok(Exit::Success)
        }
        KeysCommand::Rewrap(rewrap) => rewrap_keyring(&settings, kek, rewrap.to.as_deref()),
        KeysCommand::Certify(certify) => certify_instance(&settings, certify),
    }
}

fn rewrap_keyring(
    settings: &Settings,
    kek: Option<&str>,
    to: Option<&Path>,
) -> Result<Exit, Failure> {
    let folder = &settings.keys.folder;
    let next = match (kek, to) {
        (None, None) => {
            keys::rewrap(folder)?;
            "copy keyring.jsonl and encryption.key to every other instance".to_owned()
        }
        (Some(old), Some(to)) => {
            rewrap_to(folder, old, to)?;
            format!(
                "set keys.encryption_key to the key in {} before the next start, and copy \
                 keyring.jsonl to every other instance",
                to.display()
            )
        }
        (Some(_), None) => {
            let message = "keys.encryption_key is set: name a file for the new key, --to FILE";
            return Err(Failure::new(Exit::Usage, message));
        }
        (None, Some(_)) => {
            let message = "--to is for a key that keys.encryption_key gives; the one in the folder \
                           is replaced there";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    print(&format!(
        "the keyring in {} is wrapped with a new key\nnext: {next}; restart the daemons; destroy \
         the old key in every copy\n",
        folder.display()
    ))?;
    Ok(Exit::Success)
}

fn canaries(settings: &Settings, kek: Option<&str>) -> Result<Exit, Failure> {
    if settings.canaries.is_empty() {
        let message = "sentinel.canaries: is empty; name the tenants that get one";
        return Err(Failure::new(Exit::Config, message));
    }
    let keys = open_or_create(&settings.keys.folder, kek, &settings.deployment)?;
    let seed = keys.canary_seed();
    let line = |tenant| format!("{}\n", Canary::new(&seed, tenant).line(tenant));
    print(&settings.canaries.iter().map(line).collect::<String>())?;
    Ok(Exit::Success)
}

fn create(settings: &Settings, kek: Option<&str>) -> Result<Exit, Failure> {
    let material = open_or_create(&settings.keys.folder, kek, &settings.deployment)?;
    let mut report = String::new();
    for path in &material.created {
        report.push_str(&format!("made {}\n", path.display()));
    }
    report.push_str(&format!(
        "keyring {}; deployment key {}; instance key {}\n",
        material.keyring_id,
        material.deployment_key,
        material.instance_key.certificate().key
    ));
    print(&report)?;
    Ok(Exit::Success)
}

fn certify_instance(settings: &Settings, arguments: &CertifyArguments) -> Result<Exit, Failure> {
    use crate::pipeline::audit::PublicKey;
    let key = PublicKey::parse(&arguments.public_key)
        .ok_or_else(|| Failure::new(Exit::Usage, "expected 43 characters of base64url"))?;
    let certificate = keys::certify(&settings.keys.folder, &settings.deployment, key)?;
    let shown = arguments.out.display().to_string();
    std::fs::write(&arguments.out, format!("{}\n", certificate_text(&certificate)))
        .map_err(|error| Failure::io(&shown, &error))?;
    print(&format!("wrote {shown}\n"))?;
    Ok(Exit::Success)
}

fn tenant_of(text: Option<&str>) -> Result<Option<TenantId>, Failure> {
    text.map(|text| {
        TenantId::new(text)
            .ok_or_else(|| Failure::new(Exit::Usage, format!("`{text}` is no tenant id")))
    })
    .transpose()
}

fn time_of(text: Option<&str>, now: Timestamp) -> Result<Timestamp, Failure> {
    let Some(text) = text else { return Ok(now) };
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| Failure::new(Exit::Usage, format!("`{text}` is no RFC 3339 time")))?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let exit = match error {
            KeysError::Io { .. } => Exit::Io,
            KeysError::Exposed(_) => Exit::Permission,
            KeysError::Invalid { .. }
            | KeysError::WrongKey { .. }
            | KeysError::Missing(_)
            | KeysError::Uncertified { .. } => Exit::Config,
        };
        Self::new(exit, error.to_string())
    }
}
