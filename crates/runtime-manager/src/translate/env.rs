//! Variables of a container: values, `$(NAME)` expansion and the downward API. Names of the node and of the
//! pod come in as [`Facts`]; nothing is read from this process' own environment.

use super::{Identity, Node};
use crate::{Error, Result};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Upper bound of a value after expansion. The kernel takes 128 KiB per string (`MAX_ARG_STRLEN`).
const MAX_EXPANDED: usize = 128 << 10;

/// What the downward API can name.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod's labels and annotations.
    pub pod: &'a Pod,
    /// Its name, namespace, uid.
    pub identity: &'a Identity,
    /// This machine.
    pub node: &'a Node,
    /// The pod's addresses, primary first.
    pub ips: &'a [String],
}

/// The variables in order, and the expanded command and arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Name and value.
    pub env: Vec<(String, String)>,
    /// `command`.
    pub command: Vec<String>,
    /// `args`.
    pub args: Vec<String>,
}

/// Expands a container's variables, command and arguments.
pub fn expand(container: &Container, facts: &Facts<'_>, path: &str) -> Result<Expanded> {
    let mut env: Vec<(String, String)> = Vec::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = format!("{path}.env[{index}]");
        let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match field {
            Some(field) => downward(&field.field_path, facts).ok_or_else(|| {
                Error::refused(format!("{path}.valueFrom"), format!("{:?} has no value", field.field_path))
            })?,
            None => substitute(variable.value.as_deref().unwrap_or_default(), &env, &path)?,
        };
        env.push((variable.name.clone(), value));
    }
    let all = |list: &Option<Vec<String>>, name: &str| {
        let each =
            |(index, text): (usize, &String)| substitute(text, &env, &format!("{path}.{name}[{index}]"));
        list.iter().flatten().enumerate().map(each).collect::<Result<Vec<_>>>()
    };
    let (command, args) = (all(&container.command, "command")?, all(&container.args, "args")?);
    Ok(Expanded { env, command, args })
}

/// Replaces `$(NAME)` by its value. As in Kubernetes (`third_party/forked/golang/expansion`): `$$` is one
/// `$`, and a name that is not set, or has no end, stays as it is written.
fn substitute(text: &str, env: &[(String, String)], path: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|open| open.split_once(')')) {
            match env.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
        if out.len() > MAX_EXPANDED {
            break;
        }
    }
    out.push_str(rest);
    if out.len() > MAX_EXPANDED {
        return Err(Error::refused(path, "is longer than 128 KiB after expansion"));
    }
    Ok(out)
}

/// True for a field path that [`downward`] can answer.
pub fn field_is_known(path: &str) -> bool {
    let fixed = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.podIP",
        "status.podIPs",
        "status.hostIP",
        "status.hostIPs",
    ];
    fixed.contains(&path)
        || subscript(path, "metadata.labels").is_some()
        || subscript(path, "metadata.annotations").is_some()
}

fn downward(path: &str, facts: &Facts<'_>) -> Option<String> {
    let metadata = &facts.pod.metadata;
    let ip = |ip: &str| Some(ip.to_owned()).filter(|ip| !ip.is_empty());
    match path {
        "metadata.name" => Some(facts.identity.name.clone()),
        "metadata.namespace" => Some(facts.identity.namespace.clone()),
        "metadata.uid" => Some(facts.identity.uid.clone()),
        "spec.nodeName" => Some(facts.node.name.clone()),
        "spec.serviceAccountName" => {
            let spec = facts.pod.spec.as_ref()?;
            Some(spec.service_account_name.clone().unwrap_or_else(|| "default".into()))
        }
        "status.podIP" => ip(facts.ips.first()?),
        "status.podIPs" => ip(&facts.ips.join(",")),
        "status.hostIP" | "status.hostIPs" => ip(&facts.node.ip),
        _ => {
            // A label that is not there is an empty value, as in the kubelet.
            let (map, key) = match subscript(path, "metadata.labels") {
                Some(key) => (&metadata.labels, key),
                None => (&metadata.annotations, subscript(path, "metadata.annotations")?),
            };
            Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
        }
    }
}

/// `metadata.labels['app']` with prefix `metadata.labels` gives `app`.
fn subscript<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']").filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::{node, pod};

    #[test]
    fn names_expand_as_in_kubernetes() {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
        let cases = [
            ("$(A)-$(B)", "1-2"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(A", "$(A"),
            ("$A cost $", "$A cost $"),
            ("$()", "$()"),
            ("x$(A)y", "x1y"),
        ];
        for (text, wanted) in cases {
            assert_eq!(substitute(text, &env, "p").unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn an_expansion_bomb_is_refused() {
        let env = [("A".to_owned(), "x".repeat(100_000))];
        assert!(substitute("$(A)$(A)", &env, "p").is_err());
    }

    #[test]
    fn variables_see_earlier_ones_and_the_pod() {
        let pod = pod(
            "  containers:\n  - name: c\n    image: x\n    command: [run, $(IP)]\n    args: [$(LATE)]\n    env:\n    - {name: EARLY, value: $(LATE)}\n    - {name: LATE, value: 'l'}\n    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}\n    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n",
        );
        let identity = Identity::of(&pod).unwrap();
        let (node, ips) = (node(), ["10.0.0.5".to_owned()]);
        let facts = Facts { pod: &pod, identity: &identity, node: &node, ips: &ips };
        let got = expand(&pod.spec.as_ref().unwrap().containers[0], &facts, "p").unwrap();
        let value = |name: &str| got.env.iter().find(|(n, _)| n == name).unwrap().1.as_str();
        assert_eq!(value("EARLY"), "$(LATE)");
        assert_eq!((value("IP"), value("APP"), value("NODE")), ("10.0.0.5", "web", "box"));
        assert_eq!(got.command, ["run", "10.0.0.5"]);
        assert_eq!(got.args, ["l"]);
    }
}
