//! `ByteSize` and `Lifetime`: sizes and times as people write them in a configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use perch_model::Quantize;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `4294967296`, `4GiB`, `4G` (1024 each), `4GB` (1000 each).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is no size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB");
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        let bytes = number * factor as f64;
        // 2^63 bytes is more than any machine has; beyond it the conversion would saturate without a word.
        if bytes < 9.2e18 { Ok(Self(bytes as u64)) } else { Err(bad()) }
    }
}

/// Bytes in the largest binary unit that leaves at least one: `1.5 GiB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|&(size, _)| self.0 >= size) {
            Some((size, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// How long something is kept: `15m`, `90s`, `2h`, `1d`, a number of seconds, or for ever (`never`, or -1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no time; write `30s`, `15m`, `2h`, `1d` or `never`");
        let trimmed = text.trim();
        if matches!(trimmed, "never" | "-1") {
            return Ok(Self(None));
        }
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let seconds = match unit.trim() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(bad()),
        };
        number.checked_mul(seconds).map(|s| Self(Some(Duration::from_secs(s)))).ok_or_else(bad)
    }
}

/// Reads a `T` from a string as [`FromStr`] does, or from a whole number as if it were written out.
struct Written<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData, "a size, such as \"4GiB\""))
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData, "a time, such as \"15m\""))
    }
}

/// As it would be read again: the largest unit that leaves a whole number.
impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
        let exact = units.into_iter().find(|&(size, _)| self.0 >= size && self.0.is_multiple_of(size));
        let (size, unit) = exact.unwrap_or((1, "B"));
        serializer.collect_str(&format_args!("{}{unit}", self.0 / size))
    }
}

/// As it would be read again: the largest unit that leaves a whole number.
impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(time) = self.0 else { return serializer.serialize_str("never") };
        let seconds = time.as_secs();
        let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let exact = units.into_iter().find(|&(unit, _)| seconds >= unit && seconds.is_multiple_of(unit));
        let (unit, name) = exact.unwrap_or((1, "s"));
        serializer.collect_str(&format_args!("{}{name}", seconds / unit))
    }
}

/// Writes a quantisation as [`written`] reads it.
pub(super) fn quantize_name<S: Serializer>(value: &Option<Quantize>, to: S) -> Result<S::Ok, S::Error> {
    let name = value.map(|quantize| match quantize {
        Quantize::Q8_0 => "q8_0",
        Quantize::Q4_0 => "q4_0",
        Quantize::Q4K => "q4_k",
        Quantize::Q6K => "q6_k",
        _ => "other",
    });
    name.serialize(to)
}

/// Reads any type that is written as one word.
pub(super) fn written<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err = String>,
    D: Deserializer<'de>,
{
    let word = String::deserialize(deserializer)?;
    word.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("1024"), Ok(1024));
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("4 g"), Ok(4 << 30));
        assert_eq!(size("4GB"), Ok(4_000_000_000));
        assert_eq!(size("1.5MiB"), Ok(3 << 19));
        for bad in ["", "GiB", "4 apples", "-1", "99999999999TiB", "1.2.3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(ByteSize(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(ByteSize(1023).to_string(), "1023 B");
    }

    #[test]
    fn times_are_read_with_units_or_as_seconds_or_never() {
        let time = |text: &str| text.parse::<Lifetime>().map(|time| time.0.map(|t| t.as_secs()));
        assert_eq!(time("15m"), Ok(Some(900)));
        assert_eq!(time("90"), Ok(Some(90)));
        assert_eq!(time("2h"), Ok(Some(7_200)));
        assert_eq!(time("never"), Ok(None));
        assert_eq!(time("-1"), Ok(None));
        for bad in ["", "m", "-2", "15 minutes", "99999999999999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for bytes in [0, 1, 1023, 1024, 3 << 29, 16 << 20, 1 << 40, (1 << 30) + 1] {
            let text = serde_json::to_value(ByteSize(bytes)).unwrap();
            assert_eq!(text.as_str().unwrap().parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for seconds in [Some(0), Some(1), Some(90), Some(900), Some(7_200), Some(86_400), None] {
            let time = Lifetime(seconds.map(Duration::from_secs));
            let text = serde_json::to_value(time).unwrap();
            assert_eq!(text.as_str().unwrap().parse(), Ok(time), "{text}");
        }
        assert_eq!(serde_json::to_value(ByteSize(3 << 29)).unwrap(), "1536MiB");
        for name in ["q8_0", "q4_0", "q4_k", "q6_k"] {
            let layer = crate::config::Layer { quantize: name.parse().ok(), ..Default::default() };
            assert_eq!(serde_json::to_value(layer).unwrap()["quantize"], name);
        }
    }
}
