//! The program of the demonstration's image: a tiny web server, the init container that writes its page,
//! and a second container that counts.
//!
//! It serves files of one folder to people who try Corten out; it is no web server for anything else.

mod serve;
mod tick;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
hello-web serve [--port 8080] [--dir /data]  serves the files of a folder, and /healthz
hello-web write [--dir /data]                writes index.html and ends
hello-web tick  [--dir /data]                adds a line to ticks.txt each second
";

/// What the command line says.
struct Arguments {
    port: u16,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = words.split_first() else {
        eprint!("{HELP}");
        return ExitCode::FAILURE;
    };
    let outcome = parse(rest).and_then(|arguments| {
        // The kernel gives the first process of a PID namespace no default action for SIGTERM
        // (pid_namespaces(7)), so that without this it could only be killed.
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
            signal_hook::flag::register_conditional_shutdown(signal, 0, ended)
                .map_err(|said| format!("cannot handle signal {signal}: {said}"))?;
        }
        match command.as_str() {
            "serve" => serve::serve(arguments.port, &arguments.dir),
            "write" => write::write(&arguments.dir),
            "tick" => tick::tick(&arguments.dir),
            other => Err(format!("{other:?} is no command\n{HELP}")),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hello-web: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments { port: 8080, dir: PathBuf::from("/data") };
    let mut words = words.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => arguments.port = value.parse().map_err(|_| format!("{value:?} is no port"))?,
            "--dir" => arguments.dir = PathBuf::from(value),
            other => return Err(format!("{other:?} is not known\n{HELP}")),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_and_the_folder_can_be_chosen() {
        let words = ["--port", "81", "--dir", "/x"].map(str::to_owned);
        let arguments = parse(&words).expect("understood");
        assert_eq!((arguments.port, arguments.dir), (81, PathBuf::from("/x")));
        assert!(parse(&words[..1]).is_err() && parse(&["--port".to_owned(), "x".to_owned()]).is_err());
    }
}
