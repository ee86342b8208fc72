//! Pushing by the OCI distribution specification: one POST and one PUT per blob, then the manifests.

use crate::image::Blob;
use crate::{Image, Problem, Result, http};
use std::net::SocketAddr;

/// Puts an image under `tag`; blobs that are there already are not sent again.
pub(super) fn push(address: SocketAddr, repo: &str, tag: &str, image: &Image) -> Result<()> {
    for blob in &image.blobs {
        push_blob(address, repo, blob)?;
    }
    for manifest in &image.manifests {
        push_manifest(address, repo, manifest.digest.as_str(), manifest)?;
    }
    push_manifest(address, repo, tag, &image.top)
}

fn push_blob(address: SocketAddr, repo: &str, blob: &Blob) -> Result<()> {
    let known = http::request(address, "HEAD", &format!("/v2/{repo}/blobs/{}", blob.digest), &[], &[])?;
    if known.status == 200 {
        return Ok(());
    }
    let begun = http::request(address, "POST", &format!("/v2/{repo}/blobs/uploads/"), &[], &[])?;
    let location = begun
        .header("location")
        .filter(|_| begun.status == 202)
        .ok_or_else(|| refused("begin an upload", repo, begun.status, &begun.text()))?;
    // The location may be absolute; only its path and query are ours to use.
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => location,
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{separator}digest={}", blob.digest);
    let put =
        http::request(address, "PUT", &path, &[("Content-Type", "application/octet-stream")], &blob.data)?;
    if put.status == 201 { Ok(()) } else { Err(refused("push a blob", repo, put.status, &put.text())) }
}

fn push_manifest(address: SocketAddr, repo: &str, name: &str, manifest: &Blob) -> Result<()> {
    let path = format!("/v2/{repo}/manifests/{name}");
    let put =
        http::request(address, "PUT", &path, &[("Content-Type", &manifest.media_type)], &manifest.data)?;
    if put.status == 201 { Ok(()) } else { Err(refused("push a manifest", repo, put.status, &put.text())) }
}

fn refused(what: &str, repo: &str, status: u16, text: &str) -> Problem {
    Problem(format!("cannot {what} of {repo}: the registry answered {status}: {}", text.trim()))
}
