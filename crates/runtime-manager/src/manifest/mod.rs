//! Reading a pod manifest: YAML of at most 1 MiB to checked `v1.Pod`s.
//!
//! Whatever is not listed in [`schema`] is refused by its path. Nothing is ever ignored in silence: the few
//! fields that mean nothing on one machine are named in [`Manifest::warnings`].

mod fields;
pub mod schema;
mod validate;

use crate::error::Problem;
use crate::{Error, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Largest manifest that is read, as etcd's usual request limit.
pub const MAX_BYTES: usize = 1 << 20;
/// More problems than these are not worth printing.
const MAX_PROBLEMS: usize = 20;

/// One pod of a file, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The pod. Its name is set; its namespace is set to `default` when the file had none.
    pub pod: Pod,
    /// Fields that were accepted though they have no effect here, each with the reason.
    pub warnings: Vec<Problem>,
}

/// Reads every pod of a file; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<Manifest>> {
    let mut text = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    let failed = |source| Error::file("read", path, source);
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut text).map_err(failed)?;
    }
    let name = path.display().to_string();
    if text.len() > MAX_BYTES {
        return Err(Error::Syntax { name, reason: "the file is larger than 1 MiB".into() });
    }
    match String::from_utf8(text) {
        Ok(text) => parse(&name, &text),
        Err(_) => Err(Error::Syntax { name, reason: "the file is not UTF-8 text".into() }),
    }
}

/// Reads every pod of a text. `name` only serves the messages.
pub fn parse(name: &str, text: &str) -> Result<Vec<Manifest>> {
    if text.len() > MAX_BYTES {
        return Err(Error::Syntax { name: name.into(), reason: "the text is larger than 1 MiB".into() });
    }
    // Kubernetes reads YAML 1.1, where 0644 is octal. Snippets would repeat secrets of the file.
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Error::Syntax { name: name.into(), reason: error.to_string() })?;
    if documents.is_empty() {
        return Err(Error::Syntax { name: name.into(), reason: "the file holds no document".into() });
    }
    let mut pods: Vec<Manifest> = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let label = if index == 0 { name.to_owned() } else { format!("{name} (document {})", index + 1) };
        pods.push(pod(document).map_err(|mut problems| {
            let hidden = problems.len().saturating_sub(MAX_PROBLEMS);
            problems.truncate(MAX_PROBLEMS);
            if hidden > 0 {
                problems.push(Problem { path: "…".into(), message: format!("and {hidden} problems more") });
            }
            Error::Manifest { name: label, problems }
        })?);
    }
    for (index, manifest) in pods.iter().enumerate() {
        let key = |m: &Manifest| (m.pod.metadata.namespace.clone(), m.pod.metadata.name.clone());
        if pods[..index].iter().any(|earlier| key(earlier) == key(manifest)) {
            let problem = Problem {
                path: "metadata.name".into(),
                message: "two pods of this file have the same name and namespace".into(),
            };
            return Err(Error::Manifest { name: name.into(), problems: vec![problem] });
        }
    }
    Ok(pods)
}

/// One document to one pod, or everything that is wrong with it.
fn pod(mut document: Value) -> Result<Manifest, Vec<Problem>> {
    kind(&document)?;
    fields::quantities_to_text(&mut document);
    let mut found = fields::check(&document);
    if !found.problems.is_empty() {
        return Err(found.problems);
    }
    fields::drop_nulls(&mut document);
    let mut pod: Pod = serde_json::from_value(document)
        .map_err(|error| vec![Problem { path: "the document".into(), message: error.to_string() }])?;
    if pod.metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.namespace = Some("default".into());
    }
    let problems = validate::pod(&pod);
    if !problems.is_empty() {
        return Err(problems);
    }
    found.warnings.truncate(MAX_PROBLEMS);
    Ok(Manifest { pod, warnings: found.warnings })
}

