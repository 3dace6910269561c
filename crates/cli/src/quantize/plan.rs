//! `Plan`: which tensors the result has, of which type, and everything else that it says.

use anyhow::{Context, Result, bail};
use perch_model::gguf::Writer;
use perch_model::{Checkpoint, DType, Format, Quantize, Tensor, Weight};

use super::folder;

/// A tensor of the result.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// What the result calls it.
    pub(super) name: String,
    /// Where its rows come from.
    pub(super) source: Source,
    pub(super) dtype: DType,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
}

/// Where the rows of a tensor come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A tensor of the original, row by row.
    Tensor(String),
    /// The same, with the rows of each head in GGUF's order for `llama`: first and second half interleaved.
    Interleaved { name: String, heads: usize },
    /// A vector, one added to each value: GGUF has Gemma's norms as they are multiplied.
    OneMore(String),
    /// Matrices of `rows` rows each, one after the other.
    Stacked { names: Vec<String>, rows: usize },
    /// Made here.
    Values(Vec<f32>),
}

/// What the result is to be.
pub(super) struct Plan {
    pub(super) header: Writer,
    pub(super) tensors: Vec<Planned>,
}

impl Plan {
    pub(super) fn of(checkpoint: &Checkpoint, kind: Quantize) -> Result<Self> {
        let mut plan = match checkpoint.format() {
            Format::Gguf => from_gguf(checkpoint, kind)?,
            Format::Safetensors => folder::plan(checkpoint, kind)?,
            Format::MlxSafetensors => {
                bail!("MLX has quantised this model already; quantise the original, in floats")
            }
        };
        let rounds = |tensor: &Planned| tensor.dtype.block_len() > 1;
        let has_floats = checkpoint
            .stored()
            .any(|stored| matches!(stored.kind, "F32" | "F16" | "BF16") && stored.shape.len() > 1);
        if !plan.tensors.iter().any(rounds) || !has_floats {
            bail!("there is nothing to round: no matrix is in floats, or none has rows of whole blocks");
        }
        // `enum llama_ftype`, and the version of the block layouts.
        let file_type = match kind {
            Quantize::Q4_0 => 2u32,
            Quantize::Q8_0 => 7,
            _ => 15,
        };
        plan.header.set("general.file_type", file_type).set("general.quantization_version", 2u32);
        Ok(plan)
    }
}

fn from_gguf(checkpoint: &Checkpoint, kind: Quantize) -> Result<Plan> {
    let metadata = checkpoint.gguf_metadata().context("it has no metadata")?;
    let mut header = Writer::new();
    header.copy_metadata(metadata);
    if metadata.has("split.count") {
        // The result is one file.
        let count = checkpoint.names().count() as i32;
        header.set("split.count", 1u16).set("split.no", 0u16).set("split.tensors.count", count);
    }
    let architecture = metadata.architecture()?;
    let layers = metadata.get_usize(&format!("{architecture}.block_count")).unwrap_or(0);
    let mut tensors = Vec::new();
    for stored in checkpoint.stored() {
        let current = dtype(checkpoint, stored.name)?;
        let dtype = target(stored.name, stored.shape, (current, kind), layers).unwrap_or(current);
        let source = Source::Tensor(stored.name.to_owned());
        tensors.push(Planned { name: stored.name.to_owned(), source, dtype, shape: stored.shape.to_vec() });
    }
    Ok(Plan { header, tensors })
}

/// The type that a tensor is stored as.
pub(super) fn dtype(checkpoint: &Checkpoint, name: &str) -> Result<DType> {
    Ok(first_row(checkpoint, name)?.dtype())
}

fn first_row(checkpoint: &Checkpoint, name: &str) -> Result<Tensor> {
    let shape = checkpoint.stored().find(|stored| stored.name == name).map_or(0, |stored| stored.shape.len());
    let weight = if shape > 1 { Weight::span(name, 0..1) } else { Weight::new(name) };
    Ok(checkpoint.load(&weight, None)?)
}

/// What a tensor by its GGUF name is rounded to; `None` where it stays: norms, biases, routers, positions, and whatever
/// is quantised already.
pub(super) fn target(
    name: &str,
    shape: &[usize],
    (current, kind): (DType, Quantize),
    layers: usize,
) -> Option<DType> {
    let (stem, last) = name.rsplit_once('.')?;
    let part = stem.rsplit('.').next().unwrap_or(stem);
    let sensitive = part.contains("norm")
        || part.contains("ffn_gate_inp")
        || part.contains("conv1d")
        || matches!(
            part,
            "position_embd" | "token_types" | "rope_freqs" | "rope_factors_long" | "rope_factors_short"
        );
    if last != "weight" || shape.len() < 2 || sensitive {
        return None;
    }
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let kind = match (part, layer) {
        ("token_embd" | "output", _) => kind.for_embedding(),
        ("attn_v" | "attn_qkv" | "ffn_down" | "ffn_down_exps", Some(layer)) => {
            kind.for_value_or_down(layer, layers)
        }
        _ => kind,
    };
    kind.target(current, *shape.last()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_matrices_of_floats_are_rounded_and_the_sensitive_ones_less() {
        let rounded = |name: &str, shape: &[usize]| target(name, shape, (DType::BF16, Quantize::Q4K), 28);
        assert_eq!(rounded("blk.5.attn_q.weight", &[1024, 1024]), Some(DType::Q4K));
        assert_eq!(rounded("blk.0.ffn_down.weight", &[1024, 3072]), Some(DType::Q6K));
        assert_eq!(rounded("token_embd.weight", &[1000, 1024]), Some(DType::Q6K));
        assert_eq!(rounded("blk.5.ffn_up_exps.weight", &[8, 64, 256]), Some(DType::Q4K));
        assert_eq!(
            rounded("blk.5.attn_q.weight", &[64, 96]),
            Some(DType::Q8_0),
            "rows that are not whole superblocks"
        );
        for (name, shape) in [
            ("blk.5.attn_norm.weight", &[1024][..]),
            ("blk.5.attn_q.bias", &[1024]),
            ("blk.5.ffn_gate_inp.weight", &[8, 1024]),
            ("position_embd.weight", &[1024, 1024]),
            ("blk.5.attn_q.weight", &[64, 30]),
        ] {
            assert_eq!(rounded(name, shape), None, "{name}");
        }
        assert_eq!(target("blk.5.attn_q.weight", &[1024, 1024], (DType::Q8_0, Quantize::Q4K), 28), None);
    }
}
