//! What is told to the caller: one record a line, in runc's two forms (logrus' text and JSON), which
//! containerd and Podman read back for the reason of a failure. Never rotates, never reads.

use crate::arguments::LogFormat;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use types::time::{now_nanos, rfc3339_nanos};
use types::{Error, ErrorKind, Result};

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Warning,
    Error,
}

/// Where records go.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// Opens the file to append to; without one, standard error is it.
    pub fn open(path: Option<&Path>, format: LogFormat, debug: bool) -> Result<Self> {
        let open = |path: &Path| {
            OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(|e| {
                Error::with_source(
                    ErrorKind::InvalidArgument,
                    format!("cannot open the log {}", path.display()),
                    e,
                )
            })
        };
        Ok(Self { file: path.map(open).transpose()?, format, debug })
    }

    /// Writes one record. An error is also printed plainly on standard error where the log is a file.
    pub fn write(&self, level: Level, message: &str) {
        self.record(level, message);
        if level == Level::Error && self.file.is_some() {
            // As the record has it: one line, whatever a path or a program's words have in them.
            let _ = writeln!(std::io::stderr(), "{}", message.replace(['\n', '\r'], " "));
        }
    }

    /// Writes one record to the log only.
    pub fn record(&self, level: Level, message: &str) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let line = record(self.format, level, message, now_nanos());
        // A log that cannot be written must not stop the work.
        let _ = match &self.file {
            Some(file) => {
                let mut file: &File = file;
                file.write_all(line.as_bytes())
            }
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// Something that is not as it was asked for, and goes on.
    pub fn warn(&self, message: &str) {
        self.write(Level::Warning, message);
    }

    /// A step, told with `--debug` only.
    pub fn debug(&self, message: &str) {
        self.write(Level::Debug, message);
    }
}

fn record(format: LogFormat, level: Level, message: &str, now: i64) -> String {
    let level = match level {
        Level::Debug => "debug",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    // Whole seconds, as logrus writes them.
    let time = format!("{}Z", rfc3339_nanos(now).split('.').next().unwrap_or_default());
    match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        }
        LogFormat::Text => {
            format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_runcs_form_and_stay_on_one_line() {
        assert_eq!(
            record(LogFormat::Json, Level::Error, "a \"b\"\nc", 1),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            record(LogFormat::Text, Level::Warning, "a\nb", 0),
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"a\\nb\"\n"
        );
    }
}
