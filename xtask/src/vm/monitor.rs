//! QEMU's monitor (QMP): a line of JSON for each question and answer, with events between them.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long QEMU may take to answer. Under load, hot-plugging took seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connection.
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Greets QEMU.
    pub fn new(stream: UnixStream) -> Result<Self, String> {
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(|said| format!("cannot limit the wait for QEMU: {said}"))?;
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.answer(&["QMP"])?;
        monitor.ask("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Runs one command and returns what QEMU says.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let stream = self.lines.get_mut();
        stream.write_all(line.as_bytes()).map_err(|said| format!("QEMU does not listen: {said}"))?;
        let mut answer = self.answer(&["return", "error"])?;
        match answer.get("error") {
            Some(error) => Err(format!("QEMU refused {command}: {}", error["desc"])),
            None => Ok(answer["return"].take()),
        }
    }

    /// The next message with one of these keys; events have none of them.
    fn answer(&mut self, keys: &[&str]) -> Result<Value, String> {
        loop {
            let mut line = String::new();
            let read =
                self.lines.read_line(&mut line).map_err(|said| format!("QEMU did not answer: {said}"))?;
            if read == 0 {
                return Err("QEMU went away".to_owned());
            }
            let message: Value =
                serde_json::from_str(&line).map_err(|said| format!("QEMU's answer is no JSON: {said}"))?;
            if keys.iter().any(|key| message.get(key).is_some()) {
                return Ok(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_passed_over_and_refusals_are_told() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let words = "{\"QMP\":{}}\n{\"event\":\"RESUME\"}\n{\"return\":{}}\n{\"event\":\"STOP\"}\n\
            {\"return\":{\"status\":\"paused\"}}\n{\"error\":{\"desc\":\"no such device\"}}\n";
        theirs.write_all(words.as_bytes()).expect("written");
        let mut monitor = Monitor::new(ours).expect("greeted");
        assert_eq!(monitor.ask("query-status", json!({})).expect("an answer")["status"], "paused");
        let refused = monitor.ask("device_add", json!({})).expect_err("refused");
        assert!(refused.contains("device_add") && refused.contains("no such device"), "{refused}");
        drop(theirs);
        assert!(monitor.ask("quit", json!({})).is_err());
    }
}
