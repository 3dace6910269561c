//! Which tokens end a generation, by llama.cpp's rule: those the checkpoint names, and those whose text says so.

use super::vocab::{Kind, Vocab};

/// Texts that end a turn or a document in some family, whatever their kind.
const ENDINGS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Fill-in-the-middle separators: past them lies another file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
];

/// Texts that end a document only where the vocabulary marks them as special; elsewhere they are markup.
const ENDINGS_IF_MARKED: &[&str] = &["</s>", "<eos>", "[EOS]"];

/// Whether a token of this text ends a generation whatever its kind.
pub(super) fn is_ending(text: &str) -> bool {
    ENDINGS.contains(&text)
}

/// All tokens after which nothing more is to be generated, ascending. `named` are those of the checkpoint's metadata.
pub(super) fn end_of_generation(vocab: &Vocab, named: &[Option<u32>]) -> Vec<u32> {
    let mut ids: Vec<u32> = named.iter().flatten().copied().collect();
    for (id, text, kind) in vocab.iter() {
        let marked = matches!(kind, Kind::Control | Kind::UserDefined);
        if is_ending(text) || (marked && ENDINGS_IF_MARKED.contains(&text)) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let has = |text: &str| ids.iter().any(|id| vocab.text(*id) == Some(text));
    // Harmony (gpt-oss) and Solar end messages with <|end|> and turns with the others: a turn has many messages.
    let harmony = has("<|call|>") && has("<|return|>") || has("<|calls|>") && has("<|flush|>");
    // Gemma 4 keeps </s> as an ordinary tag.
    let tag = has("<|tool_response>");
    ids.retain(|id| match vocab.text(*id) {
        Some("<|end|>") => !harmony,
        Some("</s>") => !tag,
        _ => true,
    });
    ids
}
