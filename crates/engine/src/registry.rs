//! Pods and containers in memory: look-ups by id or prefix, lists, and who is whose. Every list is answered
//! from here, so that a stuck monitor or plugin delays nobody.

use crate::api::*;
use crate::container::Container;
use crate::pod::Pod;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use types::reference::shorten;
use types::{Error, Result};

#[derive(Default)]
struct Tables {
    pods: BTreeMap<String, Arc<Pod>>,
    containers: BTreeMap<String, Arc<Container>>,
}

/// All pods and containers.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Tables>);

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add_pod(&self, pod: Arc<Pod>) {
        self.write().pods.insert(pod.id.to_string(), pod);
    }

    pub fn remove_pod(&self, pod: &Pod) {
        self.write().pods.remove(pod.id.as_str());
    }

    pub fn add_container(&self, container: Arc<Container>) {
        self.write().containers.insert(container.id.to_string(), container);
    }

    pub fn remove_container(&self, container: &Container) {
        self.write().containers.remove(container.id.as_str());
    }

    /// The pod of that id or unique prefix.
    pub fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        by_prefix(&self.read().pods, id, "pod sandbox")
    }

    /// The container of that id or unique prefix.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        by_prefix(&self.read().containers, id, "container")
    }

    /// All pods.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.read().pods.values().cloned().collect()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.read().containers.values().cloned().collect()
    }

    /// A pod's containers.
    pub fn containers_of(&self, pod: &Pod) -> Vec<Arc<Container>> {
        self.read().containers.values().filter(|c| c.pod.id == pod.id).cloned().collect()
    }

    pub fn list_pods(&self, filter: &PodFilter) -> Vec<PodStatus> {
        let mut pods: Vec<_> = self
            .read()
            .pods
            .values()
            .filter(|pod| pod.id.as_str().starts_with(&filter.id))
            .filter(|pod| {
                let record = pod.record();
                filter.state.is_none_or(|state| record.state() == state)
                    && has_labels(&record.config.labels, &filter.labels)
            })
            .map(|pod| pod.status())
            .collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        pods
    }

    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<ContainerStatus> {
        let mut containers: Vec<_> = self
            .read()
            .containers
            .values()
            .filter(|c| c.id.as_str().starts_with(&filter.id) && c.pod.id.as_str().starts_with(&filter.pod))
            .filter(|c| {
                let record = c.record();
                record.is_listed()
                    && filter.state.is_none_or(|state| record.state() == state)
                    && has_labels(&record.config.labels, &filter.labels)
            })
            .map(|c| c.status())
            .collect();
        containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        containers
    }
}

fn by_prefix<T>(table: &BTreeMap<String, Arc<T>>, id: &str, noun: &str) -> Result<Arc<T>> {
    if id.is_empty() {
        return Err(Error::invalid(format!("no {noun} id was given")));
    }
    let mut matches =
        table.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id)).map(|(_, value)| value);
    match (matches.next(), matches.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => {
            Err(Error::invalid(format!("{noun} id {:?} is ambiguous; give more of it", shorten(id))))
        }
        (None, _) => Err(Error::not_found(format!("{noun} {:?} does not exist", shorten(id)))),
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
