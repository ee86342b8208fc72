//! `Debug` of the messages that carry secrets. It shows what was set, never its content.

use crate::v1::{AuthConfig, KeyValue};
use std::fmt;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "" } else { "(set)" };
        f.debug_struct("AuthConfig")
            .field("username", &shown(&self.username))
            .field("password", &shown(&self.password))
            .field("auth", &shown(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &shown(&self.identity_token))
            .field("registry_token", &shown(&self.registry_token))
            .finish()
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=({} bytes)", self.key, self.value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corten_v1::PullRequest;
    use crate::v1::{ContainerConfig, PullImageRequest};

    #[test]
    fn printing_a_request_shows_no_secret() {
        let secret = String::from("hunter2");
        let pull = PullImageRequest {
            auth: Some(AuthConfig {
                username: secret.clone(),
                password: secret.clone(),
                auth: secret.clone(),
                server_address: "registry.example".into(),
                identity_token: secret.clone(),
                registry_token: secret.clone(),
            }),
            ..Default::default()
        };
        let own = PullRequest { reference: "app:1".into(), auth: pull.auth.clone() };
        let container = ContainerConfig {
            envs: vec![KeyValue { key: "PASSWORD".into(), value: secret.clone().into() }],
            ..Default::default()
        };
        let text = format!("{pull:?} {own:?} {container:?}");
        assert!(!text.contains(&secret), "{text}");
        assert!(text.contains("registry.example") && text.contains("PASSWORD"), "{text}");
    }
}