fn kind(document: &Value) -> Result<(), Vec<Problem>> {
    let problem = |path: &str, message: String| vec![Problem { path: path.into(), message }];
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    if !document.is_object() {
        return Err(problem(
            "the document",
            "a pod is a mapping with apiVersion, kind, metadata and spec".into(),
        ));
    }
    match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => Ok(()),
        (version, "Pod") => Err(problem("apiVersion", format!("a Pod is of v1, not of {version:?}"))),
        (_, "") => Err(problem("kind", "is missing; only Pod is run".into())),
        (_, other) => Err(problem(
            "kind",
            format!("{other} is not supported; only Pod is run here, a cluster is needed for anything else"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn problems(text: &str) -> Vec<String> {
        match parse("pod.yaml", text) {
            Ok(_) => Vec::new(),
            Err(Error::Manifest { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
            Err(other) => vec![other.to_string()],
        }
    }

    fn with_spec(spec: &str) -> String {
        let base = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c, image: busybox}]\n";
        format!("{base}{spec}")
    }

    fn with_container(fields: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: c\n    image: busybox\n{fields}"
        )
    }

    #[test]
    fn a_small_pod_is_read_and_gets_a_namespace() {
        let pods = parse("p", &with_spec("")).unwrap();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].pod.metadata.namespace.as_deref(), Some("default"));
        assert!(pods[0].warnings.is_empty());
    }

    #[test]
    fn several_documents_are_several_pods_and_a_name_is_used_once() {
        let two = format!("{}---\n{}", with_spec(""), with_spec("").replace("name: a", "name: b"));
        assert_eq!(parse("p", &two).unwrap().len(), 2);
        let twice = format!("{0}---\n{0}", with_spec(""));
        assert!(parse("p", &twice).unwrap_err().to_string().contains("same name"));
    }

    #[test]
    fn another_kind_is_refused_by_name() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}";
        assert!(problems(text)[0].starts_with("kind: Deployment is not supported"), "{:?}", problems(text));
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_path_and_the_nearest_name() {
        let found = problems(&with_container("    comand: [sh]\n"));
        assert_eq!(found, ["spec.containers[0].comand: no such field; did you mean command?"]);
        let found = problems(&with_spec("  restartpolicy: Never\n"));
        assert_eq!(found, ["spec.restartpolicy: no such field; did you mean restartPolicy?"]);
    }

    #[test]
    fn what_kubernetes_knows_and_we_do_not_build_is_refused_and_never_ignored() {
        let found = problems(&with_container("    livenessProbe: {exec: {command: [ls]}}\n"));
        assert!(found[0].starts_with("spec.containers[0].livenessProbe: is not supported"), "{found:?}");
        let found = problems(&with_spec("  volumes:\n  - name: v\n    configMap: {name: x}\n"));
        assert!(found[0].starts_with("spec.volumes[0].configMap: is not supported"), "{found:?}");
        let found = problems(&with_container("    volumeMounts: [{name: v, mountPath: /v, subPath: x}]\n"));
        assert!(found[0].starts_with("spec.containers[0].volumeMounts[0].subPath"), "{found:?}");
        let found = problems(&with_spec("  volumes:\n  - name: v\n    image: {pullPolicy: Sometimes}\n"));
        assert!(found[0].starts_with("spec.volumes[0].image.reference"), "{found:?}");
        assert!(found[1].starts_with("spec.volumes[0].image.pullPolicy"), "{found:?}");
        let found = problems(&with_container("    resources: {limits: {nvidia.com/gpu: 1}}\n"));
        assert!(found[0].starts_with("spec.containers[0].resources.limits.nvidia.com/gpu"), "{found:?}");
    }

    #[test]
    fn a_field_without_effect_on_one_machine_is_named_in_a_warning() {
        let pods = parse("p", &with_spec("  nodeSelector: {disk: ssd}\n")).unwrap();
        assert_eq!(pods[0].warnings[0].path, "spec.nodeSelector");
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_path() {
        let found = problems(&with_container("    env: [{name: A, value: 5}]\n"));
        assert_eq!(
            found,
            ["spec.containers[0].env[0].value: is a number and must be text; put it in quotes"]
        );
    }

    #[test]
    fn a_number_is_taken_as_a_quantity() {
        let pods = parse("p", &with_container("    resources: {limits: {cpu: 2, memory: 64Mi}}\n")).unwrap();
        let limits =
            pods[0].pod.spec.as_ref().unwrap().containers[0].resources.clone().unwrap().limits.unwrap();
        assert_eq!(limits["cpu"].0, "2");
    }

    #[test]
    fn a_huge_or_broken_file_is_refused_without_a_panic() {
        assert!(parse("p", &"x".repeat(MAX_BYTES + 1)).unwrap_err().to_string().contains("1 MiB"));
        assert!(parse("p", "a: [").is_err());
        assert!(parse("p", "").is_err());
        assert!(parse("p", "- 1").is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(parse("p", bomb).is_err());
    }

    #[test]
    fn values_that_contradict_each_other_are_all_named() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}\nspec:\n  restartPolicy: Sometimes\n  containers:\n  - {name: c, image: x}\n  - {name: c, image: ''}\n";
        let found = problems(text).join("\n");
        for part in
            ["metadata.name", "spec.restartPolicy", "spec.containers[1].name", "spec.containers[1].image"]
        {
            assert!(found.contains(part), "{part} in {found}");
        }
    }
}
