//! Reads `model.safetensors.index.json`: which shards a model has.
//!
//! Which tensor lies in which shard is not kept: every shard has a header of its own that says so.
//!
//! Invariant: every shard's name is a plain file name that ends in `.safetensors`, so that it lies in the index's own
//! folder, whatever the index says.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::header::Text;
use crate::ModelError;
use crate::map::MappedFile;
use crate::stored::shown;

/// Bytes of an index. A tensor takes about 100 of them.
const MAX_BYTES: usize = 32 << 20;
/// Shards of a model. The largest in use has a few hundred.
const MAX_SHARDS: usize = 4096;

/// The plain file names of the shards that the index at `path` names, each once, sorted.
pub(crate) fn read_index(path: &Path) -> Result<Vec<String>, ModelError> {
    #[derive(serde::Deserialize)]
    struct File {
        weight_map: Shards,
    }
    let file = MappedFile::open(path)?;
    if file.bytes().len() > MAX_BYTES {
        return Err(file.invalid(format!("has {} bytes; at most {MAX_BYTES} are read", file.bytes().len())));
    }
    let read: Result<File, _> = serde_json::from_slice(file.bytes());
    let shards = read.map_err(|error| file.invalid(format!("the index is wrong: {error}")))?.weight_map.0;
    match shards.is_empty() {
        true => Err(file.invalid("the index names no shard")),
        false => Ok(shards.into_iter().collect()),
    }
}

/// Whether `name` is a file name, without a way out of the folder.
fn is_shard_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name);
    plain && name.len() <= 255 && name.ends_with(".safetensors") && !name.contains(['\\', '\0', ':'])
}

/// The values of `weight_map`.
struct Shards(BTreeSet<String>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShardsVisitor;
        impl<'de> Visitor<'de> for ShardsVisitor {
            type Value = Shards;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensors to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shards, A::Error> {
                let mut shards = BTreeSet::new();
                while let Some((IgnoredAny, Text(shard))) = entries.next_entry()? {
                    if shards.contains(&*shard) {
                        continue;
                    }
                    if !is_shard_name(&shard) {
                        let shard = shown(&shard);
                        return Err(A::Error::custom(format!(
                            "{shard} is not the name of a safetensors file in this folder"
                        )));
                    }
                    if shards.len() == MAX_SHARDS {
                        return Err(A::Error::custom(format!("more than {MAX_SHARDS} shards")));
                    }
                    shards.insert(shard.into_owned());
                }
                Ok(Shards(shards))
            }
        }
        deserializer.deserialize_map(ShardsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::is_shard_name;

    #[test]
    fn a_shard_cannot_lie_outside_its_folder() {
        assert!(is_shard_name("model-00001-of-00002.safetensors"));
        for name in [
            "../model.safetensors",
            "/etc/model.safetensors",
            "a/b.safetensors",
            "a\\b.safetensors",
            "./a.safetensors",
            "a.safetensors/",
            "..",
            ".",
            "",
            "C:a.safetensors",
            "model.bin",
            "a\0.safetensors",
        ] {
            assert!(!is_shard_name(name), "{name:?}");
        }
    }
}
