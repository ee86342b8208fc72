//! `corten imagefsinfo`: what images and writable layers take on disk.

use super::Context;
use crate::output::{self, Format, json, words};
use cri_api::v1::{FilesystemUsage, ImageFsInfoRequest};
use std::process::ExitCode;
use types::Result;

/// Flags of `imagefsinfo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "json")]
    output: Format,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let call = client.images.image_fs_info(ImageFsInfoRequest {});
    let answer = context.look("ask for the use of disk", call).await?;
    if args.output == Format::Table {
        let text =
            table("Container", &answer.container_filesystems) + &table("Image", &answer.image_filesystems);
        output::print(&output::clean(&text))?;
    } else {
        let value = json::with_info(Some(json::value("ImageFsInfoResponse", &answer)?), &Default::default());
        json::print_objects(vec![value], args.output == Format::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(title: &str, list: &[FilesystemUsage]) -> String {
    let mut text = format!("{title} Filesystem \n");
    for (index, usage) in list.iter().enumerate() {
        let number = |value: &Option<cri_api::v1::UInt64Value>| value.as_ref().map_or(0, |value| value.value);
        let mount = usage.fs_id.clone().unwrap_or_default().mountpoint;
        text.push_str(&format!(
            "TimeStamp[{index}]: {}\nDisk[{index}]: {}\nInodes[{index}]: {}\nMountpoint[{index}]: {mount}\n",
            usage.timestamp,
            words::size(number(&usage.used_bytes)),
            number(&usage.inodes_used),
        ));
    }
    text
}
