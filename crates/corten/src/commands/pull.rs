//! `corten pull`: fetches an image. Credentials go to the runtime and are never printed.

use super::{Context, failed, pair, selector};
use crate::output::{self, json, progress::Spinner};
use cri_api::v1::{AuthConfig, ImageSpec, PullImageRequest};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

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
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// What goes into the request.
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
    let request = PullImageRequest { image: Some(image), auth: args.credentials.config()?, sandbox_config };
    let mut client = context.client().await?;
    let spinner = Spinner::new(&format!("pulling {}", args.image));
    let pull = client.images.pull_image(request);
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
    drop(spinner);
    let answer = outcome.map_err(|status| failed(&format!("pull {}", args.image), &status))?.into_inner();
    output::print(&format!("Image is up to date for {}", answer.image_ref))?;
    Ok(ExitCode::SUCCESS)
}
