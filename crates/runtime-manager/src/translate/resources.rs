//! CPU and memory to what the kernel takes, and the OOM score by class of service, with the kubelet's
//! formulas (`pkg/kubelet/cm/helpers_linux.go`, `pkg/kubelet/qos/policy.go`).

use super::quantity::Quantity;
use cri_api::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Period of the CPU quota, microseconds.
const PERIOD: i64 = 100_000;
/// The kernel refuses a smaller quota.
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// The class of service of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits for both, equal to its requests.
    Guaranteed,
    /// Something is asked for.
    Burstable,
    /// Nothing is asked for.
    BestEffort,
}

/// Requests and limits of one container; a request that is not given equals the limit, as the API server
/// defaults it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Millicores asked for.
    pub cpu_request: Option<i64>,
    /// Millicores at most.
    pub cpu_limit: Option<i64>,
    /// Bytes asked for.
    pub memory_request: Option<i64>,
    /// Bytes at most.
    pub memory_limit: Option<i64>,
}

/// What a container asks for. Quantities were checked before; what is not one counts as not given.
pub fn asked(container: &Container) -> Asked {
    let Some(resources) = &container.resources else { return Asked::default() };
    let read = |limits: bool, name: &str| {
        let side = if limits { &resources.limits } else { &resources.requests };
        Quantity::parse(&side.as_ref()?.get(name)?.0).ok()
    };
    let cpu_limit = read(true, "cpu").map(Quantity::milli);
    let memory_limit = read(true, "memory").map(Quantity::units);
    Asked {
        cpu_request: read(false, "cpu").map(Quantity::milli).or(cpu_limit),
        cpu_limit,
        memory_request: read(false, "memory").map(Quantity::units).or(memory_limit),
        memory_limit,
    }
}

/// The pod's class, over all its containers.
pub fn qos(spec: &PodSpec) -> Qos {
    let all: Vec<Asked> = super::containers(spec).iter().map(|(_, container)| asked(container)).collect();
    let positive = |value: Option<i64>| value.filter(|value| *value > 0);
    let nothing = |a: &Asked| {
        [a.cpu_request, a.cpu_limit, a.memory_request, a.memory_limit].iter().all(|v| positive(*v).is_none())
    };
    let full = |a: &Asked| {
        positive(a.cpu_limit).is_some()
            && positive(a.memory_limit).is_some()
            && a.cpu_limit == a.cpu_request
            && a.memory_limit == a.memory_request
    };
    if all.iter().all(nothing) {
        Qos::BestEffort
    } else if all.iter().all(full) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// How ready the kernel is to kill it: -997 never, 1000 first.
fn oom_score(qos: Qos, memory_request: i64, node_memory: u64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let capacity = i128::from(node_memory.max(1));
            let score = 1000 - i128::from(memory_request) * 1000 / capacity;
            // Between Guaranteed's and BestEffort's.
            i64::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// Relative weight of `milli` thousandths of a core.
fn shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1000).max(MIN_QUOTA) }
}

/// The CRI resources of one container of the pod.
pub fn container(spec: &PodSpec, container: &Container, node_memory: u64) -> LinuxContainerResources {
    let asked = asked(container);
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(asked.cpu_limit.unwrap_or(0)),
        cpu_shares: shares(asked.cpu_request.unwrap_or(0)),
        memory_limit_in_bytes: asked.memory_limit.unwrap_or(0),
        oom_score_adj: oom_score(qos(spec), asked.memory_request.unwrap_or(0), node_memory),
        ..Default::default()
    }
}

/// The whole pod's, for runtimes that size a virtual machine by it (kubelet's `applySandboxResources`).
pub fn sandbox(spec: &PodSpec) -> LinuxContainerResources {
    let mut sum =
        Asked { cpu_request: Some(0), cpu_limit: Some(0), memory_request: Some(0), memory_limit: Some(0) };
    let mut peak = Asked::default();
    for (role, container) in super::containers(spec) {
        let asked = asked(container);
        if role == super::Role::Init {
            peak.cpu_request = peak.cpu_request.max(asked.cpu_request);
            peak.memory_limit = peak.memory_limit.max(asked.memory_limit);
            continue;
        }
        let add = |a: Option<i64>, b: Option<i64>| Some(a?.saturating_add(b.filter(|b| *b > 0)?));
        sum.cpu_request = sum.cpu_request.map(|v| v.saturating_add(asked.cpu_request.unwrap_or(0)));
        // One container without a limit leaves the pod without one.
        sum.cpu_limit = add(sum.cpu_limit, asked.cpu_limit);
        sum.memory_limit = add(sum.memory_limit, asked.memory_limit);
    }
    let request = sum.cpu_request.max(peak.cpu_request).unwrap_or(0);
    let memory = sum.memory_limit.map_or(0, |limit| limit.max(peak.memory_limit.unwrap_or(0)));
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(sum.cpu_limit.unwrap_or(0)),
        cpu_shares: shares(request),
        memory_limit_in_bytes: memory,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::pod;

    fn of(resources: &str) -> LinuxContainerResources {
        let pod = pod(&format!("  containers: [{{name: c, image: x, resources: {resources}}}]\n"));
        let spec = pod.spec.unwrap();
        container(&spec, &spec.containers[0], 8 << 30)
    }

    #[test]
    fn limits_become_quota_shares_and_bytes() {
        let got = of("{limits: {cpu: 500m, memory: 64Mi}}");
        assert_eq!((got.cpu_period, got.cpu_quota, got.cpu_shares), (100_000, 50_000, 512));
        assert_eq!(got.memory_limit_in_bytes, 64 << 20);
        assert_eq!(got.oom_score_adj, -997, "limits alone make a Guaranteed pod");
    }

    #[test]
    fn a_pod_that_asks_for_nothing_goes_first() {
        let got = of("{}");
        assert_eq!((got.oom_score_adj, got.cpu_shares, got.cpu_quota), (1000, 2, 0));
    }

    #[test]
    fn a_burstable_pod_is_between() {
        assert_eq!(of("{requests: {memory: 2Gi}}").oom_score_adj, 750);
        assert_eq!(of("{requests: {memory: 1Ki}}").oom_score_adj, 999);
        assert_eq!(of("{requests: {memory: 80Gi}}").oom_score_adj, 3);
    }

    #[test]
    fn a_tiny_cpu_limit_is_what_the_kernel_still_takes() {
        let got = of("{limits: {cpu: 1m}}");
        assert_eq!((got.cpu_quota, got.cpu_shares), (1000, 2));
    }
}
