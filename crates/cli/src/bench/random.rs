//! Making a model with random weights: a GGUF file of real sizes with a made-up vocabulary.
//!
//! The same recipe gives the same file. Weights are normal, scaled so that activations and logits stay in the range of
//! a trained model's; rows repeat after [`DISTINCT`] values, which no figure notices and which keeps the making quick.
//! The vocabulary is bytes, a few merges, ChatML's markers, and filler. What the model "says" is printable.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use perch_model::gguf::{Body, Writer};
use perch_model::quant::quantize_row;
use perch_model::{DType, Quantize};

use super::recipe::{Recipe, Shape, Stored};

/// Values of a tensor that are drawn; further rows repeat the first ones.
const DISTINCT: usize = 1 << 16;
/// Standard deviation of the logits: spread enough to favour some tokens, even enough that seeds differ.
const LOGIT_DEVIATION: f32 = 4.0;

const MERGES: [&str; 5] = ["t h", "th e", "Ġ the", "i n", "a n"];
const MARKERS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// One tensor to come.
struct Planned {
    name: String,
    dtype: DType,
    rows: usize,
    cols: usize,
    fill: Fill,
}

#[derive(Clone, Copy, PartialEq)]
enum Fill {
    /// All ones: a norm.
    Ones,
    /// Normal with variance `1 / cols`.
    Weights,
    /// A row for each token, zero for tokens that are not printable.
    Tokens,
}

/// Writes the model to `path`, whole or not at all.
pub(crate) fn write(recipe: &Recipe, path: &Path) -> Result<()> {
    let part = path.with_extension("part");
    let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    write_to(recipe, BufWriter::with_capacity(1 << 20, file))?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

fn write_to(recipe: &Recipe, out: impl Write) -> Result<()> {
    let shape = &recipe.shape;
    let mut writer = Writer::new();
    describe(&mut writer, recipe);
    let tokens = vocabulary(shape.vocab);
    set_vocabulary(&mut writer, &tokens);
    let tensors = tensors(shape, recipe.stored);
    for tensor in &tensors {
        let matrix = [tensor.rows, tensor.cols];
        let dims = if tensor.fill == Fill::Ones { &matrix[1..] } else { &matrix[..] };
        writer.declare(&tensor.name, tensor.dtype, dims)?;
    }
    let mut body = writer.begin(out)?;
    for (number, tensor) in tensors.iter().enumerate() {
        write_tensor(&mut body, tensor, &tokens, number as u64)?;
    }
    body.finish()?.flush()?;
    Ok(())
}

fn describe(writer: &mut Writer, recipe: &Recipe) {
    let shape = &recipe.shape;
    writer.set("general.architecture", shape.architecture).set("general.name", recipe.name().as_str());
    writer.set("general.file_type", recipe.file_type);
    let mut number = |key: &str, value: usize| {
        writer.set(&format!("{}.{key}", shape.architecture), value as u32);
    };
    number("block_count", shape.layers);
    number("context_length", shape.context);
    number("embedding_length", shape.hidden);
    number("feed_forward_length", shape.ff);
    number("attention.head_count", shape.heads);
    number("attention.head_count_kv", shape.kv_heads);
    number("attention.key_length", shape.head_dim);
    number("attention.value_length", shape.head_dim);
    number("rope.dimension_count", shape.head_dim);
    number("vocab_size", shape.vocab);
    writer.set(&format!("{}.attention.layer_norm_rms_epsilon", shape.architecture), 1e-6f32);
    writer.set(&format!("{}.rope.freq_base", shape.architecture), shape.rope_base);
}

/// Tokens in GPT-2's spelling of bytes.
fn vocabulary(size: usize) -> Vec<String> {
    let bytes = (0..=255u8).map(|byte| spelled(byte).to_string());
    let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
    let markers = MARKERS.iter().map(|marker| (*marker).to_string());
    let filler = (0..).map(|n| format!("Ġw{n}"));
    bytes.chain(merged).chain(markers).chain(filler).take(size).collect()
}

/// The character that stands for a byte: itself where it is printable, else one from U+0100 on.
fn spelled(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match printable(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&byte| !printable(byte)).count();
            char::from_u32(0x100 + before as u32).unwrap_or('?')
        }
    }
}

fn set_vocabulary(writer: &mut Writer, tokens: &[String]) {
    let (normal, control) = (1i32, 3i32);
    let kind = |token: &String| if MARKERS.contains(&token.as_str()) { control } else { normal };
    let kinds: Vec<i32> = tokens.iter().map(kind).collect();
    let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let id = |marker: &str| texts.iter().position(|token| *token == marker).unwrap_or(0) as u32;
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "qwen2");
    writer.set("tokenizer.ggml.tokens", &texts[..]).set("tokenizer.ggml.token_type", &kinds[..]);
    writer.set("tokenizer.ggml.merges", &MERGES[..]);
    writer.set("tokenizer.ggml.eos_token_id", id("<|im_end|>"));
    writer.set("tokenizer.ggml.padding_token_id", id("<|endoftext|>"));
    writer.set("tokenizer.ggml.add_bos_token", false);
    writer.set("tokenizer.chat_template", TEMPLATE);
}

