//! The command line: global flags and the list of verbs. The flags of a verb are in its own file.

use crate::bench;
use crate::commands as verb;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const LONG: &str = "\
Runs Kubernetes pods on one machine, with or without Kubernetes.

`corten daemon` serves the CRI endpoint that a kubelet uses. `corten run POD.yaml` runs a pod here and now, by \
a daemon where one answers, else by itself. The other verbs look at and work on any CRI endpoint, also \
containerd's or CRI-O's; they have crictl's names, flags and output.";

const AFTER: &str = "\
Ids may be cut short as long as they are unique. Without --endpoint, the socket of the configuration is used \
when a daemon answers there; else the verb works on the state folder by itself.";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(name = "corten", version, about = "A Kubernetes container runtime", long_about = LONG, after_help = AFTER)]
pub struct Cli {
    /// Socket of the CRI endpoint: a path, or unix:///path
    #[arg(
        short = 'r',
        long,
        visible_alias = "runtime-endpoint",
        env = "CONTAINER_RUNTIME_ENDPOINT",
        global = true,
        value_name = "SOCKET",
        value_parser = crate::endpoint::parse
    )]
    pub endpoint: Option<PathBuf>,
    /// How long a call that only looks or asks may take, as 2s or 1m30s; written before the verb
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = verb::duration)]
    pub timeout: Duration,
    /// Configuration file [default: /etc/corten/config.toml when it is there]
    #[arg(long, env = "CORTEN_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more on standard error
    #[arg(short = 'D', long, global = true)]
    pub debug: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the CRI endpoint
    Daemon(verb::daemon::Args),
    /// Run the pods of a YAML file and show their output
    Run(verb::run::Args),
    /// List pods
    #[command(visible_alias = "p")]
    Pods(verb::pods::Args),
    /// List containers
    Ps(verb::ps::Args),
    /// List images
    #[command(visible_aliases = ["image", "img"])]
    Images(verb::images::Args),
    /// Fetch an image
    Pull(verb::pull::Args),
    /// Send an image to a registry
    Push(verb::push::Args),
    /// Make an image of a folder or of one program
    Pack(verb::pack::Args),
    /// Show the output of a container
    Logs(verb::logs::Args),
    /// Run a command in a running container
    Exec(verb::exec::Args),
    /// Show everything about containers
    Inspect(verb::inspect::Args),
    /// Show everything about pods
    Inspectp(verb::inspectp::Args),
    /// Show everything about images
    Inspecti(verb::inspecti::Args),
    /// Start a pod sandbox from a CRI config file
    Runp(verb::runp::Args),
    /// Create a container in a pod from CRI config files
    Create(verb::create::Args),
    /// Start created containers
    Start(verb::start::Args),
    /// Stop containers
    Stop(verb::stop::Args),
    /// Stop pods
    Stopp(verb::stopp::Args),
    /// Remove containers
    Rm(verb::rm::Args),
    /// Remove pods
    Rmp(verb::rmp::Args),
    /// Remove images
    Rmi(verb::rmi::Args),
    /// Show what images take on disk
    Imagefsinfo(verb::imagefsinfo::Args),
    /// Make a container's log begin a new file, after the old one was moved away
    ReopenLog(verb::reopen_log::Args),
    /// Show the state of the runtime
    Info(verb::info::Args),
    /// Show versions
    Version(verb::version::Args),
    /// Print or check a configuration
    Config(verb::config::Args),
    /// Time the same work on one CRI endpoint, or on two
    Bench(bench::Arguments),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_every_flag_has_a_help_text() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for flag in command.get_arguments() {
                assert!(flag.get_help().is_some(), "{path} {}", flag.get_id());
            }
            for inner in command.get_subcommands() {
                check(inner, &path);
            }
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn crictls_habits_are_understood() {
        for line in [
            "corten ps -a -q",
            "corten ps --name web --state running -o json",
            "corten pods -l --no-trunc",
            "corten -r unix:///run/containerd/containerd.sock ps",
            "corten ps -r /run/containerd/containerd.sock",
            "corten --runtime-endpoint /x.sock --timeout 2s images -q",
            "corten img --digests",
            "corten images busybox -q",
            "corten images import x.tar -t a:1",
            "corten images import -",
            "corten images export a:1 b:1 --format docker-archive -f x.tar",
            "corten images check --repair a:1",
            "corten push a:1 registry.example/a:2 --creds u:p",
            "corten pack ./site -t site:1 --base nginx --entrypoint a --entrypoint=-b --port 80",
            "corten logs -f --tail 5 --since 10m abc",
            "corten exec -s abc ls -la /",
            "corten exec abc -- sh -c true",
            "corten stop -t 3 a b",
            "corten rm -f -a",
            "corten rmp -fa",
            "corten rmi --prune",
            "corten run pod.yaml --timings",
            "corten inspect -o yaml a",
            "corten config default",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
