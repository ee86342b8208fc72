//! Whatever is asked, the answer is a plan within its bounds or an error; never a panic.

use crate::requests::{mount, web};
use container::plan::{MountSource, User};
use corten_spec::{PlanOptions, plan_from_oci, signal_number};
use oci_spec::runtime::Spec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Texts that have broken parsers: separators, signs, control characters, numbers at their ends.
fn nasty() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just(""),
        Just("/"),
        Just(".."),
        Just("."),
        Just(":"),
        Just("-1"),
        Just("+0"),
        Just("4294967295"),
        Just("0"),
        Just("root"),
        Just("\n"),
        Just("\0"),
        Just("proc"),
        Just("="),
        Just("ALL"),
        Just("CAP_"),
        Just("é"),
        Just("SIGRTMIN+"),
        Just("net."),
        Just("99999999999999999999"),
        Just("r"),
        Just("ro"),
    ];
    proptest::collection::vec(word, 0..5).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn hostile_requests_never_panic_and_never_reach_the_plan_unchecked(
        texts in proptest::collection::vec(nasty(), 16),
        numbers in proptest::collection::vec(prop_oneof![any::<i64>(), -3i64..3, Just(1 << 32), Just(u32::MAX.into())], 6),
        flags in any::<[bool; 4]>(),
    ) {
        let mut request = web();
        let text = |at: usize| texts[at].clone();
        request.image.user = text(0);
        request.image.env = vec![text(1)];
        request.image.working_dir = text(2);
        request.image.stop_signal = Some(text(3));
        request.container.command = if flags[0] { vec![text(4)] } else { vec![] };
        request.container.envs = vec![(text(5), text(6).into_bytes())];
        request.container.mounts = vec![mount("/x", &format!("/{}", text(7)), flags[1])];
        request.volumes = vec![(text(8), "/v".into())];
        request.pod.sysctls = if flags[2] { [(text(9), text(10))].into() } else { [].into() };
        request.container.security.run_as_user = flags[3].then_some(numbers[0]);
        request.container.security.run_as_group = flags[3].then_some(numbers[1]);
        request.container.security.supplemental_groups = vec![numbers[2].rem_euclid(5)];
        request.container.resources.memory_limit = numbers[3];
        request.container.resources.cpu_quota = numbers[4];
        let Ok(built) = request.ask() else { return Ok(()) };
        for mount in &built.plan.mounts {
            prop_assert!(mount.target.starts_with('/') && mount.target.len() > 1);
            prop_assert!(!mount.target.contains('\0') && !mount.target.split('/').any(|part| part == ".."));
            if let MountSource::Bind { path, .. } = &mount.source {
                prop_assert!(path.starts_with('/'));
            }
        }
        for record in built.plan.process.args.iter().chain(&built.plan.process.env) {
            prop_assert!(!record.contains(&0));
        }
        match &built.plan.process.user {
            User::Ids { uid, gid, groups } => {
                prop_assert!(![uid, gid].into_iter().chain(groups).any(|id| *id == u32::MAX));
            }
            User::Lookup { user, .. } => {
                prop_assert!(!user.contains(['\n', '\0', '/']) && user.matches(':').count() <= 1);
            }
        }
        prop_assert!((1..=64).contains(&built.stop_signal));
    }

    #[test]
    fn hostile_specifications_never_panic(
        which in 0usize..14,
        text in nasty(),
        number in prop_oneof![any::<i64>(), -2i64..70_000],
    ) {
        let built = web().built();
        let mut spec = serde_json::to_value(&built.spec).expect("a specification");
        let value = match which % 3 {
            0 => json!(text),
            1 => json!(number),
            _ => json!([{ "type": text, "path": text, "destination": text, "source": text, "options": [text],
                          "hostID": number, "containerID": number, "size": number, "major": number }]),
        };
        let fields = [
            "/process/cwd", "/process/args", "/process/env", "/process/oomScoreAdj", "/process/user",
            "/process/rlimits", "/root/path", "/hostname", "/mounts", "/linux/namespaces", "/linux/devices",
            "/linux/maskedPaths", "/linux/sysctl", "/linux/uidMappings",
        ];
        let (parent, key) = fields[which].rsplit_once('/').expect("a pointer");
        if let Some(Value::Object(map)) = spec.pointer_mut(parent) {
            map.insert(key.to_owned(), value);
        }
        if let Ok(spec) = serde_json::from_value::<Spec>(spec) {
            let _ = plan_from_oci("c1", &spec, "/bundle".as_ref(), &PlanOptions::default());
        }
    }

    #[test]
    fn signals_are_within_the_kernels(text in nasty()) {
        if let Some(number) = signal_number(&text) {
            prop_assert!((1..=64).contains(&number));
        }
    }
}
