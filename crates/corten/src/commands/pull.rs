//! `corten pull`: fetches an image, and shows how far it is where the runtime tells: ours does, by a service of its
//! own beside the CRI. Credentials go to the runtime and are never printed.

use super::{Context, failed, pair, selector};
use crate::output::progress::{Spinner, columns, template};
use crate::output::words::{short, size};
use crate::output::{self, json};
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::{Layer, LayerState, PullRequest, Resolved, pull_event::Event};
use cri_api::v1::{AuthConfig, ImageSpec, PullImageRequest};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use registry::CredentialsFile;
use runtime_manager::Client;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};
use types::{Error, ErrorKind, Reference, Result};

/// Flags of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Annotation of the request; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    annotation: Vec<(String, String)>,
    /// The pod that the image is for: a CRI PodSandboxConfig in JSON or YAML
    #[arg(long, value_name = "FILE")]
    pod_config: Option<PathBuf>,
    /// Give up after this time; 0 never does
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = super::duration, hide_default_value = true)]
    pull_timeout: Duration,
}

/// How to prove who asks.
#[derive(clap::Args)]
pub struct Credentials {
    /// User and password for the registry
    #[arg(
        long,
        value_name = "USER[:PASSWORD]",
        env = "CRICTL_CREDS",
        hide_env_values = true,
        conflicts_with = "auth"
    )]
    creds: Option<String>,
    /// User and password in base64, as in a docker config file
    #[arg(long, value_name = "BASE64", env = "CRICTL_AUTH", hide_env_values = true)]
    auth: Option<String>,
    /// Credentials file, Docker's config.json or containers-auth.json(5), in place of the user's own
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE", conflicts_with_all = ["creds", "auth"])]
    authfile: Option<PathBuf>,
    /// How long a credential helper may take; it may ask a service in the network, or its user
    #[arg(long, value_name = "DURATION", env = "CORTEN_HELPER_TIMEOUT", default_value = "60s", value_parser = super::duration)]
    helper_timeout: Duration,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// What goes into the request for an image: what the flags say, else what a credentials file or a credential
    /// helper that it names has for it. Blocks.
    pub fn for_image(&self, image: &str) -> Result<Option<AuthConfig>> {
        if let Some(given) = self.config()? {
            return Ok(Some(given));
        }
        let places = match &self.authfile {
            Some(file) if !file.exists() => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("the credentials file {} does not exist", file.display()),
                ));
            }
            Some(file) => vec![file.clone()],
            None => CredentialsFile::places(&|name| std::env::var(name).ok()),
        };
        // A name that is none, and an id, is the runtime's to refuse or to find.
        let Ok(reference) = Reference::parse(image) else { return Ok(None) };
        let found = CredentialsFile::find(&places, &reference, self.helper_timeout)?;
        Ok(found.map(|auth| AuthConfig {
            username: auth.username.unwrap_or_default(),
            password: auth.password.unwrap_or_default(),
            auth: auth.auth.unwrap_or_default(),
            server_address: auth.server_address.unwrap_or_default(),
            identity_token: auth.identity_token.unwrap_or_default(),
            registry_token: auth.registry_token.unwrap_or_default(),
        }))
    }

    /// What the flags say.
    pub fn config(&self) -> Result<Option<AuthConfig>> {
        if let Some(creds) = &self.creds {
            let (username, password) = creds.split_once(':').unwrap_or((creds, ""));
            if username.is_empty() {
                return Err(Error::invalid("--creds has no user name; write it as USER:PASSWORD"));
            }
            return Ok(Some(AuthConfig {
                username: username.into(),
                password: password.into(),
                ..Default::default()
            }));
        }
        Ok(self.auth.clone().map(|auth| AuthConfig { auth, ..Default::default() }))
    }
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let sandbox_config =
        args.pod_config.as_deref().map(|path| json::read("PodSandboxConfig", path)).transpose()?;
    let image = ImageSpec {
        image: args.image.clone(),
        annotations: selector(&args.annotation),
        ..Default::default()
    };
    let auth = args.credentials.for_image(&args.image)?;
    let request = PullImageRequest { image: Some(image), auth, sandbox_config };
    let (channel, _) = context.connect().await?;
    let pull = fetch(channel, &args.image, request);
    let outcome = if args.pull_timeout.is_zero() {
        pull.await
    } else {
        match tokio::time::timeout(args.pull_timeout, pull).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!("{} was not fetched within {:?}", args.image, args.pull_timeout);
                return Err(Error::new(ErrorKind::DeadlineExceeded, message));
            }
        }
    };
    let image_ref = outcome.map_err(|status| failed(&format!("pull {}", args.image), &status))?;
    output::print(&format!("Image is up to date for {image_ref}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks our own service, which tells how far it is; a runtime that has none is asked as the CRI has it.
async fn fetch(channel: Channel, image: &str, request: PullImageRequest) -> Result<String, Status> {
    // Annotations and the pod are left out: our runtime reads neither.
    let own = PullRequest { reference: image.to_owned(), auth: request.auth.clone() };
    match follow(channel.clone(), own).await {
        Err(status) if status.code() == Code::Unimplemented => {}
        outcome => return outcome,
    }
    let _spinner = Spinner::new(&format!("pulling {image}"));
    Ok(Client::new(channel).images.pull_image(request).await?.into_inner().image_ref)
}

/// A pull by our own service, shown as it goes.
async fn follow(channel: Channel, request: PullRequest) -> Result<String, Status> {
    let reference = request.reference.clone();
    let mut events = ImagesClient::new(channel).pull(request).await?.into_inner();
    let mut shown = Shown::new(&reference);
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::Finished(finished)) => return Ok(finished.image_ref),
            Some(Event::Resolved(resolved)) => shown.resolved(&resolved),
            Some(Event::Layer(layer)) => shown.layer(&layer),
            None => {}
        }
    }
    Err(Status::unavailable("the runtime's answer ended before the pull did"))
}

