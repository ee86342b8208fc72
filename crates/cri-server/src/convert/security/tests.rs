//! Tests of namespaces, profiles, users and labels.

use super::*;
use crate::convert::testing::refused;
use v1::security_profile::ProfileType;

const POD: i32 = v1::NamespaceMode::Pod as i32;
const CONTAINER: i32 = v1::NamespaceMode::Container as i32;
const NODE: i32 = v1::NamespaceMode::Node as i32;
const TARGET: i32 = v1::NamespaceMode::Target as i32;

fn range(host_id: u32, container_id: u32, length: u32) -> v1::IdMapping {
    v1::IdMapping { host_id, container_id, length }
}

fn user(mode: i32, uids: Vec<v1::IdMapping>, gids: Vec<v1::IdMapping>) -> Option<v1::UserNamespace> {
    Some(v1::UserNamespace { mode, uids, gids })
}

#[test]
fn namespaces_survive_a_round_trip() {
    for wire in [
        v1::NamespaceOption::default(),
        v1::NamespaceOption { network: NODE, pid: CONTAINER, ipc: NODE, ..Default::default() },
        v1::NamespaceOption { pid: TARGET, target_id: "ab".into(), ..Default::default() },
        v1::NamespaceOption {
            userns_options: user(POD, vec![range(65_536, 0, 65_536)], vec![range(65_536, 0, 65_536)]),
            ..Default::default()
        },
        v1::NamespaceOption { userns_options: user(NODE, vec![], vec![]), ..Default::default() },
    ] {
        let options = namespaces("n", Some(wire.clone()), Owner::Container).expect("sound");
        assert_eq!(namespaces_to_wire(&options), wire);
    }
}

#[test]
fn namespaces_that_cannot_be_shared_that_way_are_refused() {
    let bad = |wire: v1::NamespaceOption, owner: Owner, field: &str, part: &str| {
        refused(namespaces("n", Some(wire), owner), field, part);
    };
    let n = v1::NamespaceOption::default;
    bad(v1::NamespaceOption { network: CONTAINER, ..n() }, Owner::Pod, "n.network", "POD and NODE");
    bad(v1::NamespaceOption { network: TARGET, ..n() }, Owner::Container, "n.network", "POD and NODE");
    bad(v1::NamespaceOption { ipc: CONTAINER, ..n() }, Owner::Pod, "n.ipc", "POD and NODE");
    bad(v1::NamespaceOption { pid: TARGET, target_id: "a".into(), ..n() }, Owner::Pod, "n.pid", "containers");
    bad(v1::NamespaceOption { pid: TARGET, ..n() }, Owner::Container, "n.target_id", "empty");
    bad(v1::NamespaceOption { target_id: "../x".into(), ..n() }, Owner::Container, "n.target_id", "slash");
    bad(v1::NamespaceOption { pid: 4, ..n() }, Owner::Container, "n.pid", "CRI v1");
    bad(v1::NamespaceOption { network: -1, ..n() }, Owner::Container, "n.network", "CRI v1");
}

#[test]
fn user_namespaces_without_a_sound_mapping_are_refused() {
    let bad = |userns: Option<v1::UserNamespace>, field: &str, part: &str| {
        let wire = v1::NamespaceOption { userns_options: userns, ..Default::default() };
        refused(namespaces("n", Some(wire), Owner::Pod), &format!("n.userns_options{field}"), part);
    };
    let whole = || vec![range(65_536, 0, 65_536)];
    bad(user(POD, vec![], vec![]), "", "needs uids and gids");
    bad(user(POD, whole(), vec![]), "", "needs uids and gids");
    bad(user(NODE, whole(), whole()), "", "mode NODE has no mapping");
    bad(user(CONTAINER, whole(), whole()), ".mode", "POD and NODE");
    bad(user(POD, vec![range(0, 0, 0)], whole()), ".uids", "not a range");
    bad(user(POD, vec![range(u32::MAX, 0, 2)], whole()), ".uids", "not a range");
    bad(user(POD, whole(), vec![range(0, u32::MAX, 2)]), ".gids", "not a range");
    bad(user(POD, whole(), vec![range(0, 0, 1); MAPPINGS_MAX + 1]), ".gids", "too many");
}

