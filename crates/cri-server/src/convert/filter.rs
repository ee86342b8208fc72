//! Filters of the list RPCs. An absent filter takes all.

use crate::check;
use cri_api::v1;
use engine::api::{ContainerFilter, ContainerState, PodFilter, PodState};
use types::Result;

/// Which pods to list.
pub fn pods(field: &str, wire: Option<v1::PodSandboxFilter>) -> Result<PodFilter> {
    let wire = wire.unwrap_or_default();
    check::prefix(&format!("{field}.id"), &wire.id)?;
    Ok(PodFilter {
        id: wire.id,
        state: wire.state.map(|state| pod_state(&format!("{field}.state"), state.state)).transpose()?,
        labels: check::map(&format!("{field}.label_selector"), wire.label_selector)?,
    })
}

/// Which containers to list.
pub fn containers(field: &str, wire: Option<v1::ContainerFilter>) -> Result<ContainerFilter> {
    let wire = wire.unwrap_or_default();
    check::prefix(&format!("{field}.id"), &wire.id)?;
    check::prefix(&format!("{field}.pod_sandbox_id"), &wire.pod_sandbox_id)?;
    Ok(ContainerFilter {
        id: wire.id,
        pod: wire.pod_sandbox_id,
        state: wire.state.map(|state| container_state(&format!("{field}.state"), state.state)).transpose()?,
        labels: check::map(&format!("{field}.label_selector"), wire.label_selector)?,
    })
}

fn pod_state(field: &str, value: i32) -> Result<PodState> {
    Ok(match check::one_of(field, value)? {
        v1::PodSandboxState::SandboxReady => PodState::Ready,
        v1::PodSandboxState::SandboxNotready => PodState::NotReady,
    })
}

fn container_state(field: &str, value: i32) -> Result<ContainerState> {
    Ok(match check::one_of(field, value)? {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Exited,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;
    use crate::convert::{container_status, pod_status};
    use std::collections::HashMap;

    #[test]
    fn an_absent_filter_narrows_nothing() {
        let pods = pods("f", None).expect("sound");
        assert!(pods.id.is_empty() && pods.state.is_none() && pods.labels.is_empty());
        let containers = containers("f", None).expect("sound");
        assert!(containers.id.is_empty() && containers.pod.is_empty() && containers.state.is_none());
    }

    #[test]
    fn every_part_of_a_filter_arrives() {
        let wire = v1::ContainerFilter {
            id: "ab".into(),
            state: Some(v1::ContainerStateValue { state: 1 }),
            pod_sandbox_id: "cd".into(),
            label_selector: HashMap::from([("app".into(), "web".into())]),
        };
        let filter = containers("f", Some(wire)).expect("sound");
        assert_eq!((filter.id.as_str(), filter.pod.as_str()), ("ab", "cd"));
        assert_eq!((filter.state, filter.labels["app"].as_str()), (Some(ContainerState::Running), "web"));
    }

    #[test]
    fn states_survive_a_round_trip() {
        for value in 0..=1 {
            let state = pod_state("f", value).expect("sound");
            assert_eq!(pod_status::state(state) as i32, value);
        }
        for value in 0..=3 {
            let state = container_state("f", value).expect("sound");
            assert_eq!(container_status::state(state) as i32, value);
        }
    }

    #[test]
    fn filters_that_cannot_match_anything_sound_are_refused() {
        let pod = |id: &str, state: i32| {
            let state = Some(v1::PodSandboxStateValue { state });
            pods("f", Some(v1::PodSandboxFilter { id: id.into(), state, ..Default::default() }))
        };
        refused(pod("../x", 0), "f.id", "slash");
        refused(pod(&"a".repeat(129), 0), "f.id", "128");
        refused(pod("", 2), "f.state", "CRI v1");
        let container = |pod: &str, state: i32| {
            let state = Some(v1::ContainerStateValue { state });
            containers(
                "f",
                Some(v1::ContainerFilter { pod_sandbox_id: pod.into(), state, ..Default::default() }),
            )
        };
        refused(container("a b", 0), "f.pod_sandbox_id", "white space");
        refused(container("", 4), "f.state", "CRI v1");
        let labels = HashMap::from([("a\0".to_owned(), String::new())]);
        let labels = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        refused(pods("f", Some(labels)), "f.label_selector", "NUL");
    }
}
