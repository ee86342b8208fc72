//! Images of a pod: whether to fetch them, and what the runtime knows of them (kubelet `image_manager.go`).

use super::{Control, Event, Manager, Running, Stop};
use crate::translate;
use crate::{Error, Result};
use cri_api::v1::{Image, ImageSpec};
use k8s_openapi::api::core::v1::PodSpec;
use std::collections::BTreeMap;
use std::time::Instant;

/// By the name in the manifest: the reference that containers are made with, and the record.
pub(super) type Images = BTreeMap<String, (String, Image)>;

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// The policy of a container, or of a volume. By default a name without a tag, or with `latest`, is always fetched
/// (core/v1 defaults); a digest never changes, so that it is not.
fn policy(image: &str, policy: Option<&str>) -> Policy {
    match policy {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some(_) => Policy::IfNotPresent,
        None if image.contains('@') => Policy::IfNotPresent,
        None => {
            let last = image.rsplit('/').next().unwrap_or_default();
            match last.split_once(':') {
                None | Some((_, "latest")) => Policy::Always,
                Some(_) => Policy::IfNotPresent,
            }
        }
    }
}

/// Every image of the pod with its policy: those that are mounted, then those of containers.
fn wanted(spec: &PodSpec) -> Vec<(String, Policy)> {
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
        let image = volume.image.as_ref()?;
        let name = image.reference.clone()?;
        let policy = policy(&name, image.pull_policy.as_deref());
        Some((name, policy))
    });
    let containers = translate::containers(spec).into_iter().map(|(_, container)| {
        let name = container.image.clone().unwrap_or_default();
        let policy = policy(&name, container.image_pull_policy.as_deref());
        (name, policy)
    });
    volumes.chain(containers).collect()
}

impl Manager {
    /// Makes sure that every image of the pod is there. Only this waits for the network, and a request to
    /// stop ends it at once.
    pub(super) async fn ensure_images(&self, running: &mut Running, control: &Control) -> Result<()> {
        let spec = running.pod.spec.clone().unwrap_or_default();
        for (name, policy) in wanted(&spec) {
            if running.images.contains_key(&name) {
                // Even with Always: it was fetched a moment ago for this very pod.
                continue;
            }
            let begin = Instant::now();
            let outcome = tokio::select! {
                outcome = self.ensure(&name, policy, running, control) => outcome,
                () = control.stopped(Stop::Graceful) => Err(Error::Stopped),
            };
            let (found, pulled) = outcome?;
            running.note(
                control,
                format!("{} {name}", if pulled { "pull image" } else { "find image" }),
                begin,
            );
            running.images.insert(name, found);
        }
        Ok(())
    }

    async fn ensure(
        &self,
        name: &str,
        policy: Policy,
        running: &Running,
        control: &Control,
    ) -> Result<((String, Image), bool)> {
        let spec = ImageSpec { image: name.into(), user_specified_image: name.into(), ..Default::default() };
        if policy != Policy::Always
            && let Some(image) = self.client.image_status(&spec).await?
        {
            return Ok(((image.id.clone(), image), false));
        }
        if policy == Policy::Never {
            let message = format!("{name} is not here, and imagePullPolicy is Never; pull it first");
            return Err(Error::refused("image", message));
        }
        control.emit(Event::Pulling { image: name.into() });
        let reference = self.client.pull_image(spec.clone(), Some(running.sandbox.clone())).await?;
        // containerd answers with the image's id, others with a digest reference; both can be looked up.
        let fetched =
            ImageSpec { image: reference.clone(), user_specified_image: name.into(), ..Default::default() };
        let image = match self.client.image_status(&fetched).await? {
            Some(image) => image,
            None => self.client.image_status(&spec).await?.unwrap_or_default(),
        };
        Ok(((reference, image), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_follows_the_tag() {
        let of = |image: &str| policy(image, None);
        assert_eq!(of("busybox"), Policy::Always);
        assert_eq!(of("busybox:latest"), Policy::Always);
        assert_eq!(of("busybox:1.36"), Policy::IfNotPresent);
        assert_eq!(of("localhost:5000/busybox"), Policy::Always);
        assert_eq!(of("localhost:5000/busybox:1"), Policy::IfNotPresent);
        assert_eq!(of("busybox@sha256:abc"), Policy::IfNotPresent);
    }
}
