//! Program, arguments, environment, working directory. Looks at no file: a program that is not there is
//! found out by the launcher.

use crate::inputs::{ImageConfig, Inputs};
use crate::limits;
use std::collections::HashMap;
use types::reference::shorten;
use types::{ContainerConfig, Error, Result};

/// What a container without `PATH` gets; containerd's `defaultUnixEnv` (`pkg/oci/spec.go`), Docker's too.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program and arguments. A command replaces the image's entrypoint and drops the image's arguments;
/// arguments replace the image's arguments (containerd `internal/cri/opts/spec_opts.go`, `WithProcessArgs`;
/// Kubernetes "Define a Command and Arguments for a Container").
pub(crate) fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<Vec<u8>>> {
    // An entrypoint of one empty word is how an image says that it has none (moby `daemon/commit.go`).
    let entrypoint: &[String] = match image.entrypoint.as_slice() {
        [only] if only.is_empty() => &[],
        all => all,
    };
    let (program, rest): (&[String], &[String]) = if !config.command.is_empty() {
        (&config.command, &config.args)
    } else if !config.args.is_empty() {
        (entrypoint, &config.args)
    } else {
        (entrypoint, &image.cmd)
    };
    let all: Vec<Vec<u8>> = program.iter().chain(rest).map(|arg| arg.clone().into_bytes()).collect();
    if all.first().is_none_or(Vec::is_empty) {
        return Err(Error::invalid(format!(
            "container {:?}: no command to run: neither the request nor the image {:?} names one; set `command`",
            shorten(&config.metadata.name),
            shorten(&config.image)
        )));
    }
    Ok(all)
}

/// The environment: `PATH`, `TERM` with a terminal, `HOSTNAME`, then the image's, then the caller's, later ones
/// in the place of earlier ones (containerd `container_create.go`, `buildLinuxSpec`). An entry of the image
/// without `=` takes the variable away (containerd `pkg/oci/spec_opts.go`, `replaceOrAppendEnvValues`).
pub(crate) fn env(inputs: &Inputs<'_>) -> Result<Vec<Vec<u8>>> {
    let mut env = Environment::default();
    env.set(b"PATH", DEFAULT_PATH);
    if inputs.container.tty {
        env.set(b"TERM", b"xterm");
    }
    env.set(b"HOSTNAME", inputs.hostname.as_bytes());
    for entry in &inputs.image.env {
        match entry.split_once('=') {
            // `=x` has no name; nothing could ever read it.
            Some(("", _)) => {}
            Some((name, value)) => env.set(name.as_bytes(), value.as_bytes()),
            None => env.unset(entry.as_bytes()),
        }
    }
    for (name, value) in &inputs.container.envs {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::invalid(format!(
                "environment variable {:?}: a name without `=` and NUL is expected",
                shorten(name)
            )));
        }
        env.set(name.as_bytes(), value);
    }
    Ok(env.into_records())
}

/// The caller's working directory, else the image's, else `/`.
pub(crate) fn cwd(config: &ContainerConfig, image: &ImageConfig) -> Result<String> {
    let cwd = if !config.working_dir.is_empty() {
        config.working_dir.clone()
    } else if image.working_dir.starts_with('/') {
        image.working_dir.clone()
    } else {
        // Builders write absolute ones; some hand-made images do not, and mean it from the root.
        format!("/{}", image.working_dir)
    };
    limits::path("working directory", &cwd)?;
    Ok(cwd)
}

/// Sets one variable in a finished environment.
pub(crate) fn set_env(env: &mut Vec<Vec<u8>>, name: &[u8], value: &[u8]) {
    let record = record(name, value);
    let at = env.iter().position(|entry| entry.starts_with(name) && entry.get(name.len()) == Some(&b'='));
    match at {
        Some(at) => env[at] = record,
        None => env.push(record),
    }
}

fn record(name: &[u8], value: &[u8]) -> Vec<u8> {
    [name, b"=", value].concat()
}

/// Variables in the order of their first appearance.
#[derive(Default)]
struct Environment {
    places: HashMap<Vec<u8>, usize>,
    records: Vec<Option<Vec<u8>>>,
}

impl Environment {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        let record = Some(record(name, value));
        match self.places.get(name) {
            Some(at) => self.records[*at] = record,
            None => {
                self.places.insert(name.to_vec(), self.records.len());
                self.records.push(record);
            }
        }
    }

    fn unset(&mut self, name: &[u8]) {
        if let Some(at) = self.places.remove(name) {
            self.records[at] = None;
        }
    }

    fn into_records(self) -> Vec<Vec<u8>> {
        self.records.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn merged(command: &[&str], args_: &[&str], entrypoint: &[&str], cmd: &[&str]) -> Option<String> {
        let config =
            ContainerConfig { command: words(command), args: words(args_), ..ContainerConfig::default() };
        let image = ImageConfig { entrypoint: words(entrypoint), cmd: words(cmd), ..ImageConfig::default() };
        let all = args(&config, &image).ok()?;
        Some(all.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn command_and_args_follow_the_table_of_kubernetes() {
        for (command, args, expected) in [
            (&[][..], &[][..], "/ep-1 foo bar"),
            (&["/ep-2"], &[], "/ep-2"),
            (&[], &["zoo", "boo"], "/ep-1 zoo boo"),
            (&["/ep-2"], &["zoo", "boo"], "/ep-2 zoo boo"),
        ] {
            assert_eq!(merged(command, args, &["/ep-1"], &["foo", "bar"]).as_deref(), Some(expected));
        }
        assert_eq!(merged(&[], &[], &[""], &["/bin/sh"]).as_deref(), Some("/bin/sh"));
    }

    #[test]
    fn nothing_to_run_is_refused() {
        assert_eq!(merged(&[], &[], &[], &[]), None);
        assert_eq!(merged(&[""], &[], &[], &["/bin/sh"]), None);
    }

    #[test]
    fn one_variable_is_replaced_in_place() {
        let mut env = vec![b"TERMINAL=x".to_vec(), b"TERM=dumb".to_vec(), b"A=1".to_vec()];
        set_env(&mut env, b"TERM", b"xterm");
        assert_eq!(env, [&b"TERMINAL=x"[..], b"TERM=xterm", b"A=1"]);
    }
}
