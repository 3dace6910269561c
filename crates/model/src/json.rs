//! Reads the JSON files of a checkpoint without letting them decide how much memory that takes.
//!
//! A file is first read through without being kept, to count its values; only then is it built.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::ModelError;
use crate::map::MappedFile;

/// Bytes of a config.json. The longest in use list a quantisation for each layer and have a tenth of this.
const MAX_BYTES: usize = 4 << 20;
/// Values in a config.json. Each costs up to half a kilobyte once it is built.
const MAX_VALUES: usize = 65_536;

/// Reads a small JSON file, such as config.json.
pub(crate) fn read(path: &Path) -> Result<Value, ModelError> {
    let file = MappedFile::open(path)?;
    parse(file.bytes()).map_err(|reason| file.invalid(reason))
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are read", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
    let text = without_python_numbers(text);
    let mut left = MAX_VALUES;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Count(&mut left).deserialize(&mut deserializer).map_err(|error| format!("is not valid JSON: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("is not valid JSON: {error}"))
}

/// Python's json module writes `Infinity` and `NaN`, which JSON does not have (`time_step_limit` of some configs). They
/// become `null`.
fn without_python_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(at) = rest.find(['"', '\\', 'I', 'N', '-']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let number = ["-Infinity", "Infinity", "NaN"].into_iter().find(|n| !in_string && rest.starts_with(n));
        let length = match (number, rest.as_bytes()[0]) {
            (Some(number), _) => {
                out.push_str("null");
                rest = &rest[number.len()..];
                continue;
            }
            // An escape is two characters; the second may be of any width.
            (_, b'\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (_, byte) => {
                in_string ^= byte == b'"';
                1
            }
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// Counts values and keeps none.
struct Count<'a>(&'a mut usize);

impl Count<'_> {
    fn one<E: Error>(&mut self) -> Result<(), E> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| E::custom(format!("more than {MAX_VALUES} values")))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.one()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<Skip>()?.is_some() {
            entries.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key that nobody looks at.
struct Skip;

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_infinities_become_null_outside_strings_only() {
        let text = r#"{"a":[Infinity,-Infinity,NaN,-1.5],"b":"NaN \" Infinity","c\\":"\\"}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value["a"], serde_json::json!([null, null, null, -1.5]));
        assert_eq!(value["b"], "NaN \" Infinity");
        assert_eq!(value["c\\"], "\\");
    }

    #[test]
    fn a_config_of_too_many_values_is_refused_before_it_is_built() {
        let text = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(parse(text.as_bytes()).unwrap_err().contains("65536 values"));
    }

    #[test]
    fn deep_nesting_and_broken_text_are_errors() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(b"{\"a\":\"\\").is_err());
        assert!(parse(b"\xff").is_err());
        assert!(parse(b"").is_err());
    }
}
