//! How much memory a model will take once loaded, told from its headers alone.
//!
//! Mirrors [`Checkpoint::load`]: views of the file cost nothing of their own, conversions and roundings a copy.

use super::Checkpoint;
use super::entry::Source;
use crate::selection::Selection;
use crate::{DType, Ffn, Linear, Mixer, Mlp, ModelSpec, Norm, Quantize, Weight};

/// Bytes of a model's weights in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Used in place in the mapped files: the system may drop and read them again.
    pub mapped: u64,
    /// Copies of the process' own.
    pub owned: u64,
}

impl Footprint {
    /// All bytes.
    pub fn total(self) -> u64 {
        self.mapped.saturating_add(self.owned)
    }
}

impl Checkpoint {
    /// What the weights of `spec` take when float matrices are rounded to `quantize` while they are loaded: layers to
    /// it, value and down projections, embedding and head to what goes with it ([`Quantize::for_value_or_down`],
    /// [`Quantize::for_embedding`]), all else as it is. Tensors that the model does not use are not counted.
    pub fn footprint(&self, spec: &ModelSpec, quantize: Option<Quantize>) -> Footprint {
        let mut sum = Sum { checkpoint: self, quantize, bytes: Footprint::default() };
        let ends = quantize.map(Quantize::for_embedding);
        sum.add(&spec.embedding.tokens, ends);
        if spec.head.linear.weight != spec.embedding.tokens {
            sum.add(&spec.head.linear.weight, ends);
        }
        sum.floats(spec.head.linear.bias.iter());
        if let Some(positions) = &spec.embedding.positions {
            sum.add(positions, None);
        }
        sum.norm(&spec.final_norm);
        for (index, layer) in spec.layers.iter().enumerate() {
            let sensitive = quantize.map(|quantize| quantize.for_value_or_down(index, spec.layers.len()));
            for norm in [&layer.pre_mixer, &layer.post_mixer, &layer.pre_ffn, &layer.post_ffn] {
                norm.iter().for_each(|norm| sum.norm(norm));
            }
            let Mixer::Attention(attention) = &layer.mixer;
            for linear in [&attention.q, &attention.k, &attention.o] {
                sum.linear(linear, quantize);
            }
            sum.linear(&attention.v, sensitive);
            attention.q_norm.iter().chain(&attention.k_norm).for_each(|norm| sum.norm(norm));
            sum.floats(attention.sinks.iter());
            match &layer.ffn {
                Ffn::Dense(mlp) => sum.mlp(mlp, sensitive),
                Ffn::Moe(moe) => {
                    sum.linear(&moe.router, None);
                    moe.experts.iter().chain(&moe.shared).for_each(|mlp| sum.mlp(mlp, sensitive));
                }
            }
        }
        sum.bytes
    }

    /// What one weight takes; nothing if it is not there, which is for loading to say.
    fn weight_footprint(&self, weight: &Weight, quantize: Option<Quantize>) -> Footprint {
        let entry = self.tensors.get(weight.name.as_str());
        let selected = entry.and_then(|entry| Some((entry, Selection::of(&entry.shape, weight).ok()?)));
        let Some((entry, selection)) = selected else { return Footprint::default() };
        let bytes = |dtype: DType| {
            let row = dtype.row_bytes(selection.cols).unwrap_or_default() as u64;
            row.saturating_mul(selection.rows as u64)
        };
        let owned = |dtype: DType| Footprint { owned: bytes(dtype), mapped: 0 };
        match &entry.source {
            Source::Plain { kind, .. } => {
                let Some(dtype) = kind.dtype else { return Footprint::default() };
                let rounded = quantize.filter(|_| selection.rows > 1);
                match rounded.and_then(|quantize| quantize.target(dtype, selection.cols)) {
                    Some(target) => owned(target),
                    None if selection.is_contiguous() => Footprint { mapped: bytes(dtype), owned: 0 },
                    None => owned(dtype),
                }
            }
            Source::Affine(parts) if parts.bits == 4 => owned(DType::Q4_1),
            Source::Affine(_) => owned(DType::Affine8),
            Source::Mxfp4(_) => owned(DType::Mxfp4),
            Source::Nvfp4(_) => owned(DType::F16),
            Source::Foreign { .. } => Footprint::default(),
        }
    }
}

/// Adds up.
struct Sum<'a> {
    checkpoint: &'a Checkpoint,
    quantize: Option<Quantize>,
    bytes: Footprint,
}

impl Sum<'_> {
    fn add(&mut self, weight: &Weight, quantize: Option<Quantize>) {
        let Footprint { mapped, owned } = self.checkpoint.weight_footprint(weight, quantize);
        self.bytes.mapped = self.bytes.mapped.saturating_add(mapped);
        self.bytes.owned = self.bytes.owned.saturating_add(owned);
    }

    /// Vectors become floats of their own.
    fn floats<'a>(&mut self, weights: impl Iterator<Item = &'a Weight>) {
        for weight in weights {
            let entry = self.checkpoint.tensors.get(weight.name.as_str());
            let selected = entry.and_then(|entry| Selection::of(&entry.shape, weight).ok());
            let elements = selected.map_or(0, |s| (s.rows as u64).saturating_mul(s.cols as u64));
            self.bytes.owned = self.bytes.owned.saturating_add(elements.saturating_mul(4));
        }
    }

    fn norm(&mut self, norm: &Norm) {
        self.floats([&norm.weight].into_iter().chain(&norm.bias));
    }

    fn linear(&mut self, linear: &Linear, quantize: Option<Quantize>) {
        self.add(&linear.weight, quantize);
        self.floats(linear.bias.iter());
    }

    fn mlp(&mut self, mlp: &Mlp, sensitive: Option<Quantize>) {
        let quantize = self.quantize;
        mlp.gate.iter().chain([&mlp.up]).for_each(|linear| self.linear(linear, quantize));
        self.linear(&mlp.down, sensitive);
    }
}
