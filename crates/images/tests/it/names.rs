//! Short names, and `registries.conf` as it is at each pull.

use crate::image::Image;
use crate::node::{Node, Settings};
use crate::server::{Reply, Server, Shelf};
use corten_images::Auth;
use types::{ErrorKind, Reference};

fn node(conf: String) -> Node {
    Node::with(Settings { registries_conf: Some(conf), ..Settings::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_is_pulled_from_where_it_is_first_found_and_is_found_by_it() {
    let image = Image::small("app");
    let empty = Server::start(Shelf::default(), |_| None).await;
    let good = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = node(format!(
        "unqualified-search-registries = [\"{}\", \"{}\"]\n[aliases]\ntool = \"{}/team/app\"",
        empty.addr, good.addr, good.addr
    ));
    let record = node.images.pull_named("app:v1", None, None).await.expect("pull");
    assert_eq!(record.names, [format!("{}/app:v1", good.addr)]);
    assert_eq!(empty.count("GET", "/v2/app/manifests/v1"), 1);
    for name in ["app:v1", &format!("{}/app:v1", good.addr)] {
        assert_eq!(node.images.find(name).expect(name).id, record.id);
    }
    assert!(node.images.find("app:v2").is_none() && node.images.find("docker.io/library/app:v1").is_none());
    node.images.pull_named("tool:v1", None, None).await.expect("by alias");
    assert!(node.images.hold_image("c", "tool:v1").is_some());
    node.images.release("c");
    node.images.remove("tool:v1").await.expect("remove");
    assert!(node.images.list().is_empty());
    let error = node.images.pull_named("other", None, None).await.expect_err("nowhere");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.chain();
    assert!(text.contains(&empty.addr.to_string()) && text.contains(&good.addr.to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_a_short_name_go_to_no_search_registry() {
    let asking =
        Server::start(Shelf::default(), |_| Some(Reply::new(401, "").with("www-authenticate", "Basic")))
            .await;
    let node = node(format!("unqualified-search-registries = [\"{}\"]", asking.addr));
    let alice = Auth { username: Some("alice".into()), password: Some("s3cret".into()), ..Auth::default() };
    let error = node.images.pull_named("app:v1", Some(alice.clone()), None).await.expect_err("none for it");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(asking.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", asking.seen());
    // Named as this registry's they do.
    let named = Auth { server_address: Some(asking.addr.to_string()), ..alice };
    node.images.pull_named("app:v1", Some(named), None).await.expect_err("refused");
    assert!(asking.seen().iter().any(|seen| seen.authorization.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_registries_conf_counts_at_the_next_pull() {
    let server = Server::start(Shelf::default().with("v1", &Image::small("app")), |_| None).await;
    let node = node(String::new());
    let name = Reference::parse("example.org/app:v1").expect("reference");
    let write = |text: String| std::fs::write(node.root.join("registries.conf"), text).expect("write");
    write(format!("[[registry]]\nprefix = \"example.org\"\nlocation = \"{}\"", server.addr));
    let record = node.images.pull(&name, None, None).await.expect("moved");
    assert_eq!(record.names, ["example.org/app:v1"], "the image has the name it was asked for by");
    write(format!("[[registry]]\nprefix = \"example.org\"\nlocation = \"{}\"\nblocked = true", server.addr));
    let error = node.images.pull(&name, None, None).await.expect_err("blocked");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.chain().contains("is blocked") && error.chain().contains("registries.conf"),
        "{}",
        error.chain()
    );
}
