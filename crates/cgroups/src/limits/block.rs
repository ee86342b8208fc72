//! Block I/O: the weight of a group and throttles per device. The CRI has neither; OCI specs do.

use super::lacks;
use crate::error::Error;
use crate::layout::Version;
use crate::{Group, Result};
use rustix::io::Errno;

/// Throttles of one device; `None` is not said, 0 lifts one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockLimit {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Bytes read per second.
    pub read_bytes: Option<u64>,
    /// Bytes written per second.
    pub write_bytes: Option<u64>,
    /// Reads per second.
    pub read_operations: Option<u64>,
    /// Writes per second.
    pub write_operations: Option<u64>,
}

impl Group {
    /// Sets the relative weight of the group's I/O, 10–1000 as in OCI specs, with the BFQ scheduler.
    ///
    /// Gives back what this machine cannot do.
    pub fn block_weight(&self, weight: u16) -> Result<Vec<String>> {
        if !(10..=1000).contains(&weight) {
            let why = "it must be from 10 to 1000";
            return Err(
                Error::Value { what: "the block I/O weight".into(), value: weight.to_string(), why }.into()
            );
        }
        let Some((hierarchy, file)) = self
            .layout
            .with("blkio")
            .map(|h| (h, "blkio.bfq.weight"))
            .or_else(|| Some((self.layout.with("io")?, "io.bfq.weight")))
        else {
            return Ok(vec![lacks("io", "the block I/O weight")]);
        };
        match hierarchy.try_write(self.relative(), file, &weight.to_string()) {
            Ok(()) => Ok(Vec::new()),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                Ok(vec!["the block I/O weight is not enforced: this kernel has no BFQ scheduler".to_owned()])
            }
            Err(errno) => Err(hierarchy.refused(self.relative(), file, &weight.to_string(), errno).into()),
        }
    }

    /// Throttles devices. Gives back what this machine cannot do.
    pub fn block_throttle(&self, limits: &[BlockLimit]) -> Result<Vec<String>> {
        if limits.is_empty() {
            return Ok(Vec::new());
        }
        let Some(hierarchy) = self.layout.with("blkio").or_else(|| self.layout.with("io")) else {
            return Ok(vec![lacks("io", "the block I/O throttle")]);
        };
        for limit in limits {
            for (file, line) in lines(hierarchy.version, limit) {
                hierarchy.write(self.relative(), file, &line)?;
            }
        }
        Ok(Vec::new())
    }
}

fn lines(version: Version, limit: &BlockLimit) -> Vec<(&'static str, String)> {
    let device = format!("{}:{}", limit.major, limit.minor);
    let said = [
        (limit.read_bytes, "rbps", "blkio.throttle.read_bps_device"),
        (limit.write_bytes, "wbps", "blkio.throttle.write_bps_device"),
        (limit.read_operations, "riops", "blkio.throttle.read_iops_device"),
        (limit.write_operations, "wiops", "blkio.throttle.write_iops_device"),
    ];
    let said = said.iter().filter_map(|(value, key, file)| Some(((*value)?, *key, *file)));
    match version {
        Version::V1 => said.map(|(value, _, file)| (file, format!("{device} {value}"))).collect(),
        // v2 lifts a throttle with `max`.
        Version::V2 => said
            .map(|(value, key, _)| {
                (
                    "io.max",
                    format!(
                        "{device} {key}={}",
                        if value == 0 { "max".to_owned() } else { value.to_string() }
                    ),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttles_are_written_as_each_version_reads_them() {
        let limit = BlockLimit {
            major: 8,
            minor: 16,
            read_bytes: Some(1000),
            write_operations: Some(0),
            ..BlockLimit::default()
        };
        assert_eq!(
            lines(Version::V1, &limit),
            [
                ("blkio.throttle.read_bps_device", "8:16 1000".to_owned()),
                ("blkio.throttle.write_iops_device", "8:16 0".to_owned())
            ]
        );
        assert_eq!(
            lines(Version::V2, &limit),
            [("io.max", "8:16 rbps=1000".to_owned()), ("io.max", "8:16 wiops=max".to_owned())]
        );
    }
}
