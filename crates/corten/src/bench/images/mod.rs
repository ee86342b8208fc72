//! `corten bench images`: pulls of images on one CRI endpoint, or on two in turns; what they cost in time and
//! memory, and beside them what the same layers cost where nothing is done but what has to be.
//!
//! Each round of each endpoint: everything is synced; the daemon's memory mark is reset; the image is pulled
//! (the time until PullImage answers), synced (the time until all of it is on the disk), pulled again
//! unchanged, removed, and waited for until its files are gone. It starts no daemon.

mod plain;
mod report;

use super::Error;
use super::samples::Samples;
use super::target::Target;
use super::work;
use cri_api::v1::RemoveImageRequest;
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Unchanged pulls in each round.
const AGAIN: u32 = 10;
/// How long a runtime may take to delete what it removed.
const DELETING: Duration = Duration::from_secs(120);
/// What may stay of an image that is gone: a database that grew, a log.
const LEFT_BYTES: u64 = 4 << 20;

/// What is pulled.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// A second endpoint: both pull in turns, and the ratios are printed
    #[arg(long, value_name = "ENDPOINT")]
    vs: Option<PathBuf>,
    /// An image, and the name it has in the report; may be repeated
    #[arg(long = "image", value_name = "NAME=REFERENCE", value_parser = named, required = true)]
    images: Vec<(String, String)>,
    /// A layer of such an image as a file, to measure its plain cost; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    plain: Vec<(String, String)>,
    /// Images that are pulled all at once; repeated
    #[arg(long, value_name = "REFERENCE")]
    many: Vec<String>,
    /// A folder where an endpoint keeps its images, in the order of the endpoints: it is waited for until what was
    /// removed is gone from it
    #[arg(long, value_name = "FOLDER")]
    folder: Vec<PathBuf>,
    /// Pulls of each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Only what has this name: an image's, or `many`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Print a Markdown table
    #[arg(long)]
    markdown: bool,
}

fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no = after the name")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What was measured of one set of images at one endpoint.
#[derive(Debug, Default)]
struct Figures {
    /// Until PullImage answered, of the last one where there are several.
    ready: Samples,
    /// Until sync(2) came back after that.
    synced: Samples,
    /// PullImage of what is there.
    again: Samples,
    /// The highest resident memory of the daemon less what it had before the first pull, in KiB.
    peak: Option<u64>,
}

/// One endpoint and what was measured there, by set.
struct Side {
    target: Target,
    folder: Option<PathBuf>,
    idle: Option<u64>,
    figures: BTreeMap<String, Figures>,
}

