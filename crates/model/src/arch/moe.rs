//! Experts: how many, and where each keeps its matrices.
//!
//! Checkpoints hold them as tensors of their own (the first Hugging Face way), as stacks of three (GGUF, MLX) or as stacks
//! of two with gate and up fused (transformers 5, Granite).

use super::block::Block;
use super::context::{Context, Name, name};
use crate::{Activation, Linear, Mlp, ModelError, Moe, Scoring, Weight};

/// Experts of one layer. The most published are 512.
const MAX_EXPERTS: usize = 4096;
/// Experts of all layers, since each gets linears of its own in the spec. The most published are some 23,000.
const MAX_ALL_EXPERTS: usize = 1 << 15;

/// Sizes of a mixture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Experts {
    pub(super) count: usize,
    pub(super) top_k: usize,
    /// Width of one expert's feed-forward layer.
    pub(super) ff: usize,
}

pub(super) const COUNT: Name = name("num_local_experts", "expert_count");
const COUNT_QWEN: Name = name("num_experts", "expert_count");
const TOP_K: Name = name("num_experts_per_tok", "expert_used_count");
const FF_MOE: Name = name("moe_intermediate_size", "expert_feed_forward_length");

/// Routers, by family; GGUF has one name for all.
const ROUTERS: &[Name] = &[
    name("mlp.gate", "ffn_gate_inp"),
    name("block_sparse_moe.gate", "ffn_gate_inp"),
    name("block_sparse_moe.router.layer", "ffn_gate_inp"),
];

/// Stacks of three: gate, up, down.
const STACKS: &[[Name; 3]] = &[
    [
        name("mlp.switch_mlp.gate_proj", "ffn_gate_exps"),
        name("mlp.switch_mlp.up_proj", "ffn_up_exps"),
        name("mlp.switch_mlp.down_proj", "ffn_down_exps"),
    ],
    [
        name("block_sparse_moe.switch_mlp.gate_proj", "ffn_gate_exps"),
        name("block_sparse_moe.switch_mlp.up_proj", "ffn_up_exps"),
        name("block_sparse_moe.switch_mlp.down_proj", "ffn_down_exps"),
    ],
];

