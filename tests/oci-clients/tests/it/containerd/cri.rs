//! Pods by CRI, as a kubelet makes them.

use super::{Containerd, IMAGE};
use crate::machine::cgroup_file;
use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{
    Capability, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatsRequest, ExecSyncRequest,
    ExecSyncResponse, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PodSandboxState, PodSandboxStatusRequest,
    SecurityProfile, UpdateContainerResourcesRequest,
};
use runtime_manager::Client;
use std::time::{Duration, Instant};

/// containerd's own profile, with its architectures and conditions.
const RUNTIME_DEFAULT: SecurityProfile =
    SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, localhost_ref: String::new() };

pub fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

pub fn pod(containerd: &Containerd, network: NamespaceMode) -> PodSandboxConfig {
    let options = NamespaceOption {
        network: network as i32,
        pid: NamespaceMode::Container as i32,
        ipc: NamespaceMode::Pod as i32,
        ..Default::default()
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "pod".into(),
            uid: "uid".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: if network == NamespaceMode::Node { String::new() } else { "in-a-pod".into() },
        log_directory: containerd.path("logs").display().to_string(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}", containerd.cgroups().name),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                seccomp: Some(RUNTIME_DEFAULT),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn container(name: &str, script: &str, network: NamespaceMode) -> ContainerConfig {
    let options = NamespaceOption {
        network: network as i32,
        pid: NamespaceMode::Container as i32,
        ipc: NamespaceMode::Pod as i32,
        ..Default::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(options),
                seccomp: Some(RUNTIME_DEFAULT),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub async fn exec(client: &Client, id: &str, script: &str) -> ExecSyncResponse {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 60 };
    client.runtime.clone().exec_sync(request).await.unwrap().into_inner()
}

async fn exited(client: &Client, id: &str) -> cri_api::v1::ContainerStatus {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let status = client.status(id).await.unwrap();
        if status.state == ContainerState::ContainerExited as i32 {
            return status;
        }
        assert!(Instant::now() < end, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const HOST: NamespaceMode = NamespaceMode::Node;

#[test]
fn a_pod_runs_is_looked_at_is_changed_and_removed() {
    let Some(containerd) = Containerd::new() else { return };
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, HOST);
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        assert_eq!(client.pod_status(&id).await.unwrap().state, PodSandboxState::SandboxReady as i32);
        let mut config = container(
            "main",
            "trap 'exit 5' TERM; echo out; echo err >&2; while :; do sleep 0.05; done",
            HOST,
        );
        config.envs = vec![KeyValue { key: "A".into(), value: "b c".into() }];
        let linux = config.linux.as_mut().unwrap();
        linux.resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_shares: 512,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            ..Default::default()
        });
        let main = client.create(&id, config, &sandbox).await.unwrap();
        assert_eq!(client.status(&main).await.unwrap().state, ContainerState::ContainerCreated as i32);
        client.start(&main, "main").await.unwrap();
        assert_eq!(client.status(&main).await.unwrap().state, ContainerState::ContainerRunning as i32);

        let said = exec(&client, &main, "echo $A; echo e >&2; exit 4").await;
        let texts = [said.stdout, said.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!((texts, said.exit_code), (["b c\n".to_owned(), "e\n".to_owned()], 4));
        let cmd = ["sleep", "30"].map(str::to_owned).to_vec();
        let slow = ExecSyncRequest { container_id: main.clone(), cmd, timeout: 1 };
        let error = client.runtime.clone().exec_sync(slow).await.unwrap_err();
        assert!(error.message().contains("timeout") || error.message().contains("deadline"), "{error}");

        let request = ContainerStatsRequest { container_id: main.clone() };
        let stats =
            client.runtime.clone().container_stats(request).await.unwrap().into_inner().stats.unwrap();
        assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
        assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);

        let limit = || {
            let v1 =
                containerd.cgroups().all().iter().any(|path| path.join("memory.limit_in_bytes").is_file());
            let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
            cgroup_file(containerd.cgroups(), &main, file)
        };
        assert_eq!(limit(), (64 << 20).to_string());
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
        assert_eq!(limit(), (96 << 20).to_string());

        client.stop(&main, Duration::from_secs(10)).await.unwrap();
        let status = client.status(&main).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::ContainerExited as i32, 5));
        let log = std::fs::read_to_string(containerd.path("logs/main.log")).unwrap();
        assert!(log.contains("stdout F out\n") && log.contains("stderr F err\n"), "{log}");
        client.remove(&main).await.unwrap();
        client.stop_pod(&id).await.unwrap();
        assert_eq!(client.pod_status(&id).await.unwrap().state, PodSandboxState::SandboxNotready as i32);
        client.remove_pod(&id).await.unwrap();
    });
    containerd.end();
}

#[test]
fn a_containers_security_settings_hold() {
    let Some(containerd) = Containerd::new() else { return };
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, HOST);
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        let shared = containerd.path("shared");
        std::fs::create_dir(&shared).unwrap();
        let mut config = container(
            "shut",
            "id -u; id -g; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t' ' '; \
             touch /new; touch /mnt/v/new && echo volume; sleep 1000",
            HOST,
        );
        let place = |path: &str| path.to_owned();
        config.mounts = vec![Mount {
            container_path: place("/mnt/v"),
            host_path: shared.display().to_string(),
            ..Default::default()
        }];
        rustix::fs::chmod(&shared, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.run_as_user = Some(Int64Value { value: 1234 });
        security.run_as_group = Some(Int64Value { value: 5678 });
        security.readonly_rootfs = true;
        security.no_new_privs = true;
        security.capabilities =
            Some(Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() });
        let shut = client.create(&id, config, &sandbox).await.unwrap();
        client.start(&shut, "shut").await.unwrap();
        let log = containerd.path("logs/shut.log");
        let end = Instant::now() + Duration::from_secs(10);
        let lines = loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("volume") {
                break text;
            }
            assert!(Instant::now() < end, "{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for line in [
            "F 1234\n",
            "F 5678\n",
            "CapEff: 0000000000000000",
            "NoNewPrivs: 1",
            "Seccomp: 2",
            "Read-only file system",
        ] {
            assert!(lines.contains(line), "no {line:?} in {lines}");
        }
        assert!(shared.join("new").exists());
        client.stop(&shut, Duration::ZERO).await.unwrap();
        assert_eq!(client.status(&shut).await.unwrap().exit_code, 137);
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
    });
    containerd.end();
}

