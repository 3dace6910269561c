//! The guide: a small model that answers questions about Perch, as part of the program.
//!
//! The weights are made by `training/` in the checkout; the card (this crate's README.md) says what the model is and is
//! not, and how well it does.

/// What requests call it.
pub const ID: &str = "guide";

/// What it is, in the words that users read beside its name.
pub const DESCRIPTION: &str = "built-in guide (demonstration)";

/// The model: one GGUF file, Q8_0.
pub static GGUF: &[u8] = include_bytes!("../guide.gguf");

/// The model card, in Markdown.
pub const CARD: &str = include_str!("../README.md");

// What is in the program is in everyone's download.
const _: () = assert!(GGUF.len() <= 8 << 20, "the guide is larger than 8 MiB");
