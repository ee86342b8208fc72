//! The command line, in runc's words. Declares it only; every value is checked where it is used.

mod go_flags;
#[cfg(test)]
mod tests;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--version` prints after the name, in runc's three lines (containerd's go-runc splits them,
/// `parseVersion`; Docker reads the words `version` and `commit`).
const VERSION: &str =
    concat!("version ", env!("CARGO_PKG_VERSION"), "\ncommit: v", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Shown below `--help`.
const EXIT_STATUS: &str = "\
A container goes: create, start, (pause, resume, exec, update,) kill, delete; run is all of it in one.

Exit status: 0 when it is done. 1 when it failed, with one line on standard error that says why, also in
the file of --log. `run` and `exec` in the foreground exit as the program does, or with 128 and the number of
the signal that ended it; `exec` that cannot start its program exits with 255.

State folder: /run/corten-oci, for ordinary users $XDG_RUNTIME_DIR/corten-oci.";

/// Runs containers from OCI bundles, with the command line of runc.
#[derive(Debug, Parser)]
#[command(
    name = "corten-oci", version = VERSION, subcommand_required = true, disable_help_subcommand = true,
    disable_version_flag = true, arg_required_else_help = true, args_override_self = true,
    after_help = EXIT_STATUS
)]
pub struct Arguments {
    /// Folder for the state of containers; it should be on a tmpfs.
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// File that errors are appended to; they are on standard error, too.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log what is done, too.
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make the cgroups: linux.cgroupsPath is then SLICE:PREFIX:NAME.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Go on without cgroups where this user may not make them: true, false, or auto by the user.
    #[arg(long, value_parser = switch, default_value = "auto")]
    pub rootless: Switch,
    /// Taken and not used: checkpoints are not offered.
    #[arg(long, hide = true)]
    pub criu: Option<String>,
    /// Print version.
    #[arg(long, short, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    pub verb: Verb,
}

impl Arguments {
    /// Where errors are to go to, of a command line that cannot be read otherwise.
    pub fn log_of(words: impl Iterator<Item = OsString>) -> Option<(PathBuf, LogFormat)> {
        let command = Self::command().ignore_errors(true);
        let words = go_flags::plain(&command, words.collect());
        let matches = command.try_get_matches_from(words).ok()?;
        let path = matches.try_get_one::<PathBuf>("log").ok()??.clone();
        let format = matches.try_get_one::<LogFormat>("log_format").ok()?.copied();
        Some((path, format.unwrap_or(LogFormat::Text)))
    }

    /// Reads the command line as runc's (Go's) parser would.
    pub fn read(words: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let words = go_flags::plain(&command, words.collect());
        let matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Yes, no, or what fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    Auto,
    Yes,
    No,
}

/// The words of Go's `strconv.ParseBool`, and `auto`.
fn switch(text: &str) -> Result<Switch, String> {
    match text {
        "auto" | "" => Ok(Switch::Auto),
        _ => match go_flags::truth(text) {
            Some(true) => Ok(Switch::Yes),
            Some(false) => Ok(Switch::No),
            None => Err("true, false or auto are expected".into()),
        },
    }
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
    Exec(Box<Exec>),
    /// Send a signal to a container.
    Kill(Kill),
    /// Remove a container and all that it holds.
    Delete(Delete),
    /// Stop all processes of a container where they are.
    Pause(Named),
    /// Let the processes of a paused container run on.
    Resume(Named),
    /// Change the limits of a container.
    Update(Box<Update>),
    /// Print the state of a container as JSON.
    State(Named),
    /// List the containers.
    List(List),
    /// List the processes of a container.
    Ps(Ps),
    /// Print what a container uses, and when it runs out of memory, one JSON object a line.
    Events(Events),
    /// Write a config.json to start from.
    Spec(SpecFile),
    /// Print what this program can do as JSON.
    Features,
    /// Refused: checkpoints are not offered.
    #[command(hide = true)]
    Checkpoint(NotOffered),
    /// Refused: checkpoints are not offered.
    #[command(hide = true)]
    Restore(NotOffered),
}

/// A container's name and nothing else.
#[derive(Debug, Args)]
pub struct Named {
    /// The container.
    pub id: String,
}

/// Whatever comes.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct NotOffered {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The bundle: a folder with config.json.
    #[arg(long, short, value_name = "FOLDER", default_value = ".")]
    pub bundle: PathBuf,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the first process.
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// File to write the process id to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Enter the root with chroot, for roots on an initramfs.
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the session keyring as it is.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many descriptors, from 3 on, to the program.
    #[arg(long, value_name = "N", default_value_t = 0)]
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
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the process.
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long, value_name = "FOLDER")]
    pub cwd: Option<String>,
    /// One more environment variable, NAME=value; can be given many times.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal.
    #[arg(long, short)]
    pub tty: bool,
    /// User id, or user and group id: UID[:GID].
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// One more group id; can be given many times.
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON, in place of a command.
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Come back as soon as the program runs.
    #[arg(long, short)]
    pub detach: bool,
    /// File to write the process id to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label of the process.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs.
    #[arg(long)]
    pub no_new_privs: bool,
    /// One more capability, as CAP_NET_ADMIN; can be given many times.
    #[arg(long, short, value_name = "NAME")]
    pub cap: Vec<String>,
    /// Pass this many descriptors, from 3 on, to the program.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Cgroup below the container's to run in, as [CONTROLLER:]PATH.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Start it in a paused container; it runs when the container is resumed.
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container.
    pub id: String,
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// All processes of the container; one that has stopped is fine.
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

/// `update`. Numbers are read where they are used, as runc does: an empty one is as one that was left out.
#[derive(Debug, Default, Args)]
pub struct Update {
    /// File with linux.resources as JSON, `-` for standard input; the other limits here are then not looked at.
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight for block devices, 10 to 1000.
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    pub blkio_weight: Option<String>,
    /// Period of the CPU limit in microseconds.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_period: Option<String>,
    /// CPU time in each period in microseconds; -1 lifts the limit.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU time that may be saved up in microseconds.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_burst: Option<String>,
    /// CPU weight against other containers, 2 to 262144.
    #[arg(long, value_name = "SHARES", allow_hyphen_values = true)]
    pub cpu_share: Option<String>,
    /// Period of the limit of realtime processes in microseconds.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_rt_period: Option<String>,
    /// CPU time of realtime processes in each period in microseconds.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// CPUs to run on, as 0-2,7.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-2,7.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1 lets all others run before this container, 0 does not.
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
    /// Memory in bytes, or as 64k, 32m, 1g; -1 lifts the limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is taken back last, in bytes.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Memory and swap together in bytes; -1 lifts the limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Number of processes and threads; -1 lifts the limit.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Schema of Intel RDT for the L3 cache.
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Schema of Intel RDT for memory bandwidth.
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// Taken and not used: the kernel has no such limit any more.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// Taken and not used: the kernel has no such limit any more.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
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

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Time between two lines, as 5s, 500ms or 1m30s.
    #[arg(long, value_name = "TIME", default_value = "5s", allow_hyphen_values = true)]
    pub interval: String,
    /// Print what the container uses once, and leave.
    #[arg(long)]
    pub stats: bool,
    /// The container.
    pub id: String,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct SpecFile {
    /// The bundle to write config.json to.
    #[arg(long, short, value_name = "FOLDER", default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user: a user namespace with this user as root, and no limits.
    #[arg(long)]
    pub rootless: bool,
}
