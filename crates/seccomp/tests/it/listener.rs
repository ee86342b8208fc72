//! Flags of a filter, and the profiles that ask a supervisor (SCMP_ACT_NOTIFY).

use crate::machine::{Data, run};
use crate::{ALLOW, profile, rule};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag};
use seccomp::{Abi, Filter, NEW_LISTENER, compile_for, load_profile};
use types::ErrorKind;

const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

fn asking(name: &str) -> LinuxSeccomp {
    let mut made = profile(Action::ScmpActAllow, vec![rule(&[name], Action::ScmpActNotify, None, vec![])]);
    made.set_listener_path(Some("/run/agent.sock".into()));
    made
}

fn compiled(profile: &LinuxSeccomp) -> Filter {
    compile_for(Abi::X86_64, profile).unwrap()
}

fn refused(profile: &LinuxSeccomp, why: &str) {
    let error = compile_for(Abi::X86_64, profile).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains(why), "{error} does not say {why:?}");
}

#[test]
fn a_notify_rule_needs_a_listener_and_others_do_not() {
    let filter = compiled(&asking("mount"));
    assert!(filter.needs_listener() && filter.flags & NEW_LISTENER != 0);
    let number = Abi::X86_64.number("mount").unwrap();
    let call = |number| Data { number, architecture: Abi::X86_64.audit(), arguments: [0; 6] };
    assert_eq!(run(&filter.program, &call(number)), 0x7fc0_0000);
    assert_eq!(run(&filter.program, &call(0)), ALLOW);
    // A path alone is ignored (OCI config-linux.md, `listenerPath`).
    let mut idle = profile(Action::ScmpActAllow, vec![rule(&["mount"], Action::ScmpActErrno, None, vec![])]);
    idle.set_listener_path(Some("/run/agent.sock".into()));
    assert!(!compiled(&idle).needs_listener());
}

#[test]
fn a_supervisor_that_would_hang_the_start_is_refused_in_runcs_words() {
    refused(&asking("write"), "SCMP_ACT_NOTIFY cannot be used for the write syscall");
    let mut all = asking("mount");
    all.set_default_action(Action::ScmpActNotify);
    refused(&all, "SCMP_ACT_NOTIFY cannot be used as default action");
}

#[test]
fn a_notify_rule_without_a_path_is_refused() {
    let mut nowhere = asking("mount");
    nowhere.set_listener_path(None);
    refused(&nowhere, "listenerPath");
    nowhere.set_listener_path(Some("".into()));
    refused(&nowhere, "listenerPath");
}

#[test]
fn metadata_without_a_path_is_refused() {
    let mut made = profile(Action::ScmpActAllow, vec![]);
    made.set_listener_metadata(Some("for the agent".to_owned()));
    refused(&made, "listenerMetadata");
}

#[test]
fn flags_are_those_of_the_profile_and_the_usual_one_without_any() {
    let flags = |flags: Option<Vec<Flag>>| {
        let mut made = profile(Action::ScmpActAllow, vec![]);
        made.set_flags(flags);
        compiled(&made).flags
    };
    assert_eq!(flags(None), SPEC_ALLOW);
    assert_eq!(flags(Some(vec![])), 0);
    assert_eq!(
        flags(Some(vec![Flag::SeccompFilterFlagLog, Flag::SeccompFilterFlagSpecAllow])),
        LOG | SPEC_ALLOW
    );
    // One thread is all there is, so there is nothing to synchronize.
    assert_eq!(flags(Some(vec![Flag::SeccompFilterFlagTsync])), 0);
}

#[test]
fn a_killable_wait_is_only_asked_for_with_a_listener() {
    let wait = Some(vec![Flag::SeccompFilterFlagWaitKillableRecv]);
    let mut made = asking("mount");
    made.set_flags(wait.clone());
    assert_eq!(compiled(&made).flags, WAIT_KILLABLE_RECV | NEW_LISTENER);
    // The kernel answers EINVAL to it without one.
    let mut made = profile(Action::ScmpActAllow, vec![]);
    made.set_flags(wait);
    assert_eq!(compiled(&made).flags, 0);
}

#[test]
fn a_profile_file_says_no_flags_or_an_empty_list() {
    let flags = |json: &str| load_profile(json.as_bytes()).unwrap().flags().clone();
    assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#), None);
    assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#), Some(vec![]));
    assert!(
        load_profile(br#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_OTHER"]}"#).is_err()
    );
}