/// Runs everything and returns the report.
pub async fn run(endpoint: &Path, arguments: &Arguments) -> Result<String, Error> {
    let mut sides = Vec::new();
    for (at, path) in [Some(endpoint), arguments.vs.as_deref()].into_iter().flatten().enumerate() {
        let target = Target::connect(path).await?;
        let idle = target.daemon.and_then(|pid| memory(pid, "VmRSS:"));
        let folder = arguments.folder.get(at).cloned();
        sides.push(Side { target, folder, idle, figures: BTreeMap::new() });
    }
    let mut sets: Vec<(String, Vec<String>)> =
        arguments.images.iter().map(|(name, image)| (name.clone(), vec![image.clone()])).collect();
    if !arguments.many.is_empty() {
        sets.push(("many".to_owned(), arguments.many.clone()));
    }
    sets.retain(|(name, _)| arguments.only.as_ref().is_none_or(|only| only == name));
    let mut plain: BTreeMap<String, Samples> = BTreeMap::new();
    let outcome = tokio::select! {
        outcome = rounds(&mut sides, &sets, arguments, &mut plain) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    for side in &sides {
        for reference in sets.iter().flat_map(|(_, images)| images) {
            // Of what is gone this is fine, and a failure above says more than one here.
            let _ = remove(&side.target, reference).await;
        }
    }
    outcome?;
    Ok(report::text(&sides, &sets, &plain, arguments.markdown))
}

async fn rounds(
    sides: &mut [Side],
    sets: &[(String, Vec<String>)],
    arguments: &Arguments,
    plain: &mut BTreeMap<String, Samples>,
) -> Result<(), Error> {
    for (name, images) in sets {
        let layers: Vec<PathBuf> =
            arguments.plain.iter().filter(|(n, _)| n == name).map(|(_, file)| file.into()).collect();
        for round in 1..=arguments.rounds {
            eprintln!("{name}, round {round} of {}", arguments.rounds);
            if !layers.is_empty() {
                let layers = layers.clone();
                let cost = tokio::task::spawn_blocking(move || {
                    rustix::fs::sync();
                    plain::cost(&layers)
                });
                let cost = cost.await.map_err(|_| Error::Interrupted)??;
                plain.entry(name.clone()).or_default().add(cost);
            }
            for side in &mut *sides {
                side.round(name, images).await?;
            }
        }
    }
    Ok(())
}

impl Side {
    async fn round(&mut self, name: &str, images: &[String]) -> Result<(), Error> {
        let failed = self.target.failed("pull");
        let before = self.occupied();
        // So that nobody pays for what the other one wrote.
        sync().await;
        reset_peak(self.target.daemon);
        let begin = Instant::now();
        let pulls = images.iter().map(|image| self.target.client.pull_image(work::image(image), None));
        try_join_all(pulls).await.map_err(&failed)?;
        let ready = begin.elapsed();
        let peak = self.target.daemon.and_then(|pid| memory(pid, "VmHWM:"));
        sync().await;
        let synced = begin.elapsed();
        let figures = self.figures.entry(name.to_owned()).or_default();
        figures.ready.add(ready);
        figures.synced.add(synced);
        figures.peak = figures.peak.max(peak.zip(self.idle).map(|(peak, idle)| peak.saturating_sub(idle)));
        eprintln!("  {}: ready {ready:.2?}, synced {synced:.2?}", self.target.name);
        for _ in 0..AGAIN {
            let (_, time) = work::timed(self.target.client.pull_image(work::image(&images[0]), None))
                .await
                .map_err(&failed)?;
            figures.again.add(time);
        }
        for image in images {
            remove(&self.target, image).await.map_err(&failed)?;
        }
        let end = Instant::now() + DELETING;
        while self.occupied() > before + LEFT_BYTES {
            if Instant::now() > end {
                let what = "its files are still there two minutes after an image was removed";
                return Err(failed(runtime_manager::Error::call(what, &tonic::Status::internal(name))));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }

    fn occupied(&self) -> u64 {
        self.folder.as_deref().map_or(0, occupied)
    }
}

async fn remove(target: &Target, reference: &str) -> runtime_manager::Result<()> {
    let request = RemoveImageRequest { image: Some(work::image(reference)) };
    let answer = target.client.images.clone().remove_image(request).await;
    answer.map(drop).map_err(|status| runtime_manager::Error::call("remove the image", &status))
}

async fn sync() {
    let _ = tokio::task::spawn_blocking(rustix::fs::sync).await;
}

/// Bytes that files below a folder occupy; what vanishes meanwhile does not count.
fn occupied(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(meta, path)| if meta.is_dir() { occupied(&path) } else { meta.blocks() * 512 })
        .sum()
}

/// A line of proc_pid_status(5), in KiB.
fn memory(pid: i32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

/// Makes the highest resident memory what it is now (proc_pid_clear_refs(5), since Linux 4.0).
fn reset_peak(pid: Option<i32>) {
    if let Some(pid) = pid {
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_occupy_and_what_memory_was_used_is_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(dir.path().join("a")).expect("dir");
        std::fs::write(dir.path().join("a/b"), vec![1; 100_000]).expect("write");
        assert!(occupied(dir.path()) >= 100_000);
        assert_eq!(occupied(&dir.path().join("nothing")), 0);
        assert!(memory(std::process::id().cast_signed(), "VmHWM:").is_some_and(|kib| kib > 100));
    }

    #[test]
    fn a_name_comes_before_the_value() {
        assert_eq!(named("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(named("a").is_err());
    }
}
