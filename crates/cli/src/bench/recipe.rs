//! `Recipe`: which random model to make, `SHAPE:TYPE`.

use std::str::FromStr;

use perch_model::{DType, Quantize};

/// The sizes of a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// GGUF's `general.architecture`.
    pub(crate) architecture: &'static str,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) ff: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) rope_base: f32,
    /// Whether the head is the embedding.
    pub(crate) tied: bool,
}

/// `tiny` and `small` are for tests; the others are the sizes of models that people run.
const SHAPES: [Shape; 4] = [
    Shape {
        name: "tiny",
        architecture: "qwen3",
        layers: 2,
        hidden: 64,
        ff: 128,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 272,
        context: 4096,
        rope_base: 1e6,
        tied: false,
    },
    Shape {
        name: "small",
        architecture: "llama",
        layers: 12,
        hidden: 768,
        ff: 3072,
        heads: 12,
        kv_heads: 4,
        head_dim: 64,
        vocab: 32_000,
        context: 4096,
        rope_base: 1e4,
        tied: true,
    },
    Shape {
        name: "qwen3-0.6b",
        architecture: "qwen3",
        layers: 28,
        hidden: 1024,
        ff: 3072,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        vocab: 151_936,
        context: 40_960,
        rope_base: 1e6,
        tied: true,
    },
    Shape {
        name: "llama-3.2-1b",
        architecture: "llama",
        layers: 16,
        hidden: 2048,
        ff: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 128_256,
        context: 131_072,
        rope_base: 5e5,
        tied: true,
    },
];

/// How matrices are stored. Norms are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Float(DType),
    /// As `llama-quantize` mixes types: more bits where they matter most.
    Mixed(Quantize),
}

/// Name, how it is stored, and its number in `general.file_type` (`enum llama_ftype`).
const TYPES: [(&str, Stored, u32); 6] = [
    ("f32", Stored::Float(DType::F32), 0),
    ("f16", Stored::Float(DType::F16), 1),
    ("bf16", Stored::Float(DType::BF16), 32),
    ("q8_0", Stored::Mixed(Quantize::Q8_0), 7),
    ("q4_0", Stored::Mixed(Quantize::Q4_0), 2),
    ("q4_k_m", Stored::Mixed(Quantize::Q4K), 15),
];

/// A random model: its sizes and how its weights are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) shape: Shape,
    pub(crate) stored: Stored,
    pub(crate) file_type: u32,
    stored_name: &'static str,
}

impl Recipe {
    /// `qwen3-0.6b-q4_k_m`: the file's name without extension.
    pub(crate) fn name(&self) -> String {
        format!("random-{}-{}", self.shape.name, self.stored_name)
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shape, kind) = text.split_once(':').unwrap_or((text, "q4_k_m"));
        let shape = SHAPES.iter().find(|known| known.name.eq_ignore_ascii_case(shape));
        let kind = TYPES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(kind));
        match (shape, kind) {
            (Some(&shape), Some(&(stored_name, stored, file_type))) => {
                Ok(Self { shape, stored, file_type, stored_name })
            }
            (None, _) => Err(format!("the shapes are {}", SHAPES.map(|shape| shape.name).join(", "))),
            (_, None) => Err(format!("the types are {}", TYPES.map(|(name, ..)| name).join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_a_shape_and_a_type() {
        let recipe: Recipe = "Qwen3-0.6B:Q8_0".parse().unwrap();
        assert_eq!(recipe.name(), "random-qwen3-0.6b-q8_0");
        assert_eq!("tiny".parse::<Recipe>().unwrap().name(), "random-tiny-q4_k_m");
    }

    #[test]
    fn an_unknown_shape_or_type_is_answered_with_the_known_ones() {
        assert!("huge:f32".parse::<Recipe>().unwrap_err().contains("qwen3-0.6b"));
        assert!("tiny:q3".parse::<Recipe>().unwrap_err().contains("q4_k_m"));
    }
}
