//! `corten inspecti`: everything about images.

use super::Context;
use super::inspect::extra;
use crate::output::{self, Format, json, words};
use cri_api::v1::{Image, ImageSpec, ImageStatusRequest};
use std::process::ExitCode;
use types::{Error, Result};

/// Flags of `inspecti`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The images: id, name or digest
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "json")]
    output: Format,
    /// Leave out what the runtime tells beyond the standard
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let mut objects = Vec::new();
    for name in &args.images {
        let image = Some(ImageSpec { image: name.clone(), ..Default::default() });
        let request = ImageStatusRequest { image, verbose: !args.quiet };
        let what = format!("look at image {name}");
        let answer = context.look(&what, client.images.image_status(request)).await?;
        let Some(image) = answer.image else {
            return Err(Error::not_found(format!("there is no image {name}")));
        };
        if args.output == Format::Table {
            output::print(&output::clean(&(table(&image) + &extra(&answer.info))))?;
        } else {
            objects.push(json::with_info(Some(json::value("Image", &image)?), &answer.info));
        }
    }
    if args.output != Format::Table {
        json::print_objects(objects, args.output == Format::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(image: &Image) -> String {
    let tags = image.repo_tags.iter().map(|tag| format!("Tag: {tag}\n"));
    let digests = image.repo_digests.iter().map(|digest| format!("Digest: {digest}\n"));
    let names: String = tags.chain(digests).collect();
    format!("ID: {}\n{names}Size: {}\n", image.id, words::size(image.size))
}