#[test]
fn old_profile_texts_mean_what_they_mean_to_containerd() {
    let old = |text: &str| profile("p", None, text, Profile::Seccomp);
    assert_eq!(old("").expect("unset"), SecurityProfile::Unset);
    assert_eq!(old("runtime/default").expect("default"), SecurityProfile::RuntimeDefault);
    assert_eq!(old("docker/default").expect("default"), SecurityProfile::RuntimeDefault);
    assert_eq!(old("unconfined").expect("none"), SecurityProfile::Unconfined);
    assert_eq!(old("localhost//a/b.json").expect("a file"), SecurityProfile::Localhost("/a/b.json".into()));
    refused(old("nonsense"), "p", "not a profile");
    assert_eq!(old("localhost/a").expect("a file"), SecurityProfile::Localhost("a".into()));
}

#[test]
fn the_new_profile_wins_over_the_old_text() {
    let new =
        v1::SecurityProfile { profile_type: ProfileType::Unconfined.into(), localhost_ref: String::new() };
    let got = profile("p", Some(new), "runtime/default", Profile::AppArmor).expect("sound");
    assert_eq!(got, SecurityProfile::Unconfined);
}

#[test]
fn profiles_of_the_node_are_a_straight_path_or_a_name() {
    let local = |reference: &str, kind| {
        let profile_type = ProfileType::Localhost.into();
        profile("p", Some(v1::SecurityProfile { profile_type, localhost_ref: reference.into() }), "", kind)
    };
    let is = |text: &str| SecurityProfile::Localhost(text.into());
    assert_eq!(local("/x/y.json", Profile::Seccomp).expect("a file"), is("/x/y.json"));
    assert_eq!(local("localhost/k8s-nginx", Profile::AppArmor).expect("a name"), is("k8s-nginx"));
    refused(local("", Profile::Seccomp), "p.profile_type", "empty");
    assert_eq!(local("x/y.json", Profile::Seccomp).expect("a file"), is("x/y.json"));
    refused(local("x/../../y.json", Profile::Seccomp), "p.profile_type", "goes up");
    refused(local("/x/../../etc/y", Profile::Seccomp), "p.profile_type", "goes up");
    refused(local("", Profile::AppArmor), "p.profile_type", "empty");
    refused(local("a\nb", Profile::AppArmor), "p.profile_type", "control character");
    let unknown = v1::SecurityProfile { profile_type: 3, localhost_ref: String::new() };
    refused(profile("p", Some(unknown), "", Profile::Seccomp), "p.profile_type", "CRI v1");
}

#[test]
fn labels_of_selinux_are_words() {
    let label = v1::SeLinuxOption { r#type: "spc_t".into(), ..Default::default() };
    assert_eq!(selinux("s", Some(label)).expect("sound").expect("a label").kind, "spc_t");
    assert_eq!(selinux("s", Some(v1::SeLinuxOption::default())).expect("sound"), None);
    let bad = v1::SeLinuxOption { level: "s0 c1".into(), ..Default::default() };
    refused(selinux("s", Some(bad)), "s", "white space");
}

#[test]
fn users_and_groups_out_of_range_are_refused() {
    assert_eq!(number("u", Some(v1::Int64Value { value: 0 })).expect("root"), Some(0));
    assert_eq!(number("u", None).expect("absent"), None);
    refused(number("u", Some(v1::Int64Value { value: -1 })), "u", "not a user or group id");
    refused(number("u", Some(v1::Int64Value { value: 1 << 32 })), "u", "not a user or group id");
    refused(groups("g", vec![1, i64::from(u32::MAX)]), "g", "not a user or group id");
    refused(groups("g", vec![0; GROUPS_MAX + 1]), "g", "too many");
    refused(strict_groups("p", 2), "p", "CRI v1");
    assert!(strict_groups("p", 1).expect("Strict"));
}
