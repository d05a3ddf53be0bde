//! `blotter audit verify`: every chain of a topic, or of exported files, entry by entry, with the
//! exact place of the first fault. Where an operator began a new chain behind one, that goes on being
//! verified.

mod files;
mod topic;
mod verdict;
mod walk;

use std::path::PathBuf;

use clap::Args;

use super::super::exit::{Exit, Failure};
use super::super::preview::brokers_flag;
use super::super::{Common, print};
use crate::daemon::keys::{deployment_public, instance_certificate};
use crate::pipeline::audit::{Certificate, Deployment, PublicKey};
use crate::settings::Settings;
use verdict::Verdict;

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Exported files, each one partition's entries, one per line
    #[arg(value_name = "FILE", required_unless_present = "topic", conflicts_with = "topic")]
    files: Vec<PathBuf>,
    /// Source topic whose audit topic is verified
    #[arg(long)]
    topic: Option<String>,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST", requires = "topic")]
    brokers: Option<String>,
    /// The deployment's public key, or a file that holds it; default: the one in the keys' folder
    #[arg(long, value_name = "KEY_OR_FILE")]
    deployment_key: Option<String>,
    /// Source partition of the file, where neither its genesis nor its name tells
    #[arg(long, value_name = "TOPIC/PARTITION")]
    source: Option<String>,
    /// Accept a trail without its beginning (retention took it): believe its first entry
    #[arg(long)]
    accept_suffix: bool,
    /// Accept a trail though the head that the daemon committed can't be had: cut at a seal or
    /// rolled back, it looks whole
    #[arg(long, requires = "topic")]
    accept_unknown_head: bool,
    /// Accept the break at this place, as it is printed, where an operator began a new chain behind
    /// it; repeatable
    #[arg(long, value_name = "PLACE")]
    accept_break: Vec<String>,
    /// One line of JSON per partition
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let deployment_key =
        deployment_public(&settings.keys.folder, arguments.deployment_key.as_deref())?;
    let signer = instance_certificate(&settings.keys.folder, &settings.deployment);
    let signers_of_suffix = arguments.accept_suffix.then(|| signer.into_iter().collect());
    let scene = Scene {
        deployment: settings.deployment.clone(),
        deployment_key,
        signers_of_suffix,
        accept_unknown_head: arguments.accept_unknown_head,
    };
    let mut all_verified = true;
    let mut unseen: Vec<&String> = arguments.accept_break.iter().collect();
    let mut tell = |verdict: &Verdict| {
        let mut all_named = true;
        for place in verdict.breaks.iter().map(|one| &one.fault.place) {
            all_named &= arguments.accept_break.contains(place);
            unseen.retain(|one| *one != place);
        }
        all_verified &= verdict.fault.is_none() && all_named;
        print(&if arguments.json { verdict.to_json() } else { verdict.to_text() })
    };
    match &arguments.topic {
        Some(topic) => topic::verify(&scene, &settings, topic, &mut tell)?,
        None => files::verify(&scene, &arguments.files, arguments.source.as_deref(), &mut tell)?,
    }
    // An acceptance that has become idle would be there for the next break at that place.
    if let Some(place) = unseen.first() {
        return Err(Failure::new(Exit::Data, format!("--accept-break {place}: no break is there")));
    }
    Ok(if all_verified { Exit::Success } else { Exit::Data })
}

/// What all chains are verified with.
struct Scene {
    deployment: Deployment,
    deployment_key: PublicKey,
    /// Certificates for trails without a beginning, where those are accepted.
    signers_of_suffix: Option<Vec<Certificate>>,
    /// Whether a trail passes though the head that the daemon committed can't be had.
    accept_unknown_head: bool,
}
