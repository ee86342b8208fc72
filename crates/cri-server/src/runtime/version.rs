//! Version: names the runtime and the API that it speaks.

use cri_api::v1;

/// The version of its own side that the kubelet asks with and compares with the answer
/// (kubernetes `pkg/kubelet/kuberuntime`, `kubeRuntimeAPIVersion`).
const KUBELET_API: &str = "0.1.0";

/// Answers whatever version is asked for: there is one.
pub fn call() -> v1::VersionResponse {
    v1::VersionResponse {
        version: KUBELET_API.to_owned(),
        runtime_name: "corten".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_finds_the_versions_that_it_compares() {
        let answer = call();
        assert_eq!((answer.version.as_str(), answer.runtime_api_version.as_str()), ("0.1.0", "v1"));
        assert_eq!(answer.runtime_name, "corten");
        assert_eq!(answer.runtime_version.split('.').count(), 3, "the kubelet reads a semantic version");
    }
}
