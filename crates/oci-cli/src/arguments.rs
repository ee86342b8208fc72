//! The command line, in runc's words. Declares it only; every value is checked where it is used.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What `--version` prints after the name: Podman and others look for the specification's version.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.1.0");

/// Runs containers from OCI bundles, as runc does.
#[derive(Debug, Parser)]
#[command(name = "corten-oci", version = VERSION, subcommand_required = true, disable_help_subcommand = true)]
pub struct Arguments {
    /// Folder for the state of containers; it should be on a tmpfs.
    #[arg(long, default_value = "/run/corten-oci")]
    pub root: PathBuf,
    /// File that errors are appended to, instead of standard error.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log what is done, too.
    #[arg(long)]
    pub debug: bool,
    /// Systemd makes the cgroups (refused: not built yet).
    #[arg(long)]
    pub systemd_cgroup: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container up to the point where its program would run.
    Create(Create),
    /// Run the program of a created container.
    Start(Named),
    /// Create and start a container, and wait for its end.
    Run(Run),
    /// Run one more process in a container.
    Exec(Exec),
    /// Send a signal to a container.
    Kill(Kill),
    /// Remove a container and all that it holds.
    Delete(Delete),
    /// Print the state of a container as JSON.
    State(Named),
    /// List the containers.
    List(List),
    /// List the processes of a container.
    Ps(Ps),
    /// Write a config.json to start from.
    Spec(SpecFile),
    /// Print what this program can do as JSON.
    Features,
}

/// A container's name and nothing else.
#[derive(Debug, Args)]
pub struct Named {
    /// The container.
    pub id: String,
}

/// `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The bundle: a folder with config.json.
    #[arg(long, short, default_value = ".")]
    pub bundle: PathBuf,
    /// Socket that gets the terminal's master.
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// File to write the process id to.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Enter the root with chroot, for roots on an initramfs.
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the session keyring as it is, which is always so.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many descriptors, from 3 on, to the program.
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// The container's name.
    pub id: String,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Come back as soon as the program runs.
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container after its end.
    #[arg(long)]
    pub keep: bool,
    /// Do not take on orphans of the container.
    #[arg(long)]
    pub no_subreaper: bool,
    #[command(flatten)]
    pub create: Create,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Socket that gets the terminal's master.
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long)]
    pub cwd: Option<String>,
    /// One more environment variable, NAME=value.
    #[arg(long, short)]
    pub env: Vec<String>,
    /// Give it a terminal (needs --console-socket).
    #[arg(long, short)]
    pub tty: bool,
    /// User id, or user and group id: UID[:GID].
    #[arg(long, short)]
    pub user: Option<String>,
    /// More group ids.
    #[arg(long, short = 'g')]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON, in place of a command.
    #[arg(long, short)]
    pub process: Option<PathBuf>,
    /// Come back as soon as the program runs.
    #[arg(long, short)]
    pub detach: bool,
    /// File to write the process id to.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Set no_new_privs.
    #[arg(long)]
    pub no_new_privs: bool,
    /// Pass this many descriptors, from 3 on, to the program.
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// The container.
    pub id: String,
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// All processes of the container.
    #[arg(long, short)]
    pub all: bool,
    /// The container.
    pub id: String,
    /// A name as KILL or SIGKILL, or a number.
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    pub signal: String,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill it where it runs; one that is not there is fine.
    #[arg(long, short)]
    pub force: bool,
    /// The container.
    pub id: String,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// How to print them.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Names only.
    #[arg(long, short)]
    pub quiet: bool,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// How to print them.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The container.
    pub id: String,
    /// Options for ps(1), `-ef` if none.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct SpecFile {
    /// The bundle to write config.json to.
    #[arg(long, short, default_value = ".")]
    pub bundle: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_callers_of_runc_are_understood() {
        for line in [
            // containerd (go-runc) and conmon.
            "--root /r --log /l --log-format json create --bundle /b --pid-file /p --console-socket /c id",
            "--root /r --log /l --log-format json start id",
            "--root /r --log /l --log-format json kill --all id 9",
            "--root /r --log /l --log-format json delete --force id",
            "--root /r exec --process /p --detach --pid-file /q --console-socket /c id",
            "create --bundle /b --pid-file /p --no-new-keyring id",
            "exec id sh -c -e",
            "kill id KILL",
        ] {
            let words = std::iter::once("corten-oci").chain(line.split(' '));
            Arguments::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
