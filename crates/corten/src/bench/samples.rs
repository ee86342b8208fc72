//! Times of one kind of call, and what is said about them.

use std::time::Duration;

/// Times in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

/// What is said about samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Microseconds: half are not above it.
    pub p50: u64,
    /// Microseconds: nine of ten are not above it.
    pub p90: u64,
    /// Microseconds: 99 of 100 are not above it.
    pub p99: u64,
    /// Microseconds: the slowest.
    pub max: u64,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// None without samples. Percentiles by nearest rank: each is a time that was really taken.
    pub fn summary(&self) -> Option<Summary> {
        let mut micros: Vec<u64> =
            self.0.iter().map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)).collect();
        micros.sort_unstable();
        let max = *micros.last()?;
        let rank = |percent: usize| micros[(micros.len() * percent).div_ceil(100).saturating_sub(1)];
        Some(Summary { count: micros.len(), p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        assert_eq!(Samples::default().summary(), None);
        let mut samples = Samples::default();
        (1..=200).rev().for_each(|n| samples.add(Duration::from_micros(n)));
        let expected = Summary { count: 200, p50: 100, p90: 180, p99: 198, max: 200 };
        assert_eq!(samples.summary(), Some(expected));
        let mut one = Samples::default();
        one.add(Duration::from_micros(7));
        assert_eq!(one.summary(), Some(Summary { count: 1, p50: 7, p90: 7, p99: 7, max: 7 }));
    }
}
