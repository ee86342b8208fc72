//! Finding the program inside the container and executing it.

use crate::failure::{Failure, Step, describe};
use crate::plan::Process;
use rustix::io::Errno;
use std::ffi::CString;

/// Where a program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that is ready to be executed.
pub struct Program {
    image: sys::process::Image,
    candidates: Vec<CString>,
    name: String,
}

/// Prepares vectors and candidate paths. `home` is added as `HOME` where the environment has none.
pub fn prepare(process: &Process, home: &str) -> Step<Program> {
    let text = |bytes: &[u8], what: &str| {
        CString::new(bytes).map_err(|_| Failure::request(format!("{what} has a NUL byte in it")))
    };
    let first = process
        .args
        .first()
        .filter(|a| !a.is_empty())
        .ok_or_else(|| Failure::request("no command is given"))?;
    let name = String::from_utf8_lossy(first).into_owned();
    let args = process.args.iter().map(|a| text(a, "an argument")).collect::<Step<Vec<_>>>()?;
    let mut env = process.env.iter().map(|e| text(e, "an environment variable")).collect::<Step<Vec<_>>>()?;
    if process.set_home && !process.env.iter().any(|e| e.starts_with(b"HOME=")) {
        env.push(text(format!("HOME={home}").as_bytes(), "the home directory")?);
    }
    let candidates = candidates(first, &process.env)
        .iter()
        .map(|path| text(path, "the command"))
        .collect::<Step<Vec<_>>>()?;
    Ok(Program { image: sys::process::Image::new(args, env), candidates, name })
}

/// Where a command is looked for, in this order; relative ones are meant from the working directory.
pub fn candidates(command: &[u8], env: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if command.contains(&b'/') {
        return vec![command.to_vec()];
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    // An empty element of PATH is the working directory (environ(7)).
    let folder = |dir: &[u8]| if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
    path.split(|b| *b == b':').map(|dir| [&folder(dir)[..], b"/", command].concat()).collect()
}

impl Program {
    /// Fails when no candidate is an executable file, as [`Program::exec`] would. Only the kernel knows for
    /// sure: this is for a process that will execute later, when nobody listens any more.
    pub fn check(&self) -> Step {
        let mut refused = None;
        for path in &self.candidates {
            let Ok(stat) = rustix::fs::stat(path.as_c_str()) else { continue };
            let is_file =
                rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
            // Root may execute what anybody may; what the user may is for the exec to say.
            if is_file && stat.st_mode & 0o111 != 0 {
                return Ok(());
            }
            refused = Some(path);
        }
        Err(self.not_found(refused))
    }

    /// Executes the first candidate that is there; comes back only with a failure.
    pub fn exec(&self) -> Failure {
        let mut refused = None;
        for path in &self.candidates {
            let errno = Errno::from_io_error(&self.image.exec(path)).unwrap_or(Errno::IO);
            match errno {
                Errno::NOENT | Errno::NOTDIR => {}
                // As execvp(3): go on, and say so if nothing else is found.
                Errno::ACCESS => refused = Some(path.clone()),
                errno => {
                    let hint = if errno == Errno::NOEXEC { " (is it built for this machine?)" } else { "" };
                    return Failure::request(format!("exec {path:?}: {}{hint}", describe(errno)));
                }
            }
        }
        self.not_found(refused.as_ref())
    }

    fn not_found(&self, refused: Option<&CString>) -> Failure {
        let name = &self.name;
        match refused {
            Some(path) => Failure::request(format!("exec {path:?}: permission denied")),
            None if name.contains('/') => Failure::request(format!(
                "exec {name:?}: no such file or directory in the container (or its interpreter or loader is missing)"
            )),
            None => Failure::request(format!(
                "exec {name:?}: executable file not found in $PATH of the container"
            )),
        }
    }
}
