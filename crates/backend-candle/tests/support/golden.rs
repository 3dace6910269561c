//! The architecture goldens of `perch-model` (see their README), read, and any backend driven over them token by token.

use std::path::{Path, PathBuf};

use perch_engine::{Backend, Run, SeqId, Wanted};
use serde_json::Value;

/// A tiny checkpoint and what transformers answers with it.
pub(crate) struct Golden {
    pub(crate) folder: PathBuf,
    pub(crate) tokens: Vec<u32>,
    /// How many of the tokens are the prompt.
    pub(crate) prompt: usize,
    /// `[tokens, vocab]`.
    pub(crate) logits: Vec<f32>,
    pub(crate) context: Option<usize>,
}

impl Golden {
    /// Every golden of transformers, sorted by name.
    pub(crate) fn all() -> Vec<Golden> {
        Self::all_in("arch")
    }

    /// Every golden in `set`, sorted by name.
    pub(crate) fn all_in(set: &str) -> Vec<Golden> {
        let entries = std::fs::read_dir(root().join(set)).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.into_iter().map(Golden::read).collect()
    }

    /// The golden of transformers called `name`.
    pub(crate) fn named(name: &str) -> Golden {
        Golden::read(root().join("arch").join(name))
    }

    fn read(folder: PathBuf) -> Golden {
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let words = |name: &str| {
            let at = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize + 8 + length;
            bytes[at(0)..at(1)]
                .chunks_exact(4)
                .map(|word| <[u8; 4]>::try_from(word).unwrap())
                .collect::<Vec<_>>()
        };
        let tokens = words("tokens").into_iter().map(u32::from_le_bytes).collect();
        let logits = words("logits").into_iter().map(f32::from_le_bytes).collect();
        let metadata = |key: &str| header["__metadata__"][key].as_str().map(|value| value.parse().unwrap());
        let (prompt, context) = (metadata("prompt").unwrap(), metadata("context"));
        Golden { folder, tokens, prompt, logits, context }
    }

    pub(crate) fn name(&self) -> &str {
        self.folder.file_name().unwrap().to_str().unwrap()
    }

    pub(crate) fn vocab(&self) -> usize {
        self.logits.len() / self.tokens.len()
    }

    /// The files of the checkpoint: safetensors and, where the family has it, GGUF.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let gguf = self.folder.join("model.gguf");
        [self.folder.clone()].into_iter().chain(gguf.exists().then_some(gguf)).collect()
    }

    /// Largest distance of `logits`, rows from token `first` on, from the golden ones.
    pub(crate) fn distance(&self, first: usize, logits: &[f32]) -> f32 {
        let expected = &self.logits[first * self.vocab()..][..logits.len()];
        let distance = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
        logits.iter().zip(expected).map(distance).fold(0.0, f32::max)
    }

    /// Logits of all tokens: the prompt in pieces of `chunk` tokens, then one token at a time.
    pub(crate) fn replay(&self, backend: &mut dyn Backend, seq: SeqId, chunk: usize) -> Vec<f32> {
        backend.open(seq, &[]).unwrap();
        let (prompt, decoded) = self.tokens.split_at(self.prompt);
        let mut logits = Vec::new();
        let mut position = 0;
        for tokens in prompt.chunks(chunk).chain(decoded.chunks(1)) {
            logits.extend(backend.forward(&[Run { seq, tokens, position, wanted: Wanted::All }]).unwrap());
            position += tokens.len();
        }
        backend.close(seq);
        logits
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/goldens")
}
