//! `corten push`: sends an image to a registry. Credentials go to the runtime and are never printed.

use super::pull::Credentials;
use super::{Context, failed};
use crate::output::words::{short, size};
use crate::output::{self, transfer::Transfer};
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::{PushFinished, PushRequest, PushState, PushedBlob, push_event::Event};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tonic::Status;
use tonic::transport::Channel;
use types::Result;

/// Blobs that are shown. An image of ours has fewer; another endpoint may say anything.
const BLOBS_MAX: usize = 1000;

const AFTER: &str = "\
What the registry has is not sent again. Where the image came as an index, and all of it is here, the index is \
pushed; else the image for this machine. Digests stay what they are.";

/// Flags of `push`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The image here: name, digest or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to, if not to where the image's name says
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let target = args.destination.clone().unwrap_or_else(|| args.image.clone());
    let request = PushRequest {
        image: args.image,
        destination: args.destination.unwrap_or_default(),
        auth: args.credentials.for_image(&target)?,
    };
    let (channel, _) = context.connect().await?;
    let finished = follow(channel, request, &target)
        .await
        .map_err(|status| failed(&format!("push {target}"), &status))?;
    if !finished.note.is_empty() {
        eprintln!("corten: {}", output::clean(&finished.note));
    }
    let text =
        if args.quiet { finished.digest } else { format!("{} is {}", finished.reference, finished.digest) };
    output::print(&output::clean(&text))?;
    Ok(ExitCode::SUCCESS)
}

async fn follow(channel: Channel, request: PushRequest, target: &str) -> Result<PushFinished, Status> {
    let mut events = ImagesClient::new(channel).push(request).await?.into_inner();
    let mut shown = Shown { target, blobs: HashMap::new(), bar: None };
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::Blob(blob)) => shown.blob(&blob),
            Some(Event::Finished(finished)) => return Ok(finished),
            None => {}
        }
    }
    Err(Status::unavailable("the runtime's answer ended before the push did"))
}

/// One bar for all blobs on a terminal, else a line for each that is there.
struct Shown<'a> {
    target: &'a str,
    blobs: HashMap<String, (PushState, u64, u64)>,
    bar: Option<Transfer>,
}

impl Shown<'_> {
    fn blob(&mut self, blob: &PushedBlob) {
        if self.blobs.len() >= BLOBS_MAX && !self.blobs.contains_key(&blob.digest) {
            return;
        }
        let now = (blob.state(), blob.total, blob.done.min(blob.total));
        let before = self.blobs.insert(blob.digest.clone(), now).map(|(state, ..)| state);
        if std::io::stderr().is_terminal() {
            let sum = |each: fn(&(PushState, u64, u64)) -> u64| {
                self.blobs.values().fold(0u64, |sum, blob| sum.saturating_add(each(blob)))
            };
            let (total, done) = (sum(|blob| blob.1), sum(|blob| blob.2));
            let bar = self.bar.get_or_insert_with(|| Transfer::new(&format!("pushing {}", self.target), 1));
            bar.of(done, total);
        } else if before != Some(blob.state())
            && let Some(word) = word(blob.state())
        {
            // A courtesy: that nobody takes it is no reason to fail.
            let line = format!("{}: {word}, {}", short(&blob.digest), size(blob.total));
            let _ = writeln!(std::io::stderr(), "{}", output::clean(&line));
        }
    }
}

/// For the states that are an end.
fn word(state: PushState) -> Option<&'static str> {
    match state {
        PushState::Done => Some("pushed"),
        PushState::Present => Some("was there"),
        PushState::Mounted => Some("taken from another repository"),
        PushState::Unspecified | PushState::Waiting | PushState::Sending => None,
    }
}
