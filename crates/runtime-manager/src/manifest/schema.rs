//! The table of a pod's fields that are honoured, without effect, or refused with a reason. It is data: the
//! walk over it is in `fields`. A field that is not in the table is refused.

/// What is done with a field.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Text, honoured.
    Text,
    /// true or false, honoured.
    Bool,
    /// A whole number, honoured.
    Int,
    /// A list of texts.
    Texts,
    /// A list of whole numbers.
    Ints,
    /// A mapping from text to text.
    TextMap,
    /// A mapping from one of these resource names to a quantity.
    Quantities(&'static [&'static str]),
    /// A mapping with these fields.
    Object(&'static [Field]),
    /// A list of mappings with these fields.
    List(&'static [Field]),
    /// Accepted, of no effect, and said so: the reason.
    Ignored(&'static str),
    /// Refused, with what to do about it.
    Refused(&'static str),
}

/// A field's name and its rule.
#[derive(Debug, Clone, Copy)]
pub struct Field(pub &'static str, pub Rule);

use Rule::*;

const NO_SCHEDULER: &str = "there is one machine and no scheduler";
const NO_API: &str = "there is no API server behind this pod";

/// The document.
pub const POD: &[Field] = &[
    Field("apiVersion", Text),
    Field("kind", Text),
    Field("metadata", Object(METADATA)),
    Field("spec", Object(SPEC)),
    Field("status", Ignored("the status is what this run finds out")),
];

const METADATA: &[Field] = &[
    Field("name", Text),
    Field("namespace", Text),
    Field("uid", Text),
    Field("labels", TextMap),
    Field("annotations", TextMap),
    Field("generateName", Refused("give the pod a name")),
    Field("creationTimestamp", Ignored(NO_API)),
    Field("resourceVersion", Ignored(NO_API)),
    Field("generation", Ignored(NO_API)),
    Field("managedFields", Ignored(NO_API)),
    Field("ownerReferences", Ignored(NO_API)),
    Field("finalizers", Ignored(NO_API)),
    Field("selfLink", Ignored(NO_API)),
];

const SPEC: &[Field] = &[
    Field("containers", List(CONTAINER)),
    Field("initContainers", List(CONTAINER)),
    Field("volumes", List(VOLUME)),
    Field("restartPolicy", Text),
    Field("terminationGracePeriodSeconds", Int),
    Field("hostname", Text),
    Field("hostAliases", List(&[Field("ip", Text), Field("hostnames", Texts)])),
    Field("hostNetwork", Bool),
    Field("hostPID", Bool),
    Field("hostIPC", Bool),
    Field("hostUsers", Bool),
    Field("shareProcessNamespace", Bool),
    Field("dnsPolicy", Text),
    Field(
        "dnsConfig",
        Object(&[
            Field("nameservers", Texts),
            Field("searches", Texts),
            Field("options", List(&[Field("name", Text), Field("value", Text)])),
        ]),
    ),
    Field("securityContext", Object(POD_SECURITY)),
    Field("runtimeClassName", Text),
    Field("automountServiceAccountToken", Bool),
    Field("enableServiceLinks", Ignored("there are no services here")),
    Field("os", Object(&[Field("name", Text)])),
    Field("serviceAccountName", Ignored(NO_API)),
    Field("serviceAccount", Ignored(NO_API)),
    Field("nodeName", Ignored(NO_SCHEDULER)),
    Field("nodeSelector", Ignored(NO_SCHEDULER)),
    Field("affinity", Ignored(NO_SCHEDULER)),
    Field("tolerations", Ignored(NO_SCHEDULER)),
    Field("topologySpreadConstraints", Ignored(NO_SCHEDULER)),
    Field("schedulerName", Ignored(NO_SCHEDULER)),
    Field("priority", Ignored(NO_SCHEDULER)),
    Field("priorityClassName", Ignored(NO_SCHEDULER)),
    Field("preemptionPolicy", Ignored(NO_SCHEDULER)),
    Field("imagePullSecrets", Refused("pull the image first with `corten pull --creds`")),
    Field("activeDeadlineSeconds", Refused("")),
    Field("ephemeralContainers", Refused("")),
    Field("readinessGates", Refused("")),
    Field("resources", Refused("set resources per container")),
    Field("resourceClaims", Refused("")),
    Field("subdomain", Refused("there is no cluster DNS")),
    Field("setHostnameAsFQDN", Refused("there is no cluster DNS")),
    Field("hostnameOverride", Refused("use hostname")),
    Field("overhead", Refused("")),
];

const POD_SECURITY: &[Field] = &[
    Field("runAsUser", Int),
    Field("runAsGroup", Int),
    Field("runAsNonRoot", Bool),
    Field("fsGroup", Int),
    Field("fsGroupChangePolicy", Text),
    Field("supplementalGroups", Ints),
    Field("supplementalGroupsPolicy", Text),
    Field("seccompProfile", Object(PROFILE)),
    Field("appArmorProfile", Object(PROFILE)),
    Field("seLinuxOptions", Object(SELINUX)),
    Field("sysctls", List(&[Field("name", Text), Field("value", Text)])),
    Field("windowsOptions", Refused("containers here are Linux containers")),
];

const PROFILE: &[Field] = &[Field("type", Text), Field("localhostProfile", Text)];
const SELINUX: &[Field] =
    &[Field("user", Text), Field("role", Text), Field("type", Text), Field("level", Text)];

const CONTAINER: &[Field] = &[
    Field("name", Text),
    Field("image", Text),
    Field("imagePullPolicy", Text),
    Field("command", Texts),
    Field("args", Texts),
    Field("workingDir", Text),
    Field("env", List(ENV)),
    Field("ports", List(PORT)),
    Field("resources", Object(RESOURCES)),
    Field("volumeMounts", List(VOLUME_MOUNT)),
    Field("securityContext", Object(SECURITY)),
    Field("restartPolicy", Text),
    Field("stdin", Bool),
    Field("stdinOnce", Bool),
    Field("tty", Bool),
    Field("terminationMessagePath", Text),
    Field("terminationMessagePolicy", Text),
    Field("resizePolicy", Ignored("resources are not changed while the pod runs")),
    Field("envFrom", Refused("there are no ConfigMaps or Secrets here; use env")),
    Field("livenessProbe", Refused("probes are not run; use restartPolicy")),
    Field("readinessProbe", Refused("probes are not run; there is no service to be ready for")),
    Field("startupProbe", Refused("probes are not run")),
    Field("lifecycle", Refused("hooks are not run")),
    Field("volumeDevices", Refused("")),
    Field("restartPolicyRules", Refused("")),
];

const ENV: &[Field] = &[
    Field("name", Text),
    Field("value", Text),
    Field(
        "valueFrom",
        Object(&[Field("fieldRef", Object(&[Field("apiVersion", Text), Field("fieldPath", Text)]))]),
    ),
];

const PORT: &[Field] = &[
    Field("name", Text),
    Field("containerPort", Int),
    Field("hostPort", Int),
    Field("hostIP", Text),
    Field("protocol", Text),
];

const RESOURCES: &[Field] =
    &[Field("limits", Quantities(&["cpu", "memory"])), Field("requests", Quantities(&["cpu", "memory"]))];

const VOLUME: &[Field] = &[
    Field("name", Text),
    Field(
        "emptyDir",
        Object(&[
            Field("medium", Text),
            Field("sizeLimit", Refused("the size of an emptyDir is not limited here; leave it out")),
        ]),
    ),
    Field("hostPath", Object(&[Field("path", Text), Field("type", Text)])),
    Field("image", Object(&[Field("reference", Text), Field("pullPolicy", Text)])),
];

const VOLUME_MOUNT: &[Field] = &[
    Field("name", Text),
    Field("mountPath", Text),
    Field("readOnly", Bool),
    Field("recursiveReadOnly", Text),
    Field("mountPropagation", Text),
    Field("subPath", Text),
    Field("subPathExpr", Refused("mount a volume of its own")),
];

const SECURITY: &[Field] = &[
    Field("runAsUser", Int),
    Field("runAsGroup", Int),
    Field("runAsNonRoot", Bool),
    Field("privileged", Bool),
    Field("readOnlyRootFilesystem", Bool),
    Field("allowPrivilegeEscalation", Bool),
    Field("capabilities", Object(&[Field("add", Texts), Field("drop", Texts)])),
    Field("seccompProfile", Object(PROFILE)),
    Field("appArmorProfile", Object(PROFILE)),
    Field("seLinuxOptions", Object(SELINUX)),
    Field("procMount", Text),
    Field("windowsOptions", Refused("containers here are Linux containers")),
];

/// Every field of the table with what is done with it, one line each, in the table's order.
pub fn describe() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    walk(POD, "", &mut lines);
    lines
}

fn walk(fields: &[Field], above: &str, lines: &mut Vec<(String, String)>) {
    for Field(name, rule) in fields {
        let path = if above.is_empty() { (*name).to_owned() } else { format!("{above}.{name}") };
        match rule {
            Object(inner) => walk(inner, &path, lines),
            List(inner) => walk(inner, &format!("{path}[]"), lines),
            Quantities(names) => lines.push((path, format!("honoured: {}", names.join(", ")))),
            Ignored(reason) => lines.push((path, format!("no effect, with a warning: {reason}"))),
            Refused("") => lines.push((path, "refused".into())),
            Refused(hint) => lines.push((path, format!("refused: {hint}"))),
            Text | Bool | Int | Texts | Ints | TextMap => lines.push((path, "honoured".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page for users is made from the table: `BLESS=1 cargo test` writes it anew.
    #[test]
    fn the_page_of_fields_is_what_the_table_says() {
        let page = page();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PODS.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page, "write it anew with BLESS=1");
    }

    fn page() -> String {
        let mut text = String::from(
            "# Fields of a pod that `corten run` takes\n\n\
             Made from the table in `crates/runtime-manager/src/manifest/schema.rs`. A field that is not listed is refused with its path;\n\
             nothing is ignored in silence. `corten run --fields` prints the same list.\n\n\
             - A pod without a `seccompProfile` gets the runtime's default one (the kubelet does so with `seccompDefault: true`).\n\
             - `dnsPolicy: ClusterFirst` without a cluster is the machine's own resolver.\n\
             - `runtimeClassName` names the runtime handler itself, for there are no RuntimeClass objects.\n\
             - `emptyDir` is on the disk, without a limit of size.\n\
             - An `image` volume is read-only and noexec; `subPath` is for these volumes alone: a folder of the image.\n\
             - `terminationMessagePolicy` is `File`, `procMount` is `Default`, `hostUsers` is true.\n\n\
             | field | what is done with it |\n|---|---|\n",
        );
        for (field, rule) in describe() {
            text.push_str(&format!("| `{field}` | {rule} |\n"));
        }
        text
    }
}
