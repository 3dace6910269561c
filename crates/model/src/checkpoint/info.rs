//! What a checkpoint tells about itself: format, files, sizes, quantisation, side files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::entry::Source;
use super::{Checkpoint, Format, Kind};
use crate::gguf::Metadata;

/// A tensor as its file holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, as the format writes it: `Q4_K`, `BF16`, `MLX 4-bit`.
    pub kind: &'a str,
    /// Its dimensions, outermost first, unpacked.
    pub shape: &'a [usize],
    /// Number of its elements.
    pub elements: u64,
    /// Bytes that it takes in its file.
    pub bytes: u64,
}

impl Checkpoint {
    /// All tensors, sorted by name.
    pub fn stored(&self) -> impl Iterator<Item = StoredInfo<'_>> {
        self.tensors.iter().map(|(name, entry)| StoredInfo {
            name,
            kind: match &entry.source {
                Source::Plain { kind, .. } => kind.name,
                Source::Mxfp4(_) => "MXFP4",
                Source::Nvfp4(_) => "NVFP4",
                Source::Affine(affine) => match affine.bits {
                    2 => "MLX 2-bit",
                    3 => "MLX 3-bit",
                    4 => "MLX 4-bit",
                    5 => "MLX 5-bit",
                    6 => "MLX 6-bit",
                    _ => "MLX 8-bit",
                },
                Source::Foreign { name, .. } => name,
            },
            shape: &entry.shape,
            elements: entry.shape.iter().fold(1, |n, d| n.saturating_mul(*d as u64)),
            bytes: entry.stored_bytes() as u64,
        })
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        match &self.kind {
            Kind::Gguf(_) => Format::Gguf,
            Kind::Safetensors(_) if self.is_mlx() => Format::MlxSafetensors,
            Kind::Safetensors(_) => Format::Safetensors,
        }
    }

    /// The weight files, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path())
    }

    /// Bytes of all weight files.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes().len() as u64).sum()
    }

    /// Bytes of all tensors as they are stored.
    pub fn weights_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.stored_bytes() as u64).sum()
    }

    /// Number of weights: elements of all tensors, unpacked.
    pub fn parameters(&self) -> u64 {
        let elements = |shape: &[usize]| shape.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64));
        self.tensors.values().fold(0, |sum, entry| sum.saturating_add(elements(&entry.shape)))
    }

    /// The quantisation as users know it: `Q4_K_M`, `BF16`, `4-bit (MLX)`, `MXFP4`.
    pub fn quantization(&self) -> String {
        match &self.kind {
            Kind::Gguf(metadata) => {
                let declared = metadata.get_u64("general.file_type").and_then(file_type);
                declared.map_or_else(|| self.commonest_type(), str::to_owned)
            }
            Kind::Safetensors(config) if self.is_mlx() => {
                let bits = ["/quantization/bits", "/quantization_config/bits"]
                    .into_iter()
                    .find_map(|path| config.pointer(path)?.as_u64());
                bits.map_or_else(|| "MLX".to_owned(), |bits| format!("{bits}-bit (MLX)"))
            }
            Kind::Safetensors(_) => self.commonest_type(),
        }
    }

    /// GGUF metadata, of the first part where the model is split.
    pub fn gguf_metadata(&self) -> Option<&Metadata> {
        match &self.kind {
            Kind::Gguf(metadata) => Some(metadata),
            Kind::Safetensors(_) => None,
        }
    }

    /// config.json, where there is one.
    pub fn config(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Gguf(_) => None,
            Kind::Safetensors(config) => Some(config),
        }
    }

    /// The architecture as the checkpoint names it: `qwen3` (GGUF) or `Qwen3ForCausalLM` (config.json).
    pub fn architecture(&self) -> Option<&str> {
        match &self.kind {
            Kind::Gguf(metadata) => metadata.get_str("general.architecture"),
            Kind::Safetensors(config) => config.pointer("/architectures/0").and_then(Value::as_str),
        }
    }

    /// The context, in tokens, that the model says it was made for. [`crate::ModelSpec::context_length`] is what it runs.
    pub fn context_length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Gguf(metadata) => {
                let architecture = metadata.get_str("general.architecture")?;
                metadata.get_u64(&format!("{architecture}.context_length"))
            }
            Kind::Safetensors(config) => {
                let text = config.get("text_config");
                let keys = ["max_position_embeddings", "n_positions", "n_ctx", "seq_length"];
                keys.into_iter()
                    .find_map(|key| text.and_then(|text| text.get(key)).or_else(|| config.get(key))?.as_u64())
            }
        }
    }

    /// Where a file that belongs to the model lies (`tokenizer.json`, `chat_template.jinja`), if it is there.
    ///
    /// `None` for a GGUF, which carries all it needs: a folder of them is often shared by unrelated models.
    pub fn path_of(&self, name: &str) -> Option<PathBuf> {
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let path = self.folder.join(name);
        (plain && matches!(self.kind, Kind::Safetensors(_)) && path.is_file()).then_some(path)
    }

    fn is_mlx(&self) -> bool {
        let mlx =
            |source: &Source| matches!(source, Source::Affine(_) | Source::Nvfp4(_) | Source::Foreign { .. });
        self.tensors.values().any(|entry| mlx(&entry.source))
    }

    /// The type that most bytes of the weights are stored as.
    fn commonest_type(&self) -> String {
        let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.tensors.values() {
            let name = match &entry.source {
                Source::Plain { kind, .. } => kind.name,
                Source::Mxfp4(_) => "MXFP4",
                Source::Nvfp4(_) => "NVFP4",
                Source::Affine(_) | Source::Foreign { .. } => "MLX",
            };
            *bytes.entry(name).or_default() += entry.stored_bytes();
        }
        bytes
            .into_iter()
            .max_by_key(|(_, bytes)| *bytes)
            .map_or_else(String::new, |(name, _)| name.to_owned())
    }
}

/// The names of `enum llama_ftype`, which `general.file_type` holds.
fn file_type(number: u64) -> Option<&'static str> {
    const GUESSED: u64 = 1024; // Set beside the type where the file does not say it itself.
    Some(match number & !GUESSED {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        _ => return None,
    })
}
