//! Limits of huge pages, by their size.

use super::Setting;
use crate::error::Error;
use crate::layout::Version;
use rustix::io::Errno;

/// Most sizes taken; machines have four at most.
const MAX_SIZES: usize = 64;

impl Setting<'_> {
    pub(super) fn hugepages(&mut self, limits: &[(String, i64)]) -> Result<(), Error> {
        if limits.is_empty() {
            return Ok(());
        }
        if limits.len() > MAX_SIZES {
            let why = "64 sizes are the most";
            return Err(Error::Value { what: "huge pages".into(), value: limits.len().to_string(), why });
        }
        let Some(hierarchy) = self.with("hugetlb", "the limit of huge pages")? else { return Ok(()) };
        self.enable(hierarchy, "hugetlb")?;
        for (size, limit) in limits {
            check_page_size(size)?;
            let (end, none) = match hierarchy.version {
                Version::V1 => ("limit_in_bytes", "-1"),
                Version::V2 => ("max", "max"),
            };
            let value = if *limit < 0 { none.to_owned() } else { limit.to_string() };
            // The reservation is limited too (Linux 5.7), or a process is killed by SIGBUS on first use instead of
            // being refused by mmap(2) (admin-guide/cgroup-v1/hugetlb.rst).
            for (file, needed) in
                [(format!("hugetlb.{size}.{end}"), true), (format!("hugetlb.{size}.rsvd.{end}"), false)]
            {
                match self.try_write(hierarchy, &file, &value) {
                    Ok(()) => {}
                    Err(Errno::NOENT) if !needed => {}
                    Err(Errno::NOENT) => self.cannot(format!(
                        "the limit of {size} huge pages cannot be set: this machine has none of that size"
                    ))?,
                    Err(errno) => return Err(self.refused(hierarchy, &file, &value, errno)),
                }
            }
        }
        Ok(())
    }
}

/// A page size as the kernel writes it in file names: `64KB`, `2MB`, `1GB` (mm/hugetlb_cgroup.c, `mem_fmt`).
fn check_page_size(size: &str) -> Result<(), Error> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let unit = &size[digits.len()..];
    let good = (1..=6).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && matches!(unit, "KB" | "MB" | "GB");
    match good {
        true => Ok(()),
        false => Err(Error::Value {
            what: "the size of huge pages".into(),
            value: size.chars().take(40).collect(),
            why: "write it like 2MB or 1GB",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::check_page_size;
    use proptest::prelude::*;

    #[test]
    fn page_sizes_are_checked() {
        for good in ["2MB", "1GB", "64KB", "512MB"] {
            check_page_size(good).unwrap();
        }
        for bad in ["", "MB", "2", "2mb", "2MB/../x", "../2MB", "2TB", "99999999MB", "2 MB"] {
            assert!(check_page_size(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_size_makes_the_check_panic(text in "\\PC{0,40}") {
            let _ = check_page_size(&text);
        }
    }
}
