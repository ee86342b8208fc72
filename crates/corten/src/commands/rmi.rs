//! `corten rmi`: removes images. `--prune` keeps those that a container was made from, and pinned ones.

use super::{CHANGE, Context, each, failed, limited};
use crate::output::{self, words};
use cri_api::corten_v1::{PruneRequest, images_client::ImagesClient};
use cri_api::v1::{
    ImageSpec, ImageStatusRequest, ListContainersRequest, ListImagesRequest, RemoveImageRequest,
};
use runtime_manager::Client;
use std::collections::BTreeSet;
use std::process::ExitCode;
use tonic::transport::Channel;
use types::{Error, ErrorKind, Result};

/// Flags of `rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Every image
    #[arg(short, long, conflicts_with = "prune")]
    all: bool,
    /// Every image that no container uses
    #[arg(short = 'q', long)]
    prune: bool,
    /// The images: id, name or digest
    #[arg(value_name = "IMAGE", required_unless_present_any = ["all", "prune"])]
    images: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (channel, _) = context.connect().await?;
    let mut client = Client::new(channel.clone());
    let mut names = args.images;
    if args.prune
        && let Some(code) = prune(channel).await?
    {
        return Ok(code);
    }
    if args.all || args.prune {
        let call = client.images.list_images(ListImagesRequest { filter: None });
        let images = context.look("list images", call).await?.images;
        let used = if args.prune { used(context, &client).await? } else { BTreeSet::new() };
        let keep = |image: &cri_api::v1::Image| args.prune && (image.pinned || used.contains(&image.id));
        names.extend(images.iter().filter(|image| !keep(image)).map(|image| image.id.clone()));
    }
    each(&names, |name| remove(context, client.clone(), name)).await
}

/// Lets the runtime choose and remove in one step, so that no container that is being made loses its image. `None` where
/// it cannot: another runtime. Then it is done image by image.
async fn prune(channel: Channel) -> Result<Option<ExitCode>> {
    let call = async {
        ImagesClient::new(channel)
            .prune(PruneRequest { dry_run: false })
            .await
            .map(|pruned| pruned.into_inner())
    };
    let pruned = match tokio::time::timeout(CHANGE, call).await {
        Ok(Ok(pruned)) => pruned,
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => return Ok(None),
        Ok(Err(status)) => return Err(failed("remove unused images", &status)),
        Err(_) => {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("cannot remove unused images: the runtime did not answer within {CHANGE:?}"),
            ));
        }
    };
    for image in &pruned.images {
        image.names.iter().try_for_each(|name| output::print(&output::clean(&format!("Deleted: {name}"))))?;
    }
    if !pruned.images.is_empty() {
        output::print(&format!("Freed: {}", words::size(pruned.freed_bytes)))?;
    }
    Ok(Some(ExitCode::SUCCESS))
}

async fn remove(context: &Context, mut client: Client, name: String) -> Result<()> {
    let spec = ImageSpec { image: name.clone(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
    let what = format!("look at image {name}");
    let Some(image) = context.look(&what, client.images.image_status(request)).await?.image else {
        return Err(Error::not_found(format!("there is no image {name}")));
    };
    let request = RemoveImageRequest { image: Some(spec) };
    limited(CHANGE, &format!("remove image {name}"), client.images.remove_image(request)).await?;
    let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
    names.iter().try_for_each(|name| output::print(&output::clean(&format!("Deleted: {name}"))))
}

/// Ids of the images that containers were made from.
async fn used(context: &Context, client: &Client) -> Result<BTreeSet<String>> {
    let (mut runtime, mut images) = (client.runtime.clone(), client.images.clone());
    let call = runtime.list_containers(ListContainersRequest { filter: None });
    let containers = context.look("list containers", call).await?.containers;
    let mut used = BTreeSet::new();
    for container in containers {
        let image = container.image.unwrap_or_default();
        let request = ImageStatusRequest { image: Some(image), verbose: false };
        // What cannot be looked up must not be removed for that.
        let answer = context.look("look at a container's image", images.image_status(request)).await;
        match answer {
            Ok(answer) => used.extend(answer.image.map(|image| image.id)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        used.insert(container.image_id);
    }
    Ok(used)
}
