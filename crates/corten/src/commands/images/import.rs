//! `corten images import`: sends an archive, or a folder made into one on the way, to the runtime, which takes its
//! images in. Nothing of it is judged here: the runtime verifies every byte.

use crate::commands::upload::Upload;
use crate::commands::{Context, failed};
use crate::output::words::{short, size};
use crate::output::{self, transfer::Transfer};
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::{
    ImportFinished, ImportOptions, ImportRequest, ImportedImage, import_event::Event, import_request::Part,
};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::Status;
use types::{Error, ErrorKind, Result};

/// Folders below the one that is named: `blobs/sha256` is the deepest of a layout.
const DEPTH_MAX: usize = 4;

const AFTER: &str = "\
The archive is an OCI image layout, or what `docker save` writes; plain, or compressed by gzip or zstd. A folder holds \
the same, unpacked. Images get the names that the archive has for them. One that has none is known by its id alone, \
and may be removed at the kubelet's next cleaning: give it a name with --name.";

/// Flags of `images import`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The archive or the folder; - reads an archive from standard input
    #[arg(value_name = "FILE|FOLDER|-")]
    source: PathBuf,
    /// Name for the image in place of the archive's
    #[arg(short = 't', long, value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Only the image that the archive calls so
    #[arg(long, value_name = "NAME")]
    select: Option<String>,
    /// Keep what the archive has for other platforms too, for a later export or push
    #[arg(long)]
    all_platforms: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let what = format!("import {}", args.source.display());
    let (source, total) = Source::open(&args.source)?;
    let options = ImportOptions {
        name: args.name.unwrap_or_default(),
        select: args.select.unwrap_or_default(),
        all_platforms: args.all_platforms,
    };
    let (channel, _) = context.connect().await?;
    let first = ImportRequest { part: Some(Part::Options(options)) };
    let (upload, messages) = Upload::new(first, |data| ImportRequest { part: Some(Part::Data(data)) });
    let reading = tokio::task::spawn_blocking(move || source.send(upload));
    let shown = Transfer::new(&format!("reading {}", args.source.display()), total);
    let taking = async {
        let mut events = ImagesClient::new(channel).import(messages).await?.into_inner();
        while let Some(event) = events.message().await? {
            match event.event {
                Some(Event::Read(read)) => shown.at(read.bytes),
                Some(Event::Layer(layer)) => {
                    shown.say(&format!("unpacking {} ({})", short(&layer.digest), size(layer.total)));
                }
                Some(Event::Finished(finished)) => return Ok(finished),
                None => {}
            }
        }
        Err(Status::unavailable("the runtime's answer ended before the import did"))
    };
    let taken: Result<ImportFinished, Status> = crate::commands::upload::both(&what, reading, taking).await?;
    drop(shown);
    let finished = taken.map_err(|status| failed(&what, &status))?;
    finished.images.iter().try_for_each(|image| output::print(&said(image, args.quiet)))?;
    Ok(ExitCode::SUCCESS)
}

/// What is printed for an image.
pub fn said(image: &ImportedImage, quiet: bool) -> String {
    let names = if quiet { String::new() } else { image.names.join(" ") };
    output::clean(&if names.is_empty() {
        image.image_ref.clone()
    } else {
        format!("{names} {}", image.image_ref)
    })
}

/// Where the archive comes from.
enum Source {
    Stream(Box<dyn Read + Send>),
    Folder(PathBuf),
}

impl Source {
    /// The source, and its length where it is known.
    fn open(path: &Path) -> Result<(Source, u64)> {
        if path == Path::new("-") {
            if io::stdin().is_terminal() {
                return Err(Error::invalid(
                    "an archive cannot be typed: send it to standard input, as in `docker save IMAGE | corten images import -`",
                ));
            }
            return Ok((Source::Stream(Box::new(io::stdin())), 0));
        }
        let failed = |error| {
            Error::with_source(ErrorKind::InvalidArgument, format!("cannot read {}", path.display()), error)
        };
        let facts = fs::metadata(path).map_err(failed)?;
        if !facts.is_dir() {
            return Ok((Source::Stream(Box::new(File::open(path).map_err(failed)?)), facts.len()));
        }
        if ["index.json", "manifest.json"].iter().any(|name| path.join(name).is_file()) {
            return Ok((Source::Folder(path.to_owned()), 0));
        }
        Err(Error::invalid(format!(
            "{} holds neither index.json nor manifest.json, so it is no image layout; \
             `corten pack {0} -t NAME` makes an image of a folder",
            path.display()
        )))
    }

    /// Sends everything. Blocks.
    fn send(self, mut upload: Upload<ImportRequest>) -> io::Result<()> {
        match self {
            Source::Stream(mut stream) => {
                io::copy(&mut stream, &mut upload)?;
            }
            Source::Folder(folder) => {
                let mut archive = tar::Builder::new(&mut upload);
                archive.follow_symlinks(false);
                append(&mut archive, &folder, Path::new(""), DEPTH_MAX)?;
                archive.finish()?;
            }
        }
        upload.finish(None)
    }
}

/// Appends the files, links and folders below `folder`, the small files that say what there is first.
fn append(
    archive: &mut tar::Builder<impl io::Write>,
    folder: &Path,
    at: &Path,
    depth: usize,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder.join(at))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| (entry.file_type().is_ok_and(|kind| kind.is_dir()), entry.file_name()));
    for entry in entries {
        let (path, name) = (entry.path(), at.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if depth > 0 {
                append(archive, folder, &name, depth - 1)?;
            }
        } else if kind.is_file() || kind.is_symlink() {
            archive.append_path_with_name(path, name)?;
        }
    }
    Ok(())
}