#[test]
fn a_privileged_container_has_everything_and_one_above_its_memory_is_killed() {
    let Some(containerd) = Containerd::new() else { return };
    block_on(async {
        let client = containerd.client().await;
        let mut sandbox = pod(&containerd, HOST);
        sandbox.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        let script = "mount -t tmpfs none /tmp && test -w /proc/sys/kernel/hostname && grep Seccomp: /proc/self/status";
        let mut config = container("all", &format!("{script} | grep -q 0 && exit 33"), HOST);
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
        let all = client.create(&id, config, &sandbox).await.unwrap();
        client.start(&all, "all").await.unwrap();
        assert_eq!(exited(&client, &all).await.exit_code, 33);
        let mut config = container("hungry", "dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?", HOST);
        config.linux.as_mut().unwrap().resources =
            Some(LinuxContainerResources { memory_limit_in_bytes: 20 << 20, ..Default::default() });
        let hungry = client.create(&id, config, &sandbox).await.unwrap();
        client.start(&hungry, "hungry").await.unwrap();
        assert_eq!(exited(&client, &hungry).await.exit_code, 137);
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
    });
    containerd.end();
}

#[test]
fn a_pod_has_a_network_of_its_own_that_its_containers_share() {
    let Some(containerd) = Containerd::new() else { return };
    let configuration = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "corten-clients",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": containerd.path("addresses"),
                "ranges": [[{ "subnet": "10.213.77.0/24" }]],
            },
        }],
    });
    std::fs::write(containerd.path("net.d/10-net.conflist"), configuration.to_string()).unwrap();
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, NamespaceMode::Pod);
        let end = Instant::now() + Duration::from_secs(10);
        // containerd looks at its configuration folder by inotify.
        let id = loop {
            match client.run_pod(sandbox.clone(), "").await {
                Ok(id) => break id,
                Err(error) => assert!(Instant::now() < end && error.to_string().contains("cni"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let answer = client.runtime.clone().pod_sandbox_status(request).await.unwrap().into_inner();
        let address = answer.status.unwrap().network.unwrap().ip;
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().unwrap().clone();
        let network = namespaces.iter().find(|namespace| namespace["type"] == "network").unwrap();
        let place = network["path"].as_str().unwrap().to_owned();
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            let config = container(name, "sleep 1000", NamespaceMode::Pod);
            let made = client.create(&id, config, &sandbox).await.unwrap();
            client.start(&made, name).await.unwrap();
            ids.push(made);
        }
        let mut seen = Vec::new();
        for made in &ids {
            let script =
                "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; hostname; ip addr show eth0";
            let said = String::from_utf8(exec(&client, made, script).await.stdout).unwrap();
            assert!(said.contains(&format!("{address}/")) && said.contains("in-a-pod"), "{said}");
            seen.push(said.lines().take(3).map(str::to_owned).collect::<Vec<_>>());
        }
        assert_eq!(seen[0], seen[1], "both are in the pod's namespaces");
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        assert!(!std::path::Path::new(&place).exists(), "{place} is left");
    });
    containerd.end();
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let Some(containerd) = Containerd::new() else { return };
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, HOST);
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        let mut config = container("missing", "", HOST);
        config.command = vec!["no-such-command".into()];
        let missing = client.create(&id, config, &sandbox).await.unwrap();
        let error = client.start(&missing, "missing").await.unwrap_err().to_string();
        assert!(error.contains("no-such-command") && error.contains("not found"), "{error}");
        let status = client.status(&missing).await.unwrap();
        // The kubelet's back-off goes by these (containerd, pkg/cri/server/container_start.go).
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        let quick = client.create(&id, container("quick", "exit 42", HOST), &sandbox).await.unwrap();
        client.start(&quick, "quick").await.unwrap();
        assert_eq!(exited(&client, &quick).await.exit_code, 42);
        client.remove(&quick).await.unwrap();
        client.remove(&missing).await.unwrap();
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
    });
    containerd.end();
}

#[test]
fn pods_outlive_their_containerd() {
    let Some(mut containerd) = Containerd::new() else { return };
    let ids = std::cell::RefCell::new((String::new(), String::new()));
    block_on(async {
        let client = containerd.client().await;
        let sandbox = pod(&containerd, HOST);
        let id = client.run_pod(sandbox.clone(), "").await.unwrap();
        let main = client.create(&id, container("main", "sleep 1000", HOST), &sandbox).await.unwrap();
        client.start(&main, "main").await.unwrap();
        ids.replace((id, main));
    });
    containerd.stop();
    containerd.start();
    block_on(async {
        let client = containerd.client().await;
        let (id, main) = ids.take();
        assert_eq!(client.status(&main).await.unwrap().state, ContainerState::ContainerRunning as i32);
        assert_eq!(exec(&client, &main, "echo again").await.stdout, b"again\n");
        client.stop_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
    });
    containerd.end();
}
