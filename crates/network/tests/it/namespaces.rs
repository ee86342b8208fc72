//! Pinned namespaces.

use crate::node::{links, on_a_node};
use corten_network::netns::{self, Netns};
use std::path::Path;

#[test]
fn a_pinned_namespace_lives_until_it_is_unpinned_and_only_namespaces_are_pinned() {
    on_a_node("pin", |node| async move {
        let pod = node.pod("pod");
        assert_eq!(pod.inside(links), ["lo"]);
        let target = node.path("second");
        // Pinning again on the same file, as a retry would, needs unpinning once only.
        for _ in 0..2 {
            netns::pin(&pod.config.netns, &target).expect("pin");
        }
        let first = Netns::open(&pod.config.netns).expect("open").expect("there");
        assert!(first.same(&Netns::open(&target).expect("open").expect("there")));
        netns::unpin(&target).expect("unpin");
        netns::unpin(&target).expect("unpinning what is gone is fine");
        assert!(Netns::open(&target).expect("open").is_none() && !target.exists());

        let error = netns::pin(Path::new("/etc/hostname"), &target).expect_err("no namespace");
        assert!(error.chain().contains("not a network namespace") && !target.exists(), "{}", error.chain());
        assert!(netns::pin(Path::new("/proc/1/ns/nothing"), &target).is_err() && !target.exists());
        std::os::unix::fs::symlink("/etc/hostname", node.path("link")).expect("link");
        assert!(netns::pin(&pod.config.netns, &node.path("link")).is_err(), "a link is not followed");
        // A plain file, as a reboot leaves it, is no namespace.
        std::fs::write(&target, "").expect("write");
        assert!(Netns::open(&target).expect("open").is_none());
        netns::unpin(&target).expect("unpin");
    });
}
