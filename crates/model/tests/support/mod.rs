//! Reads the architecture goldens, whose layout `goldens/arch/README.md` describes.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::path::{Path, PathBuf};

use perch_model::{Checkpoint, ModelSpec, SpecOptions};
use serde_json::Value;

/// One folder of the goldens.
pub(crate) struct Golden {
    pub(crate) folder: PathBuf,
    header: Value,
    data: Vec<u8>,
}

impl Golden {
    /// Every folder, sorted by name.
    pub(crate) fn all() -> Vec<Golden> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/arch");
        let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.into_iter().map(Golden::read).collect()
    }

    /// The folder called `name`.
    pub(crate) fn named(name: &str) -> Golden {
        Golden::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/arch").join(name))
    }

    fn read(folder: PathBuf) -> Golden {
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        Golden { folder, header, data: bytes[8 + length..].to_vec() }
    }

    pub(crate) fn name(&self) -> &str {
        self.folder.file_name().unwrap().to_str().unwrap()
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.header["__metadata__"].get(key)?.as_str()
    }

    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let offsets = self.header.get(name)?["data_offsets"].as_array().unwrap();
        let at = |i: usize| offsets[i].as_u64().unwrap() as usize;
        let words = self.data[at(0)..at(1)].chunks_exact(4);
        Some(words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect())
    }

    /// The rotary tables transformers used, by the kind of layer: `all`, `full_attention`, `sliding_attention`.
    pub(crate) fn rope(&self, kind: &str) -> Option<(Vec<f32>, f32)> {
        let key = format!("rope.{kind}");
        Some((self.floats(&key)?, self.metadata(&format!("{key}.factor"))?.parse().unwrap()))
    }

    pub(crate) fn options(&self) -> SpecOptions {
        SpecOptions { context: self.metadata("context").map(|context| context.parse().unwrap()) }
    }

    pub(crate) fn safetensors(&self) -> ModelSpec {
        Checkpoint::open(&self.folder).unwrap().spec(&self.options()).unwrap()
    }

    /// The spec of the GGUF; `None` where GGUF does not have the family.
    pub(crate) fn gguf(&self) -> Option<ModelSpec> {
        let path = self.folder.join("model.gguf");
        path.exists().then(|| Checkpoint::open(path).unwrap().spec(&self.options()).unwrap())
    }
}
