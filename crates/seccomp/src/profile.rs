//! Profile files of the node: the OCI form and Docker's, which adds `archMap`, and `includes` and `excludes` to rules.
//! Parsing only; whether the rules can be compiled is [`crate::compile`]'s to say.

use crate::error::Error;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;
use std::path::PathBuf;
use types::Result;

/// Largest profile taken, bytes.
const MAX_PROFILE: usize = 1 << 20;

/// Reads a profile file for a process without capabilities. See [`load_profile_for`].
pub fn load_profile(json: &[u8]) -> Result<LinuxSeccomp> {
    load_profile_for(json, &[])
}

/// Reads a profile file in OCI's or Docker's JSON.
///
/// Rules with Docker's `includes` and `excludes` are kept or left out by `capabilities` (effective, `CAP_…`), this
/// machine's architecture and, for `minKernel`, taken as met: no kernel that Corten runs on is older than 4.8, the only
/// version in use there. Architectures that are not known are passed over, as they cannot be this machine's.
///
/// # Errors
/// `InvalidArgument` when it is larger than 1 MiB or no such JSON.
pub fn load_profile_for(json: &[u8], capabilities: &[String]) -> Result<LinuxSeccomp> {
    if json.len() > MAX_PROFILE {
        return Err(Error::TooLarge { size: json.len(), limit: MAX_PROFILE }.into());
    }
    let file: File = serde_json::from_slice(json).map_err(Error::Json)?;
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(file.default_action);
    profile.set_default_errno_ret(file.default_errno_ret);
    let mut architectures: Vec<Arch> =
        file.architectures.unwrap_or_default().iter().filter_map(known).collect();
    for entry in file.arch_map.unwrap_or_default() {
        if known(&entry.architecture) == Some(native()) {
            architectures.push(native());
            architectures.extend(entry.sub_architectures.unwrap_or_default().iter().filter_map(known));
        }
    }
    profile.set_architectures((!architectures.is_empty()).then_some(architectures));
    // An empty list is not the same as none (runc, specconv `SetupSeccomp`).
    profile.set_flags(file.flags);
    profile.set_listener_path(file.listener_path.filter(|path| !path.as_os_str().is_empty()));
    profile.set_listener_metadata(file.listener_metadata.filter(|text| !text.is_empty()));
    let rules = file
        .syscalls
        .unwrap_or_default()
        .into_iter()
        .filter(|rule| rule.applies(capabilities))
        .map(Rule::into_oci);
    profile.set_syscalls(Some(rules.collect()));
    Ok(profile)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Option<Vec<String>>,
    /// Docker's form before there were lists.
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
}

impl Rule {
    /// Docker's rules (moby/profiles, seccomp/seccomp_linux.go): every included capability must be there, none of the
    /// excluded; the architecture must be one of the included, and none of the excluded.
    fn applies(&self, capabilities: &[String]) -> bool {
        let has = |cap: &String| capabilities.contains(cap);
        let here = |arch: &String| arch == docker_arch();
        let included = self.includes.as_ref().is_none_or(|filter| {
            filter.caps.iter().flatten().all(has)
                && filter.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(here))
        });
        let excluded = self.excludes.as_ref().is_some_and(|filter| {
            filter.caps.iter().flatten().any(has) || filter.arches.iter().flatten().any(here)
        });
        included && !excluded
    }

    fn into_oci(self) -> LinuxSyscall {
        let mut names = self.names.unwrap_or_default();
        names.extend(self.name.filter(|name| !name.is_empty()));
        let mut rule = LinuxSyscall::default();
        rule.set_names(names).set_action(self.action).set_errno_ret(self.errno_ret).set_args(self.args);
        rule
    }
}

fn known(name: impl AsRef<str>) -> Option<Arch> {
    Arch::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name.as_ref())).ok()
}

/// The architecture of this machine in OCI's words.
pub(crate) fn native() -> Arch {
    match std::env::consts::ARCH {
        "aarch64" => Arch::ScmpArchAarch64,
        _ => Arch::ScmpArchX86_64,
    }
}

/// And in Docker's, which are Go's.
fn docker_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(profile: &LinuxSeccomp) -> Vec<String> {
        profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn dockers_conditions_are_decided() {
        let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[
              {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},
              {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
              {"architecture":"SCMP_ARCH_OF_2040","subArchitectures":null}],
            "syscalls":[
              {"names":["read"],"action":"SCMP_ACT_ALLOW","args":null,"comment":"x","includes":{},"excludes":{}},
              {"name":"write","action":"SCMP_ACT_ALLOW","args":[]},
              {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
              {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
              {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
              {"names":["s390_runtime_instr"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]}"#;
        assert_eq!(names(&load_profile(json).unwrap()), ["read", "write", "ptrace", "clone3"]);
        let with = load_profile_for(json, &["CAP_BPF".to_owned(), "CAP_SYS_ADMIN".to_owned()]).unwrap();
        assert_eq!(names(&with), ["read", "write", "bpf", "ptrace"]);
        assert!(with.architectures().as_ref().unwrap().len() >= 2);
        crate::compile(&with).unwrap();
    }

    #[test]
    fn what_is_no_profile_is_refused_with_a_reason() {
        for bad in
            [&b"{}"[..], b"", b"[]", b"{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", b"{\"defaultAction\":7}"]
        {
            let error = load_profile(bad).unwrap_err();
            assert_eq!(error.kind(), types::ErrorKind::InvalidArgument);
        }
        assert!(load_profile(&vec![b' '; MAX_PROFILE + 1]).unwrap_err().message().contains("bytes"));
    }

    #[test]
    fn what_oci_writes_is_read_back() {
        let profile = crate::runtime_default(&["CAP_SYS_ADMIN".to_owned()]);
        assert_eq!(load_profile(&serde_json::to_vec(&profile).unwrap()).unwrap(), profile);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = load_profile(&bytes);
        }
    }
}
