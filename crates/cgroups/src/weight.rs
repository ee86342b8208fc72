//! From v1's CPU shares to v2's CPU weight. Pure.

/// The `cpu.weight` (1–10000) of CPU shares (2–262144).
///
/// The old linear formula of KEP-2254 gave the default of 1024 shares a weight of 39 where the default is 100, so
/// pods lost against everything else on the machine. This curve goes through (2, 1), (1024, 100) and (262144, 10000):
/// 10^((l² + 125·l)/612 − 7/34) with l = log₂(shares). It is that of crun ≥ 1.23, runc ≥ 1.3.2 (opencontainers/cgroups#20,
/// runc#4896) and, through that library, the kubelet ≥ 1.35 for pods (kubernetes#131216).
pub fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The last digit of a power is not exact; without the small step down 100.00000000000001 would become 101.
    let weight = (10f64.powf(exponent) - 1e-9).ceil();
    (weight as u64).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::weight_of_shares;

    #[test]
    fn the_ends_and_the_default_meet() {
        assert_eq!(weight_of_shares(0), 1);
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }

    #[test]
    fn a_published_example_of_runc_is_met() {
        // opencontainers/runc#4896
        assert_eq!(weight_of_shares(2000), 170);
    }

    #[test]
    fn more_shares_never_weigh_less() {
        assert!((2..262_144u64).step_by(37).map(weight_of_shares).is_sorted());
    }
}
