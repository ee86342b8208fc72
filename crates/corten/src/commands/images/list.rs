//! `corten images` without a verb of its own: lists images.

use crate::commands::Context;
use crate::output::{self, Format, json, table, words};
use cri_api::v1::{Image, ImageFilter, ImageSpec, ListImagesRequest, ListImagesResponse};
use std::process::ExitCode;
use types::Result;

const NONE: &str = "<none>";

/// Flags of the list.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Only this image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    image: Option<String>,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    /// Print digests too
    #[arg(long)]
    digests: bool,
    /// Print whether images are pinned
    #[arg(long)]
    pinned: bool,
    /// Print everything, one line each
    #[arg(short, long)]
    verbose: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let filter = args
        .image
        .clone()
        .map(|image| ImageFilter { image: Some(ImageSpec { image, ..Default::default() }) });
    let answer = context.look("list images", client.images.list_images(ListImagesRequest { filter })).await?;
    let mut images = answer.images;
    let key = |image: &Image| {
        (image.repo_tags.first().cloned(), image.repo_digests.first().cloned(), image.id.clone())
    };
    images.sort_by_key(key);
    match args.output {
        Format::Table => output::print(&shown(&args, &images))?,
        other => json::print("ListImagesResponse", &ListImagesResponse { images }, other == Format::Yaml)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(args: &Args, images: &[Image]) -> String {
    if args.quiet {
        return images.iter().map(|image| format!("{}\n", image.id)).collect();
    }
    if args.verbose {
        return output::clean(&images.iter().map(verbose).collect::<String>());
    }
    let mut header = vec!["IMAGE", "TAG"];
    if args.digests {
        header.push("DIGEST");
    }
    header.extend(["IMAGE ID", "SIZE"]);
    if args.pinned {
        header.push("PINNED");
    }
    let cut = |id: &str| if args.no_trunc { id.to_owned() } else { words::short(id) };
    let mut rows = Vec::new();
    for image in images {
        let (name, digest) = match image.repo_digests.first().and_then(|digest| digest.split_once('@')) {
            Some((name, digest)) => (name, digest),
            None => (NONE, NONE),
        };
        let tags: Vec<(&str, &str)> = match image.repo_tags.as_slice() {
            [] => vec![(name, NONE)],
            tags => tags.iter().map(|tag| tag.rsplit_once(':').unwrap_or((tag, NONE))).collect(),
        };
        for (name, tag) in tags {
            let mut row = vec![name.to_owned(), tag.to_owned()];
            if args.digests {
                row.push(cut(digest));
            }
            row.extend([cut(&image.id), words::size(image.size)]);
            if args.pinned {
                row.push(image.pinned.to_string());
            }
            rows.push(row);
        }
    }
    table::table(&header, rows)
}

fn verbose(image: &Image) -> String {
    let mut text = format!("ID: {}\n", image.id);
    image.repo_tags.iter().for_each(|tag| text.push_str(&format!("RepoTags: {tag}\n")));
    image.repo_digests.iter().for_each(|digest| text.push_str(&format!("RepoDigests: {digest}\n")));
    text.push_str(&format!("Size: {}\n", image.size));
    if let Some(uid) = &image.uid {
        text.push_str(&format!("Uid: {}\n", uid.value));
    }
    if !image.username.is_empty() {
        text.push_str(&format!("Username: {}\n", image.username));
    }
    if image.pinned {
        text.push_str("Pinned: true\n");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn every_tag_has_a_row_and_an_image_without_one_shows_its_repository() {
        let args = Line::parse_from(["images", "--digests"]).args;
        let images = [
            Image {
                id: "sha256:0123456789abcdef".into(),
                repo_tags: vec!["docker.io/library/busybox:1".into(), "localhost:5000/b:2".into()],
                repo_digests: vec!["docker.io/library/busybox@sha256:fedcba9876543210".into()],
                size: 4_863_451,
                ..Default::default()
            },
            Image {
                id: "sha256:9".into(),
                repo_digests: vec!["q.example/x@sha256:1".into()],
                ..Default::default()
            },
        ];
        let text = shown(&args, &images);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["IMAGE", "TAG", "DIGEST", "IMAGE", "ID", "SIZE"]);
        assert_eq!(rows[1], ["docker.io/library/busybox", "1", "fedcba9876543", "0123456789abc", "4.86MB"]);
        assert_eq!(rows[2][..2], ["localhost:5000/b", "2"]);
        assert_eq!(rows[3][..3], ["q.example/x", "<none>", "1"]);
    }
}
