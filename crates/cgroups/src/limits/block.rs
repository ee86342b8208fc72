//! Block I/O: the weight of a group and throttles per device. The CRI has neither; OCI specs do.

use super::{BlockLimit, BlockLimits, Setting};
use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use rustix::io::Errno;

/// Most devices of one list; a machine has fewer.
const MAX_DEVICES: usize = 4096;

impl Setting<'_> {
    pub(super) fn block(&mut self, asked: &BlockLimits) -> Result<(), Error> {
        if *asked == BlockLimits::default() {
            return Ok(());
        }
        if asked.devices.len() > MAX_DEVICES || asked.throttles.len() > MAX_DEVICES {
            let why = "4096 devices are the most";
            let value = asked.devices.len().max(asked.throttles.len()).to_string();
            return Err(Error::Value { what: "block I/O".into(), value, why });
        }
        let (layout, weights) = (&self.group.layout, weights(asked)?);
        let Some(hierarchy) = layout.with("blkio").or_else(|| layout.with("io")) else {
            return self
                .cannot("block I/O limits cannot be set: this machine has no io controller".to_owned());
        };
        for weight in weights {
            self.weighed(hierarchy, weight)?;
        }
        for limit in &asked.throttles {
            for (file, line) in lines(hierarchy.version, limit) {
                self.write(hierarchy, file, &line)?;
            }
        }
        Ok(())
    }

    /// Weights belong to a scheduler: BFQ's file, else the one that there was before BFQ (v1's CFQ) or io.cost's (v2).
    fn weighed(&mut self, hierarchy: &Hierarchy, weight: Weight) -> Result<(), Error> {
        let files: &[(&str, bool)] = match (hierarchy.version, weight.leaf, weight.device.is_some()) {
            (Version::V1, false, false) => &[("blkio.bfq.weight", false), ("blkio.weight", false)],
            (Version::V1, false, true) => {
                &[("blkio.bfq.weight_device", false), ("blkio.weight_device", false)]
            }
            (Version::V1, true, false) => &[("blkio.leaf_weight", false)],
            (Version::V1, true, true) => &[("blkio.leaf_weight_device", false)],
            (Version::V2, false, _) => &[("io.bfq.weight", false), ("io.weight", true)],
            (Version::V2, true, _) => &[],
        };
        for (file, converted) in files {
            let number = if *converted { io_weight(weight.weight) } else { u64::from(weight.weight) };
            let line = match weight.device {
                Some((major, minor)) => format!("{major}:{minor} {number}"),
                None => number.to_string(),
            };
            match self.try_write(hierarchy, file, &line) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(self.refused(hierarchy, file, &line, errno)),
            }
        }
        self.cannot(match weight.leaf {
            true => {
                "the block I/O leaf weight cannot be set: only kernels before 5.0 had it, with v1".to_owned()
            }
            false => "the block I/O weight cannot be set: this kernel weighs with neither BFQ nor io.cost"
                .to_owned(),
        })
    }
}

/// One weight to write.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weight {
    /// `None` is every device.
    device: Option<(u32, u32)>,
    leaf: bool,
    weight: u16,
}

fn weights(asked: &BlockLimits) -> Result<Vec<Weight>, Error> {
    let mut all = Vec::new();
    let mut add = |device, leaf, weight: Option<u16>| match weight {
        None => Ok(()),
        Some(weight @ 10..=1000) => {
            all.push(Weight { device, leaf, weight });
            Ok(())
        }
        Some(weight) => {
            let why = "it must be from 10 to 1000";
            Err(Error::Value { what: "the block I/O weight".into(), value: weight.to_string(), why })
        }
    };
    add(None, false, asked.weight)?;
    add(None, true, asked.leaf_weight)?;
    for device in &asked.devices {
        let number = Some((device.major, device.minor));
        add(number, false, device.weight)?;
        add(number, true, device.leaf_weight)?;
    }
    Ok(all)
}

/// From 10–1000 to `io.weight`'s 1–10000, in a straight line (runc `ConvertBlkIOToIOWeightValue`, crun the same).
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
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
                let value = if value == 0 { "max".to_owned() } else { value.to_string() };
                ("io.max", format!("{device} {key}={value}"))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BlockWeight;

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

    #[test]
    fn weights_are_converted_to_the_ends_of_the_other_scale() {
        assert_eq!((io_weight(10), io_weight(1000), io_weight(100)), (1, 10_000, 910));
    }

    #[test]
    fn weights_out_of_range_are_refused() {
        let device = |weight| BlockWeight { major: 8, minor: 0, weight, leaf_weight: None };
        let of = |weight, device| BlockLimits { weight, devices: vec![device], ..BlockLimits::default() };
        assert!(weights(&of(Some(9), device(None))).is_err());
        assert!(weights(&of(Some(1001), device(None))).is_err());
        assert!(weights(&of(None, device(Some(0)))).is_err());
        assert_eq!(weights(&of(Some(10), device(Some(1000)))).unwrap().len(), 2);
    }
}
