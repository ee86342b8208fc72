//! Pack: makes an image of a layer that arrives in pieces, and of options.

use super::upload;
use crate::call::{change, concerns};
use crate::check;
use crate::convert::image;
use cri_api::corten_v1::pack_request::Part;
use cri_api::corten_v1::{PackOptions, PackRequest, PackResponse};
use engine::Engine;
use images::PackConfig;
use std::sync::atomic::AtomicU64;
use tokio::sync::mpsc;
use tonic::{Response, Status, Streaming};
use types::{Digest, Error, Reference, Result};

/// Bytes of one text of the configuration, and their number.
const TEXT_MAX: usize = 64 << 10;
const TEXTS_MAX: usize = 1000;

/// The answer comes when the image is recorded.
pub async fn call(
    engine: &Engine,
    request: Streaming<PackRequest>,
) -> Result<Response<PackResponse>, Status> {
    change("Pack", pack(engine, request)).await
}

async fn pack(engine: &Engine, mut request: Streaming<PackRequest>) -> Result<PackResponse> {
    let patience = engine.images().patience();
    let first = upload::next(&mut request, patience).await?;
    let Some(Part::Options(options)) = first.and_then(|first| first.part) else {
        return Err(Error::invalid("the first message of a pack must be its options"));
    };
    let options = read(options)?;
    let (taker, incoming) = mpsc::channel(upload::WAITING);
    let (count, mut diff_id) = (AtomicU64::new(0), None);
    let images = engine.images();
    let feeding = upload::feed(request, patience, taker, &count, |message| match message.part {
        Some(Part::Data(data)) => Ok(Some(data)),
        Some(Part::End(end)) => {
            diff_id = Some(Digest::parse(&end.diff_id)?);
            Ok(None)
        }
        _ => Err(Error::invalid("a pack has its options once, in its first message")),
    });
    let ((), layer) = tokio::join!(feeding, images.store_layer(incoming));
    let layer = layer?;
    let diff_id = diff_id.ok_or_else(|| images::broken_off("its last message is missing"))?;
    let image = images.pack(layer, diff_id, options).await?;
    Ok(PackResponse { image: Some(image::imported(image)) })
}

fn read(wire: PackOptions) -> Result<images::PackOptions> {
    image::named("name", &wire.name)?;
    concerns(&wire.name);
    check::word("base", &wire.base, image::NAME_MAX)?;
    check::text("created", &wire.created, 64)?;
    check::text("created_by", &wire.created_by, TEXT_MAX)?;
    let config = wire.config.unwrap_or_default();
    let lists = [&config.entrypoint, &config.cmd, &config.env, &config.exposed_ports, &config.volumes];
    let texts = lists.into_iter().flatten().chain(config.labels.iter().flat_map(|(key, value)| [key, value]));
    let singles = [&config.user, &config.working_dir, &config.stop_signal];
    for (at, text) in texts.chain(singles).enumerate() {
        check::text("config", text, TEXT_MAX)?;
        if at >= TEXTS_MAX {
            return Err(Error::invalid(format!("config: it has more than {TEXTS_MAX} texts")));
        }
    }
    Ok(images::PackOptions {
        name: Reference::parse(&wire.name)?,
        base: (!wire.base.is_empty()).then_some(wire.base),
        created: (!wire.created.is_empty()).then_some(wire.created),
        created_by: wire.created_by,
        config: PackConfig {
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env,
            user: config.user,
            working_dir: config.working_dir,
            exposed_ports: config.exposed_ports,
            labels: config.labels.into_iter().collect(),
            stop_signal: config.stop_signal,
            volumes: config.volumes,
        },
    })
}
