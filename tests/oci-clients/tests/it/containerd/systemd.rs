//! As the kubelet has it where its `cgroupDriver` is systemd: a scope for each container in the pod's slice.

use super::Containerd;
use super::cri::{block_on, container, exec, pod};
use crate::machine::{Manager, cgroup_file};
use cri_api::v1::{
    ContainerState, ContainerStatsRequest, LinuxContainerResources, NamespaceMode,
    UpdateContainerResourcesRequest,
};
use std::time::Duration;

#[test]
fn a_pod_lives_in_scopes_of_systemds_and_leaves_nothing() {
    let Some(containerd) = Containerd::with(Manager::Systemd) else { return };
    let slice = containerd.cgroups().name.clone();
    let mut made = Vec::new();
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, NamespaceMode::Node);
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        let mut config = container("main", "trap 'exit 5' TERM; sleep 1000 & wait", NamespaceMode::Node);
        config.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_shares: 512,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            ..Default::default()
        });
        let main = client.create(&id, config, &sandbox).await.unwrap();
        client.start(&main, "main").await.unwrap();
        assert_eq!(client.status(&main).await.unwrap().state, ContainerState::ContainerRunning as i32);
        made.extend([id.clone(), main.clone()]);

        let scope = format!("cri-containerd-{main}.scope");
        let of_unit = |names| containerd.cgroups().properties(&scope, names);
        let of_group = |file: &str| cgroup_file(containerd.cgroups(), &scope, file);
        let group = containerd.cgroups().path(&scope);
        assert_eq!(of_unit(["ActiveState", "Slice", "ControlGroup"]), ["active", &slice, &group]);
        let pods = format!("cri-containerd-{id}.scope");
        assert_eq!(containerd.cgroups().properties(&pods, ["ActiveState"]), ["active"]);
        let limits = ["MemoryMax", "CPUQuotaPerSecUSec", "CPUWeight"];
        assert_eq!(of_unit(limits), ["67108864", "500ms", "59"]);
        assert_eq!(["memory.max", "cpu.max", "cpu.weight"].map(of_group), ["67108864", "50000 100000", "59"]);

        let said = exec(&client, &main, "echo in; exit 4").await;
        assert_eq!((said.stdout.as_slice(), said.exit_code), (&b"in\n"[..], 4));
        let request = ContainerStatsRequest { container_id: main.clone() };
        let stats =
            client.runtime.clone().container_stats(request).await.unwrap().into_inner().stats.unwrap();
        assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
        assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);

        let changed = LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            cpu_shares: 256,
            ..Default::default()
        };
        let request = UpdateContainerResourcesRequest {
            container_id: main.clone(),
            linux: Some(changed),
            ..Default::default()
        };
        client.runtime.clone().update_container_resources(request).await.unwrap();
        assert_eq!(of_unit(limits), ["100663296", "500ms", "35"]);
        assert_eq!(
            ["memory.max", "cpu.max", "cpu.weight"].map(of_group),
            ["100663296", "50000 100000", "35"]
        );

        client.stop(&main, Duration::from_secs(100)).await.unwrap();
        let status = client.status(&main).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::ContainerExited as i32, 5));
        client.remove(&main).await.unwrap();
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
    });
    for name in &made {
        let left = containerd.cgroups().units_with(name);
        assert!(left.is_empty(), "systemd still has {left:?}");
    }
    containerd.end();
}
