//! Kubernetes quantities: `500m`, `1.5`, `64Mi`, `1e3`. Exact integers only, no floating point.

/// A quantity in thousandths, rounded up, as the API machinery keeps small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

impl Quantity {
    /// Reads a quantity; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text)
            .ok_or_else(|| format!("{text:?} is no quantity of 0 or more; write it as 2, 500m, 1.5 or 64Mi"))
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        if text.len() > 40 {
            return None;
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') || whole.len() > 20 || part.len() > 18
        {
            return None;
        }
        let digits: i128 = format!("{whole}{part}").parse().ok()?;
        let scale = 10i128.checked_pow(u32::try_from(part.len()).ok()?)?;
        let (multiply, divide) = factor(suffix)?;
        let top = digits.checked_mul(multiply)?.checked_mul(1000)?;
        let bottom = scale.checked_mul(divide)?;
        let milli = top.checked_add(bottom - 1)? / bottom;
        // The API caps at 2^63 - 1.
        Some(Self(milli.min(i128::from(i64::MAX) * 1000)))
    }

    /// Thousandths: millicores of a CPU quantity.
    pub fn milli(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Whole units, rounded up: bytes of a memory quantity.
    pub fn units(self) -> i64 {
        i64::try_from((self.0 + 999) / 1000).unwrap_or(i64::MAX)
    }
}

/// Multiplier and divisor of a suffix.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1i128 << (10 * power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => Some((1000, 1)),
        "M" => Some((1_000_000, 1)),
        "G" => Some((1_000_000_000, 1)),
        "T" => Some((1_000_000_000_000, 1)),
        "P" => Some((1_000_000_000_000_000, 1)),
        "E" => Some((1_000_000_000_000_000_000, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly_and_rounded_up() {
        let milli = |text| Quantity::parse(text).unwrap().milli();
        let units = |text| Quantity::parse(text).unwrap().units();
        assert_eq!(milli("500m"), 500);
        assert_eq!(milli("2"), 2000);
        assert_eq!(milli("0.1"), 100);
        assert_eq!(milli("0.0001"), 1);
        assert_eq!(milli(".5"), 500);
        assert_eq!(units("64Mi"), 64 << 20);
        assert_eq!(units("1.5Gi"), 1536 << 20);
        assert_eq!(units("1e3"), 1000);
        assert_eq!(units("12E"), i64::MAX);
        assert_eq!(units("128974848"), 128_974_848);
        assert_eq!(units("1500m"), 2);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-1", "1.2.3", "64MB", "Mi", "1 Gi", "1e99", "NaN", "99999999999999999999999"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }
}