fn tensors(shape: &Shape, stored: Stored) -> Vec<Planned> {
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let matrix = |name: String, quantize: Option<Quantize>, rows, cols, fill| {
        let dtype = match stored {
            Stored::Float(dtype) => dtype,
            Stored::Mixed(all) => quantize.unwrap_or(all).target(DType::F32, cols).unwrap_or(DType::F32),
        };
        Planned { name, dtype, rows, cols, fill }
    };
    let norm = |name: String, cols| Planned { name, dtype: DType::F32, rows: 1, cols, fill: Fill::Ones };
    let mixed = |pick: fn(Quantize, usize, usize) -> Quantize, layer| match stored {
        Stored::Mixed(all) => Some(pick(all, layer, shape.layers)),
        Stored::Float(_) => None,
    };
    let embedding = mixed(|all, _, _| all.for_embedding(), 0);
    let table = |name: &str| matrix(name.into(), embedding, shape.vocab, shape.hidden, Fill::Tokens);
    let mut tensors = vec![table("token_embd.weight")];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let careful = mixed(Quantize::for_value_or_down, layer);
        tensors.push(norm(name("attn_norm"), shape.hidden));
        tensors.push(matrix(name("attn_q"), None, q, shape.hidden, Fill::Weights));
        tensors.push(matrix(name("attn_k"), None, kv, shape.hidden, Fill::Weights));
        tensors.push(matrix(name("attn_v"), careful, kv, shape.hidden, Fill::Weights));
        tensors.push(matrix(name("attn_output"), None, shape.hidden, q, Fill::Weights));
        if shape.architecture == "qwen3" {
            tensors.push(norm(name("attn_q_norm"), shape.head_dim));
            tensors.push(norm(name("attn_k_norm"), shape.head_dim));
        }
        tensors.push(norm(name("ffn_norm"), shape.hidden));
        tensors.push(matrix(name("ffn_gate"), None, shape.ff, shape.hidden, Fill::Weights));
        tensors.push(matrix(name("ffn_up"), None, shape.ff, shape.hidden, Fill::Weights));
        tensors.push(matrix(name("ffn_down"), careful, shape.hidden, shape.ff, Fill::Weights));
    }
    tensors.push(norm("output_norm.weight".into(), shape.hidden));
    if !shape.tied {
        tensors.push(table("output.weight"));
    }
    tensors
}

fn write_tensor<W: Write>(body: &mut Body<W>, tensor: &Planned, tokens: &[String], seed: u64) -> Result<()> {
    let deviation = match tensor.fill {
        Fill::Ones => return Ok(body.write(&1f32.to_le_bytes().repeat(tensor.cols))?),
        Fill::Weights => 1.0 / (tensor.cols as f32).sqrt(),
        Fill::Tokens => LOGIT_DEVIATION / (tensor.cols as f32).sqrt(),
    };
    let row_bytes = tensor.dtype.row_bytes(tensor.cols).context("a row is not whole blocks")?;
    let distinct = tensor.rows.min((DISTINCT / tensor.cols).max(1));
    let mut normal = Normal { state: seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5eed };
    let (mut values, mut rows) = (vec![0.0; tensor.cols], vec![0; distinct * row_bytes]);
    for row in rows.chunks_exact_mut(row_bytes) {
        values.iter_mut().for_each(|value| *value = normal.next() * deviation);
        quantize_row(tensor.dtype, &values, row);
    }
    // No bits set is zero in every type that is written here.
    let nothing = vec![0; row_bytes];
    for row in 0..tensor.rows {
        let silent = tensor.fill == Fill::Tokens && tokens.get(row).is_none_or(|token| !is_spoken(token));
        let at = row % distinct * row_bytes;
        body.write(if silent { &nothing } else { &rows[at..at + row_bytes] })?;
    }
    Ok(())
}

/// Whether a token is plain text: printable ASCII and spaces (`Ġ`), and no marker.
fn is_spoken(token: &str) -> bool {
    !MARKERS.contains(&token) && token.chars().all(|c| c.is_ascii_graphic() || c == 'Ġ')
}

/// Normally distributed numbers: the sum of twelve uniform ones.
struct Normal {
    state: u64,
}

impl Normal {
    fn next(&mut self) -> f32 {
        // Twelve 10-bit numbers from two steps of SplitMix64: mean 6, variance 1 once divided by 1024.
        let mut sum = 0;
        for _ in 0..2 {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            sum += (0..6).map(|part| (z >> (part * 10)) & 1023).sum::<u64>();
        }
        sum as f32 / 1024.0 - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perch_model::Checkpoint;

    #[test]
    fn every_type_of_a_random_model_is_a_checkpoint_that_opens() {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m"] {
            let recipe: Recipe = format!("tiny:{kind}").parse().unwrap();
            let path = dir.path().join(format!("{kind}.gguf"));
            write(&recipe, &path).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let spec = checkpoint.spec(&Default::default()).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!((spec.layers.len(), spec.hidden_size), (2, 64), "{kind}");
        }
    }

    #[test]
    fn the_same_recipe_gives_the_same_bytes() {
        let recipe: Recipe = "tiny:q8_0".parse().unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        write_to(&recipe, &mut first).unwrap();
        write_to(&recipe, &mut second).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn random_numbers_have_mean_zero_and_deviation_one() {
        let mut normal = Normal { state: 1 };
        let values: Vec<f32> = (0..100_000).map(|_| normal.next()).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn every_byte_has_a_spelling_of_its_own() {
        let tokens = vocabulary(272);
        let distinct: std::collections::HashSet<&String> = tokens.iter().collect();
        assert_eq!(distinct.len(), 272);
        assert_eq!((tokens[b' ' as usize].as_str(), tokens[b'a' as usize].as_str()), ("Ġ", "a"));
        assert_eq!(tokens[b'\n' as usize], "Ċ");
    }
}
