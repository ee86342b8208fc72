//! The terminal of `corten run`: one thread follows each container's log and writes whole lines, each after
//! the container's name. It shows what the manager tells, and decides nothing.

use super::run::say;
use crate::output::progress::Spinner;
use cri_log::Stream;
use cri_log::read::{Options, Reader};
use runtime_manager::Event;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;

/// Longest line that is held back until its end; the rest follows as lines of their own.
const MAX_LINE: usize = 64 << 10;
/// How long a log may take to be there after its container started.
const PATIENCE: Duration = Duration::from_secs(5);
/// Colours of the names, in turns (SGR codes).
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// One log that is followed.
struct Follower {
    container: String,
    attempt: u32,
    running: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Shows events until their sender is gone, then reads every log to its end.
pub async fn show(mut events: UnboundedReceiver<Event>, pod: Option<String>, prefix: bool) {
    let mut followers: Vec<Follower> = Vec::new();
    let mut spinner: Option<Spinner> = None;
    let mut names: Vec<String> = Vec::new();
    while let Some(event) = events.recv().await {
        if !matches!(event, Event::Step(_)) || spinner.is_some() {
            spinner = None;
        }
        match event {
            Event::Step(_) => {}
            Event::Pulling { image } => spinner = Some(Spinner::new(&format!("pulling {image}"))),
            Event::Started { container, attempt, log_path, .. } => {
                if !names.contains(&container) {
                    names.push(container.clone());
                }
                let at = names.iter().position(|name| *name == container).unwrap_or(0);
                let name = match &pod {
                    Some(pod) => format!("{pod}/{container}"),
                    None => container.clone(),
                };
                let head = if prefix { Head::new(&name, at) } else { Head::none() };
                let running = Arc::new(AtomicBool::new(true));
                let flag = running.clone();
                let thread = std::thread::spawn(move || follow(&log_path, &head, &flag));
                followers.push(Follower { container, attempt, running, thread });
            }
            Event::Exited { container, attempt, code, reason, message } => {
                let ended = |f: &&Follower| f.container == container && f.attempt == attempt;
                followers.iter().filter(ended).for_each(|f| f.running.store(false, Ordering::Relaxed));
                if code != 0 || !message.is_empty() {
                    say(&exit_line(&container, code, &reason, &message));
                }
                // Threads that have ended need no place here.
                followers.retain(|f| !f.thread.is_finished());
            }
            Event::BackOff { container, delay } => say(&format!("{container}: starts again in {delay:?}")),
            Event::Warning(text) => say(&format!("warning: {text}")),
        }
    }
    drop(spinner);
    for follower in &followers {
        follower.running.store(false, Ordering::Relaxed);
    }
    let join = move || followers.into_iter().for_each(|follower| drop(follower.thread.join()));
    let _ = tokio::task::spawn_blocking(join).await;
}

/// What is said about a container that ended.
fn exit_line(container: &str, code: i32, reason: &str, message: &str) -> String {
    let mut line = format!("{container}: ended with code {code}");
    if !reason.is_empty() && reason != "Error" && reason != "Completed" {
        line.push_str(&format!(" ({reason})"));
    }
    if !message.is_empty() {
        line.push_str(&format!(": {message}"));
    }
    line
}

/// What stands before each line, for both streams.
struct Head {
    out: String,
    err: String,
}

impl Head {
    fn new(name: &str, index: usize) -> Self {
        let colour = COLOURS[index % COLOURS.len()];
        let head = |terminal: bool| {
            // https://no-color.org
            let plain = !terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            if plain { format!("{name} | ") } else { format!("\u{1b}[{colour}m{name} |\u{1b}[0m ") }
        };
        Self { out: head(std::io::stdout().is_terminal()), err: head(std::io::stderr().is_terminal()) }
    }

    fn none() -> Self {
        Self { out: String::new(), err: String::new() }
    }
}

/// Follows one log until `running` is false and everything in it was shown.
fn follow(path: &Path, head: &Head, running: &AtomicBool) {
    let mut reader = match open(path, running) {
        Ok(reader) => reader,
        Err(reason) => return say(&format!("cannot show {}: {reason}", path.display())),
    };
    let mut lines = [Vec::new(), Vec::new()];
    let outcome = reader.follow(
        || running.load(Ordering::Relaxed),
        |piece| {
            let line = &mut lines[usize::from(piece.stream == Stream::Stderr)];
            line.extend_from_slice(piece.text);
            if piece.ends_line || line.len() >= MAX_LINE {
                write_line(piece.stream, head, line)
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    for (line, stream) in lines.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
        if !line.is_empty() {
            let _ = write_line(stream, head, line);
        }
    }
    if let Err(error) = outcome {
        say(&format!("cannot show {}: {}", path.display(), types::error::chain(&error)));
    }
}

/// Opens the log, which a runtime may make a moment after it has said that the container started.
fn open(path: &Path, running: &AtomicBool) -> Result<Reader, String> {
    let begin = Instant::now();
    let folder: PathBuf = path.parent().unwrap_or(Path::new("/")).into();
    let name: PathBuf = path.file_name().unwrap_or_default().into();
    loop {
        match Reader::open(&folder, &name, Options::default()) {
            Ok(reader) => return Ok(reader),
            Err(error) if begin.elapsed() > PATIENCE || !running.load(Ordering::Relaxed) => {
                return Err(types::error::chain(&error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Writes one whole line, so that lines of different containers never mix. Ends the following when nobody
/// reads any more.
fn write_line(stream: Stream, head: &Head, line: &mut Vec<u8>) -> ControlFlow<()> {
    line.push(b'\n');
    let write = |to: &mut dyn Write, head: &str| {
        to.write_all(head.as_bytes())?;
        to.write_all(line)?;
        to.flush()
    };
    let done = match stream {
        Stream::Stdout => write(&mut std::io::stdout().lock(), &head.out),
        Stream::Stderr => write(&mut std::io::stderr().lock(), &head.err),
    };
    line.clear();
    if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_manager::translate::Role;

    #[test]
    fn an_exit_is_told_with_its_reason_and_last_words() {
        assert_eq!(exit_line("a", 137, "OOMKilled", ""), "a: ended with code 137 (OOMKilled)");
        assert_eq!(exit_line("a", 1, "Error", "no disk"), "a: ended with code 1: no disk");
    }

    #[tokio::test]
    async fn the_output_of_a_container_is_read_to_its_end() {
        // The lines go to the test's own output; what is promised here is that `show` comes to its end.
        let dir = tempfile::tempdir().unwrap();
        let log_path = dir.path().join("0.log");
        std::fs::write(&log_path, "2026-01-31T12:00:00.000000000Z stdout F hello\n").unwrap();
        let (send, events) = tokio::sync::mpsc::unbounded_channel();
        let showing = tokio::spawn(show(events, None, true));
        send.send(Event::Started {
            container: "a".into(),
            role: Role::Main,
            attempt: 0,
            id: "1".into(),
            log_path,
        })
        .unwrap();
        drop(send);
        tokio::time::timeout(Duration::from_secs(10), showing).await.unwrap().unwrap();
    }
}
