//! `corten images check`: asks the daemon to look at all that is recorded, says what is damaged, and shows how each
//! image is.

use crate::commands::pull::Credentials;
use crate::commands::{Context, failed};
use crate::output::transfer::Transfer;
use crate::output::{self, table, words};
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::{CheckFinished, CheckRequest, CheckedImage, Damage, check_event::Event};
use std::process::ExitCode;
use tonic::Status;
use types::{Error, ErrorKind, Result};

const AFTER: &str = "\
Every blob is read and hashed, and every unpacked layer is compared with its archive, byte by byte; where archives are not \
kept (images.discard_unpacked), with a number that was taken of all of it when it was unpacked. Encrypted layers are opened \
with the keys that are there; of those without, only the size is compared. With --repair a whole layer is put beside a \
damaged one and takes its place; containers that run go on with the old one until they are made again. What is here \
nowhere whole is fetched by the image's recorded digest. The exit status is 1 where something stays damaged.";

/// Flags of `images check`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Only these images: id, name or digest
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Make whole again what is damaged or missing
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    credentials: Credentials,
}

/// Runs the verb. It fails where something is damaged and was not repaired.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let auth = args.credentials.config()?;
    let request = CheckRequest { images: args.images, repair: args.repair, auth };
    let (channel, _) = context.connect().await?;
    let what = "check the images";
    let mut events =
        ImagesClient::new(channel).check(request).await.map_err(|s| failed(what, &s))?.into_inner();
    let mut damages = Vec::new();
    let mut shown: Option<Transfer> = None;
    while let Some(event) = events.message().await.map_err(|s| failed(what, &s))? {
        match event.event {
            Some(Event::Damage(damage)) => damages.push(damage),
            Some(Event::Finished(finished)) => {
                drop(shown);
                output::print(&output::clean(&report(&finished, &damages)))?;
                let well = damages.iter().all(|damage| damage.repaired);
                return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Some(Event::Progress(progress)) => {
                shown.get_or_insert_with(|| Transfer::new("reading", progress.total)).at(progress.done);
            }
            None => {}
        }
    }
    let status = Status::unavailable("the runtime's answer ended before the check did");
    Err(Error::with_source(ErrorKind::Unavailable, format!("cannot {what}"), status))
}

/// A table of images, then what is wrong, each thing in a line of its own.
fn report(finished: &CheckFinished, damages: &[Damage]) -> String {
    let rows = finished.images.iter().map(|image| {
        vec![
            image.name.clone(),
            words::short(&image.image_ref),
            image.damaged.to_string(),
            state(image).to_owned(),
        ]
    });
    let mut text = table::table(&["IMAGE", "IMAGE ID", "DAMAGED", "STATE"], rows.collect());
    for damage in damages {
        text.push_str(&format!("{}\n", sentence(damage)));
    }
    text + &summary(finished)
}

fn state(image: &CheckedImage) -> &'static str {
    match (image.damaged, image.repaired) {
        (0, _) => "whole",
        (damaged, repaired) if damaged == repaired => "repaired",
        _ => "damaged",
    }
}

fn sentence(damage: &Damage) -> String {
    let kind = if damage.layer { "layer" } else { "blob" };
    let end = match (damage.repaired, damage.why_not.as_str()) {
        (true, _) => "; it is whole again".to_owned(),
        (false, "") => String::new(),
        (false, why) => format!("; it could not be repaired: {why}"),
    };
    let mut text = format!("{kind} {} of {}: {}{end}", damage.digest, damage.images.join(", "), damage.what);
    if !damage.containers.is_empty() {
        let ids: Vec<String> = damage.containers.iter().map(|id| words::short(id)).collect();
        text.push_str(&format!(
            "; make these containers again, they run on the damaged layer: {}",
            ids.join(" ")
        ));
    }
    text
}

fn summary(f: &CheckFinished) -> String {
    let mut text = format!(
        "{} images, {} blobs and {} layers were looked at, {}",
        f.images.len(),
        f.blobs,
        f.layers + f.measured,
        words::size(f.bytes)
    );
    if f.measured > 0 {
        text.push_str(&format!("; of {} layers only the size was compared", f.measured));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_each_image_and_says_what_to_do() {
        let image = |name: &str, damaged, repaired| CheckedImage {
            image_ref: format!("sha256:{}", "ab".repeat(32)),
            name: name.into(),
            damaged,
            repaired,
        };
        let finished = CheckFinished {
            images: vec![image("h.io/a:1", 0, 0), image("h.io/b:1", 1, 1), image("h.io/c:1", 2, 1)],
            blobs: 7,
            layers: 3,
            bytes: 4_863_451,
            measured: 1,
        };
        let damage = Damage {
            digest: "sha256:cd".into(),
            layer: true,
            images: vec!["h.io/c:1".into()],
            what: "/etc/passwd has other content from byte 3 on".into(),
            repaired: false,
            why_not: "the registry is away".into(),
            containers: vec!["0123456789abcdef0123".into()],
        };
        let text = report(&finished, &[damage]);
        let lines: Vec<&str> = text.lines().collect();
        for (line, state) in lines[1..4].iter().zip(["whole", "repaired", "damaged"]) {
            assert!(line.ends_with(state), "{text}");
        }
        assert!(lines[4].starts_with("layer sha256:cd of h.io/c:1: /etc/passwd has other content"), "{text}");
        assert!(lines[4].contains("could not be repaired: the registry is away"), "{text}");
        assert!(lines[4].contains("make these containers again"), "{text}");
        assert!(lines[5].contains("4 layers") && lines[5].contains("of 1 layers only the size"), "{text}");
    }
}
