//! UpdateRuntimeConfig: takes the address range for pods, which only the cluster knows.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use std::net::IpAddr;
use types::Result;
use types::reference::shorten;

const FIELD: &str = "runtime_config.network_config.pod_cidr";

/// An absent range changes nothing, as in containerd.
pub fn call(
    engine: &Engine,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse> {
    let cidr = request.runtime_config.and_then(|c| c.network_config).unwrap_or_default().pod_cidr;
    concerns(&cidr);
    if !cidr.is_empty() {
        check_ranges(&cidr)?;
        engine.set_pod_cidr(&cidr)?;
    }
    Ok(v1::UpdateRuntimeConfigResponse {})
}

/// One range, or one of each family with a comma between.
fn check_ranges(text: &str) -> Result<()> {
    check::word(FIELD, text, 256)?;
    for range in text.split(',') {
        let sound = range.split_once('/').is_some_and(|(address, length)| {
            let longest = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|l| l <= longest)
        });
        if !sound {
            return check::refuse(
                FIELD,
                format_args!("{:?} is not an address range such as 10.0.1.0/24", shorten(range)),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;

    #[test]
    fn ranges_that_are_none_are_refused() {
        for sound in ["10.0.1.0/24", "10.0.1.0/24,fd00::/64", "0.0.0.0/0"] {
            check_ranges(sound).expect(sound);
        }
        for bad in ["10.0.1.0", "10.0.1.0/33", "fd00::/129", "x/8", "10.0.1.0/24,", "10.0.1.0/+8", "/8"] {
            refused(check_ranges(bad), FIELD, "not an address range");
        }
        refused(check_ranges("10.0.1.0/24 ,fd00::/64"), FIELD, "white space");
    }
}