/// Stacks of two: gate above up, and down. Full tensor names, since transformers 5 leaves out the `.weight`.
const FUSED: &[[Name; 2]] = &[
    [
        name("mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
        name("mlp.experts.down_proj", "ffn_down_exps.weight"),
    ],
    [
        name("block_sparse_moe.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
        name("block_sparse_moe.experts.down_proj", "ffn_down_exps.weight"),
    ],
    [
        name("block_sparse_moe.input_linear.weight", "ffn_gate_up_exps.weight"),
        name("block_sparse_moe.output_linear.weight", "ffn_down_exps.weight"),
    ],
];

/// Tensors of their own: the group that holds them, and gate, up and down in it.
const SINGLES: &[(Name, [&str; 3])] = &[
    (name("mlp.experts", ""), ["gate_proj", "up_proj", "down_proj"]),
    (name("block_sparse_moe.experts", ""), ["w1", "w3", "w2"]),
];

/// The mixture of a config; `None` where it counts no experts.
pub(super) fn count(cx: &Context<'_>, layers: usize) -> Result<Option<Experts>, ModelError> {
    let count = match cx.count(COUNT, MAX_EXPERTS)? {
        Some(count) => Some(count),
        None => cx.count(COUNT_QWEN, MAX_EXPERTS)?,
    };
    let Some(count) = count.filter(|count| *count > 0) else { return Ok(None) };
    if count * layers > MAX_ALL_EXPERTS {
        return Err(cx.invalid(format!("{layers} layers of {count} experts are more than {MAX_ALL_EXPERTS}")));
    }
    // llama.cpp's numbers: none said, softmax over all experts, softmax over the chosen. The two give the same weights
    // once those sum to one, as all families here have it.
    let gating = cx.count(name("", "expert_gating_func"), usize::MAX)?;
    if !matches!(gating, None | Some(0 | 1 | 3)) {
        return Err(cx.unsupported("an expert router other than softmax"));
    }
    let top_k = cx.require_size(TOP_K, count)?;
    let ff = match cx.size(FF_MOE, super::context::MAX_WIDTH)? {
        Some(ff) => ff,
        None => cx.require_size(super::dims::FF, super::context::MAX_WIDTH)?,
    };
    Ok(Some(Experts { count, top_k, ff }))
}

/// The name of the layer's router; `None` for a dense layer of a model that has both kinds.
pub(super) fn router(block: &Block<'_>) -> Option<Name> {
    ROUTERS.iter().copied().find(|router| block.has(*router))
}

/// A mixture of gated MLPs whose router weights sum to one.
pub(super) fn gated(block: &Block<'_>, experts: Experts, act: Activation) -> Result<Moe, ModelError> {
    let router = router(block).unwrap_or(ROUTERS[0]);
    Ok(Moe {
        router: block.linear(router, experts.count, block.dims.hidden)?,
        experts: mlps(block, experts, act)?,
        top_k: experts.top_k,
        scoring: Scoring::SoftmaxNormalised,
        scale: 1.0,
        shared: None,
    })
}

/// Every expert's MLP, wherever the checkpoint has them.
fn mlps(block: &Block<'_>, experts: Experts, activation: Activation) -> Result<Vec<Mlp>, ModelError> {
    let hidden = block.dims.hidden;
    let Experts { count, ff, .. } = experts;
    if let Some(stacks) = STACKS.iter().find(|stacks| block.has(stacks[0])) {
        let [gate, up, down] = stacks.map(|stack| block.path(stack));
        return (0..count)
            .map(|e| {
                Ok(Mlp {
                    gate: Some(member(block, &gate, [count, ff, hidden], e)?),
                    up: member(block, &up, [count, ff, hidden], e)?,
                    down: member(block, &down, [count, hidden, ff], e)?,
                    activation,
                })
            })
            .collect();
    }
    if let Some(fused) = FUSED.iter().find(|fused| block.cx.has(&block.path(fused[0]))) {
        let [gate_up, down] = fused.map(|stack| block.path(stack));
        block.cx.expect(&gate_up, &[count, 2 * ff, hidden])?;
        block.cx.expect(&down, &[count, hidden, ff])?;
        let rows = |name: &str, start, rows, cols| {
            let weight = Weight::span(name, start..start + rows);
            Linear { weight, bias: None, rows, cols }
        };
        let mlp = |e| Mlp {
            gate: Some(rows(&gate_up, 2 * e * ff, ff, hidden)),
            up: rows(&gate_up, (2 * e + 1) * ff, ff, hidden),
            down: rows(&down, e * hidden, hidden, ff),
            activation,
        };
        return Ok((0..count).map(mlp).collect());
    }
    let first = |(group, [gate, ..]): &&(Name, [&str; 3])| {
        block.cx.has(&format!("{}.0.{gate}.weight", block.path(*group)))
    };
    let (group, [gate, up, down]) = SINGLES.iter().find(first).unwrap_or(&SINGLES[0]);
    if block.cx.is_gguf() {
        return Err(block
            .cx
            .invalid(format!("tensor {:?} is missing", block.path(STACKS[0][0]) + ".weight")));
    }
    let group = block.path(*group);
    (0..count)
        .map(|e| {
            let linear = |part, rows, cols| block.cx.linear(&format!("{group}.{e}.{part}"), rows, cols);
            Ok(Mlp {
                gate: Some(linear(gate, ff, hidden)?),
                up: linear(up, ff, hidden)?,
                down: linear(down, hidden, ff)?,
                activation,
            })
        })
        .collect()
}

/// Matrix `index` of a stack `[count, rows, cols]`, with its row of the biases `[count, rows]` if there are any.
pub(super) fn member(
    block: &Block<'_>,
    path: &str,
    [count, rows, cols]: [usize; 3],
    index: usize,
) -> Result<Linear, ModelError> {
    let (weight, bias) = (format!("{path}.weight"), format!("{path}.bias"));
    block.cx.expect(&weight, &[count, rows, cols])?;
    let bias = match block.cx.has(&bias) {
        true => {
            block.cx.expect(&bias, &[count, rows])?;
            Some(Weight::span(bias, index..index + 1))
        }
        false => None,
    };
    Ok(Linear { weight: Weight::span(weight, index * rows..(index + 1) * rows), bias, rows, cols })
}
