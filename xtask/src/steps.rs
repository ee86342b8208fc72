//! Steps with a heading, a duration, and an end at the first failure.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// The steps of one command and how long each took.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step under its heading.
    pub fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        println!("\n==> {name}");
        let begin = Instant::now();
        let outcome = step();
        self.done.push((name.to_owned(), begin.elapsed()));
        outcome.map_err(|why| format!("{name}: {why}"))
    }

    /// The durations, one line each.
    pub fn summary(&self) -> String {
        let width = self.done.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |name: &str, time: Duration| format!("  {name:width$}  {:>7.1} s\n", time.as_secs_f64());
        let total = self.done.iter().map(|(_, time)| *time).sum();
        let lines: String = self.done.iter().map(|(name, time)| line(name, *time)).collect();
        lines + &line("total", total)
    }
}

/// Set by Ctrl-C and SIGTERM once they are outlived, and by [`stop`].
static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on Ctrl-C and SIGTERM do not end this process: what it started gets the signal from the terminal
/// and ends, and then this process undoes its own work as after any failure.
pub fn outlive_signals() -> Result<(), String> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&STOPPED))
            .map_err(|said| format!("cannot handle signal {signal}: {said}"))?;
    }
    Ok(())
}

/// Whether waiting must end now.
pub fn interrupted() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Ends every wait, as Ctrl-C does.
pub fn stop() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Runs a program with our own streams; a failure says which one and what to do.
pub fn run(command: &mut Command, advice: &str) -> Result<(), String> {
    let shown = show(command);
    let status = command
        .stdin(std::process::Stdio::null())
        .status()
        .map_err(|said| format!("cannot start `{shown}`: {said}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` ended with {status}. {advice}")) }
}

/// Runs a program and returns what it printed.
pub fn read(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|said| format!("cannot start `{shown}`: {said}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{shown}` ended with {}: {}", output.status, said.trim()))
    }
}

/// cargo, as the one that runs us, in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace()).args(arguments);
    command
}

fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_names_itself_and_is_timed() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("first", || Ok(1)), Ok(1));
        assert_eq!(steps.run("second", || Err::<(), _>("why".to_owned())), Err("second: why".to_owned()));
        assert_eq!(steps.summary().lines().count(), 3);
        let failed = run(&mut Command::new("false"), "Do this.").expect_err("it fails");
        assert!(failed.starts_with("`false`") && failed.ends_with("Do this."), "{failed}");
    }
}