/// What is seen of a pull, on standard error: a bar for each layer where that is a terminal, else a line for each
/// layer that is there. Bars are cleared when this is dropped.
struct Shown {
    image: String,
    /// The bars, and the line above them.
    terminal: Option<(MultiProgress, ProgressBar)>,
    /// By the beginning of the digest, which is what is shown.
    layers: HashMap<String, ShownLayer>,
}

struct ShownLayer {
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    state: LayerState,
}

impl Shown {
    fn new(image: &str) -> Self {
        let image = output::clean(image);
        let terminal = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let head = all.add(ProgressBar::new_spinner());
            head.set_style(style("{spinner} {wide_msg}"));
            head.set_message(format!("pulling {image}"));
            head.enable_steady_tick(Duration::from_millis(100));
            (all, head)
        });
        Self { image, terminal, layers: HashMap::new() }
    }

    fn resolved(&mut self, resolved: &Resolved) {
        let image = &self.image;
        let plural = if resolved.layers == 1 { "" } else { "s" };
        let what = format!("{} layer{plural}, {}", resolved.layers, size(resolved.bytes));
        match &self.terminal {
            Some((_, head)) => head.set_message(format!("pulling {image}: {what}")),
            None => line(&format!("{image} is {}: {what}", output::clean(&resolved.digest))),
        }
    }

    fn layer(&mut self, layer: &Layer) {
        let name = output::clean(&short(&layer.digest));
        if !self.layers.contains_key(&name) {
            if self.layers.len() >= LAYERS_MAX {
                return;
            }
            let bar = self.terminal.as_ref().map(|(all, _)| all.add(bar(&name)));
            self.layers.insert(name.clone(), ShownLayer { bar, state: LayerState::Unspecified });
        }
        let full = self.layers.len() >= rows();
        let Some(shown) = self.layers.get_mut(&name) else { return };
        // An image may hold a layer twice; what is there once stays there.
        if ended(shown.state) {
            return;
        }
        let before = std::mem::replace(&mut shown.state, layer.state());
        let Some(((all, _), bar)) = self.terminal.as_ref().zip(shown.bar.as_ref()) else {
            if ended(shown.state) {
                line(&format!("{name}: {}, {}", word(shown.state), size(layer.total)));
            }
            return;
        };
        if before != shown.state {
            bar.set_message(word(shown.state));
            let fetching = shown.state == LayerState::Fetching;
            if fetching {
                // The speed is that of the transfer, not of the wait before it.
                bar.reset();
            }
            bar.set_style(style(template(columns(), fetching)));
        }
        bar.set_length(layer.total);
        bar.set_position(layer.done.min(layer.total));
        if ended(shown.state) {
            bar.abandon();
            if full {
                // Room for those that are not there yet.
                all.remove(bar);
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((all, head)) = &self.terminal {
            head.finish();
            let _ = all.clear();
        }
    }
}

/// Layers that are shown. An image of ours has 256 at most; another endpoint may say anything.
const LAYERS_MAX: usize = 256;

fn bar(name: &str) -> ProgressBar {
    ProgressBar::no_length().with_prefix(name.to_owned()).with_style(style(template(columns(), false)))
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; one that were wrong would cost the look, not the pull.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// Lines for bars on the terminal, below the one above them.
fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    // A terminal that does not know its size says 0 (ioctl_tty(2), TIOCGWINSZ).
    let rows = size.map_or(0, |size| usize::from(size.ws_row));
    if rows < 3 { 22 } else { rows - 2 }
}

fn ended(state: LayerState) -> bool {
    matches!(state, LayerState::Done | LayerState::Present)
}

fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Unspecified => "",
        LayerState::Waiting => "waiting",
        LayerState::Fetching => "fetching",
        LayerState::Unpacked => "unpacked",
        LayerState::Done => "done",
        LayerState::Present => "was here",
    }
}

/// A line on standard error. It is a courtesy: that nobody takes it is no reason to fail.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_counts_where_no_flag_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        std::fs::write(
            &file,
            r#"{"auths":{"r.example/team":{"auth":"YTpi"},"r.example":{"identitytoken":"t"}}}"#,
        )
        .unwrap();
        let helper_timeout = Duration::from_secs(1);
        let of = |credentials: &Credentials, image: &str| credentials.for_image(image).unwrap();
        let by_file = Credentials { creds: None, auth: None, authfile: Some(file.clone()), helper_timeout };
        let team = of(&by_file, "r.example/team/app:1").unwrap();
        assert_eq!((team.auth.as_str(), team.server_address.as_str()), ("YTpi", "r.example"));
        assert_eq!(of(&by_file, "r.example/other").unwrap().identity_token, "t");
        assert_eq!(of(&by_file, "other.example/app"), None);
        let by_flag = Credentials { creds: Some("u:p".into()), ..by_file };
        assert_eq!(of(&by_flag, "r.example/team/app:1").unwrap().username, "u");
        let authfile = Some(dir.path().join("gone"));
        let gone = Credentials { creds: None, auth: None, authfile, helper_timeout };
        assert!(gone.for_image("r.example/app").unwrap_err().message().contains("does not exist"));
    }
}
