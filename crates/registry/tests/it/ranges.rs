//! Parts of blobs, and what registries list.

use crate::open;
use crate::server::{Reply, Server, digest, noise};
use bytes::Bytes;

async fn all(mut arriving: registry::Arriving) -> Bytes {
    let mut bytes = Vec::new();
    while let Some(part) = arriving.next().await.expect("part") {
        bytes.extend_from_slice(&part);
    }
    bytes.into()
}

#[tokio::test]
async fn a_range_is_fetched_alone_where_the_server_honours_ranges() {
    let blob = noise(100_000, 1);
    let content = blob.clone();
    let server = Server::start(move |seen| Reply::ranged(seen, &content)).await;
    let session = open(&server.name("app:1"), None);
    let part = session.blob_range(&digest(&blob), 1000, 51_000).await.expect("range");
    assert!(part.ranged);
    assert_eq!(part.total, Some(100_000));
    assert_eq!(all(part).await, blob.slice(1000..51_000));
    assert_eq!(server.seen()[0].header("range"), Some("bytes=1000-50999"));
    // Past the end: what there is.
    assert_eq!(
        all(session.blob_range(&digest(&blob), 99_000, 200_000).await.expect("range")).await,
        blob.slice(99_000..)
    );
    session.blob_range(&digest(&blob), 5, 5).await.err().expect("an empty part");
}

#[tokio::test]
async fn a_server_without_ranges_gives_the_same_bytes_and_that_is_told() {
    let blob = noise(100_000, 2);
    let content = blob.clone();
    let server = Server::start(move |_| Reply::new(200, content.clone())).await;
    let session = open(&server.name("app:1"), None);
    let part = session.blob_range(&digest(&blob), 1000, 51_000).await.expect("range");
    assert!(!part.ranged);
    assert_eq!(all(part).await, blob.slice(1000..51_000));
}

#[tokio::test]
async fn a_server_that_sends_more_than_was_asked_for_is_cut_off_and_another_start_is_corrected() {
    let blob = noise(10_000, 3);
    let content = blob.clone();
    let server = Server::start(move |seen| {
        let start = if seen.header("range").is_some_and(|r| r.contains("6000")) { 7000 } else { 500 };
        Reply::new(206, content.slice(start..)).with("content-range", format!("bytes {start}-9999/10000"))
    })
    .await;
    let session = open(&server.name("app:1"), None);
    assert_eq!(
        all(session.blob_range(&digest(&blob), 1000, 2000).await.expect("range")).await,
        blob.slice(1000..2000)
    );
    let error = session.blob_range(&digest(&blob), 6000, 8000).await.err().expect("too late a start");
    assert!(error.to_string().contains("starts at 7000, not 6000"), "{error}");
}

#[tokio::test]
async fn a_blobs_size_is_told_without_fetching_it() {
    let server = Server::start(|seen| match seen.path.contains("aaaa") {
        true => Reply::new(200, "").with("content-length", "12345").with("accept-ranges", "bytes"),
        false => Reply::error(404, "BLOB_UNKNOWN", "no"),
    })
    .await;
    let session = open(&server.name("app:1"), None);
    let of = |c: &str| types::Digest::parse(&format!("sha256:{}", c.repeat(64))).expect("digest");
    let head = session.blob_head(&of("a")).await.expect("head").expect("there");
    assert_eq!((head.size, head.ranges), (Some(12345), true));
    assert_eq!(session.blob_head(&of("b")).await.expect("head"), None);
    assert_eq!(server.count("GET", ""), 0);
}

#[tokio::test]
async fn tags_and_referrers_are_listed_page_by_page_within_bounds() {
    let image = digest(b"image");
    let signature = digest(b"signature");
    let subject = image.clone();
    let server = Server::start(move |seen| {
        if seen.path.contains("/tags/list") {
            return match seen.path.contains("last=b") {
                false => Reply::new(200, r#"{"name":"app","tags":["a","b"]}"#)
                    .with("link", "</v2/app/tags/list?n=2&last=b>; rel=\"next\""),
                // A circle.
                true => Reply::new(200, r#"{"name":"app","tags":["c","d"]}"#)
                    .with("link", "</v2/app/tags/list?n=2&last=b>; rel=\"next\""),
            };
        }
        assert!(seen.path.contains(subject.as_str()));
        let list = format!(
            r#"{{"schemaVersion":2,"manifests":[
            {{"digest":"{signature}","size":7,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"sig","annotations":{{"a":"b"}}}},
            {{"digest":"{signature}","size":7,"artifactType":"sig"}},{{"digest":"nonsense","artifactType":"sig"}},
            {{"digest":"{subject}","size":1,"artifactType":"other"}}]}}"#
        );
        Reply::new(200, list).with("content-type", "application/vnd.oci.image.index.v1+json")
    })
    .await;
    let session = open(&server.name("app:1"), None);
    assert_eq!(session.tags(100).await.expect("tags"), ["a", "b", "c", "d"]);
    assert_eq!(session.tags(3).await.expect("tags"), ["a", "b", "c"]);
    let all = session.referrers(&image, Some("sig")).await.expect("referrers");
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].digest.clone(), all[0].size, all[0].annotations["a"].as_str()),
        (digest(b"signature"), 7, "b")
    );
    assert_eq!(session.referrers(&image, None).await.expect("referrers").len(), 2);
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_is_asked_for_the_tag_that_stands_in_for_it() {
    let image = digest(b"image");
    let tag = format!("/manifests/sha256-{}", image.hex());
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":3}}]}}"#, digest(b"sig"));
    let server = Server::start(move |seen| match seen.path.ends_with(&tag) {
        true => {
            Reply::new(200, index.clone()).with("content-type", "application/vnd.oci.image.index.v1+json")
        }
        false if seen.path.contains("/referrers/") => Reply::new(404, "404 page not found"),
        false => Reply::error(404, "MANIFEST_UNKNOWN", "no"),
    })
    .await;
    let session = open(&server.name("app:1"), None);
    assert_eq!(session.referrers(&image, None).await.expect("referrers").len(), 1);
    assert_eq!(session.referrers(&digest(b"other"), None).await.expect("referrers"), []);
}
