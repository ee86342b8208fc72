//! `corten images export`: writes images as one archive, to a file or to standard output. A file has its name only
//! once it is whole.

use crate::commands::{Context, failed};
use crate::output::transfer::Transfer;
use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::corten_v1::{ArchiveFormat, ExportChunk, ExportRequest};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::Streaming;
use types::{Error, ErrorKind, Result};

const AFTER: &str = "\
An OCI archive keeps every byte of the image as its registry has it, and so its digests. A docker archive holds the \
layers without compression; it is for tools that read nothing else.";

/// Flags of `images export`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The images: name, digest or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The archive; standard output without it
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_enum, default_value = "oci-archive")]
    format: Form,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// An OCI image layout as a tar
    OciArchive,
    /// As `docker save` writes it
    DockerArchive,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    if args.file.is_none() && io::stdout().is_terminal() {
        return Err(Error::invalid(
            "an archive is not for a terminal: name a file with -f, or redirect the output",
        ));
    }
    let what = format!("export {}", args.images.join(" "));
    let format = match args.format {
        Form::OciArchive => ArchiveFormat::Oci,
        Form::DockerArchive => ArchiveFormat::Docker,
    };
    let request = ExportRequest { images: args.images, format: format.into() };
    let (channel, _) = context.connect().await?;
    let answer = ImagesClient::new(channel).export(request).await;
    let mut chunks = answer.map_err(|status| failed(&what, &status))?.into_inner();
    let Some(path) = args.file else {
        let mut out = io::stdout().lock();
        receive(&what, &mut chunks, &mut out).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let wrong =
        |error| Error::with_source(ErrorKind::Internal, format!("cannot write {}", path.display()), error);
    let mut file = Half::create(&path).map_err(wrong)?;
    receive(&what, &mut chunks, &mut file.file).await?;
    file.whole(&path).map_err(wrong)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what comes. Writing blocks, which is all that this program does meanwhile.
async fn receive(what: &str, chunks: &mut Streaming<ExportChunk>, out: &mut impl Write) -> Result<()> {
    let mut shown: Option<Transfer> = None;
    let mut bytes = 0;
    while let Some(chunk) = chunks.message().await.map_err(|status| failed(what, &status))? {
        let written = out.write_all(&chunk.data).and_then(|()| out.flush());
        written.map_err(|error| {
            let gone = error.kind() == io::ErrorKind::BrokenPipe;
            let kind = if gone { ErrorKind::Cancelled } else { ErrorKind::Internal };
            Error::with_source(kind, format!("cannot {what}"), error)
        })?;
        bytes += chunk.data.len() as u64;
        shown.get_or_insert_with(|| Transfer::new("writing", chunk.total)).at(bytes);
    }
    Ok(())
}

/// A file that is being written, beside where it shall be. It is removed on drop unless it became whole.
struct Half {
    file: File,
    path: PathBuf,
    whole: bool,
}

impl Half {
    fn create(path: &Path) -> io::Result<Half> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let half = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).open(&half)?;
        Ok(Half { file, path: half, whole: false })
    }

    fn whole(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, path)?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.whole {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
