//! `corten pack`: a folder, or one program, as an image. The layer is made here, in the same bytes whenever the same
//! files are packed; the runtime makes the image around it.

mod elf;
mod layer;

use super::upload::{Upload, both};
use super::{Context, failed, pair};
use crate::output;
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::pack_request::Part;
use cri_api::corten_v1::{PackConfig, PackEnd, PackOptions, PackRequest, PackResponse};
use layer::{Compression, Plan, Source};
use std::path::PathBuf;
use std::process::ExitCode;
use types::{Error, ErrorKind, Result};

const AFTER: &str = "\
Owners become root, and times that of SOURCE_DATE_EPOCH (seconds since 1970), or 1970: the same files give the same \
image, with the same digests. Extended attributes are left out.

A program has to be linked statically, unless --base has its libraries. It lies in the root of the image, and is its \
entrypoint.

  corten pack ./site -t site:1 --base nginx:1.27 --at /usr/share/nginx/html
  corten pack ./target/release/hello -t hello:1 --port 8080";

/// Flags of `pack`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The folder, or the program
    #[arg(value_name = "FOLDER|PROGRAM")]
    source: PathBuf,
    /// Name of the image
    #[arg(short = 't', long, value_name = "NAME[:TAG]")]
    name: String,
    /// The image below; it must be here
    #[arg(short, long, value_name = "IMAGE")]
    base: Option<String>,
    /// Where in the image the files go
    #[arg(long, value_name = "PATH", default_value = "/")]
    at: PathBuf,
    /// Program and first arguments, once for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// Arguments, once for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Who runs it
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Where it starts
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<PathBuf>,
    /// Port that it listens on; information only; may be repeated
    #[arg(short, long, value_name = "PORT[/PROTOCOL]", value_parser = port)]
    port: Vec<String>,
    /// Label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Path that is a volume; may be repeated
    #[arg(long, value_name = "PATH")]
    volume: Vec<String>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How the layer is compressed
    #[arg(long, value_enum, default_value = "gzip")]
    compression: Compression,
    /// Print the id only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let what = format!("pack {}", args.source.display());
    let source = Source::open(&args.source, args.base.is_some())?;
    let time = epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let plan = Plan { at: args.at.clone(), time, compression: args.compression };
    let mut entrypoint = args.entrypoint;
    if let (Source::Program(_, name), true) = (&source, entrypoint.is_empty()) {
        entrypoint.push(layer::place(&args.at, name)?.display().to_string());
    }
    let created_by = match &source {
        Source::Folder(..) => format!("corten pack FOLDER --at {}", args.at.display()),
        Source::Program(_, name) => format!("corten pack {} --at {}", name.display(), args.at.display()),
    };
    let options = PackOptions {
        name: args.name,
        base: args.base.unwrap_or_default(),
        created: types::time::rfc3339_nanos(
            i64::try_from(time).unwrap_or(i64::MAX).saturating_mul(1_000_000_000),
        ),
        created_by,
        config: Some(PackConfig {
            entrypoint,
            cmd: args.cmd,
            env: args.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            user: args.user.unwrap_or_default(),
            working_dir: args.workdir.map(|path| path.display().to_string()).unwrap_or_default(),
            exposed_ports: args.port,
            labels: args.label.into_iter().collect(),
            stop_signal: args.stop_signal.unwrap_or_default(),
            volumes: args.volume,
        }),
    };
    let (channel, _) = context.connect().await?;
    let first = PackRequest { part: Some(Part::Options(options)) };
    let (upload, messages) = Upload::new(first, |data| PackRequest { part: Some(Part::Data(data)) });
    let packing = tokio::task::spawn_blocking(move || {
        let (upload, diff_id) = layer::write(&source, &plan, upload)?;
        upload.finish(Some(PackRequest { part: Some(Part::End(PackEnd { diff_id })) }))
    });
    let _spinner = output::progress::Spinner::new(&what);
    let call = async { Ok(ImagesClient::new(channel).pack(messages).await?.into_inner()) };
    let answer: PackResponse = both(&what, packing, call).await?.map_err(|status| failed(&what, &status))?;
    drop(_spinner);
    let image = answer.image.unwrap_or_default();
    output::print(&super::images::said(&image, args.quiet))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads `80`, `80/tcp`, `53/udp`, as an image's configuration has them.
fn port(text: &str) -> Result<String, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = ["tcp", "udp", "sctp"].contains(&protocol);
    match number.parse::<u16>() {
        Ok(port) if port > 0 && known => Ok(format!("{port}/{protocol}")),
        _ => Err(format!("{text:?} is no port; write it as 8080, 8080/tcp or 53/udp")),
    }
}

/// The time that all files get, by the convention of reproducible builds.
fn epoch(text: Option<&str>) -> Result<u64> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse().ok().filter(|seconds| *seconds <= 253_402_300_799).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("SOURCE_DATE_EPOCH is {text:?}, which is no number of seconds since 1970"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_images_have_them() {
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert_eq!(port("53/udp").unwrap(), "53/udp");
        for bad in ["", "0", "65536", "80/x", "a", "/tcp"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_time_is_1970_unless_the_environment_says_another() {
        assert_eq!(epoch(None).unwrap(), 0);
        assert_eq!(epoch(Some("1700000000")).unwrap(), 1_700_000_000);
        assert!(epoch(Some("yesterday")).is_err() && epoch(Some("-1")).is_err());
    }
}
