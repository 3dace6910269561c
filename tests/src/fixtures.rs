//! The models and client libraries that tests need, and how they are found or made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::Perch;

/// The folder of the 260K-parameter TinyStories model, or why there is none. It is not part of this project: it is
/// looked for in `$PERCH_SHARED_MODELS` and in `shared/models` beside the checkout.
pub fn stories() -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let models = env::var_os("PERCH_SHARED_MODELS").map_or(beside, PathBuf::from);
    let folder = models.join("stories260k");
    match folder.canonicalize() {
        Ok(folder) => Ok(folder),
        Err(_) => Err(format!("there is no {}; set PERCH_SHARED_MODELS", folder.display())),
    }
}

/// A model with random weights, made by `perch bench --random`: the same file for the same recipe.
#[derive(Debug, Clone, Copy)]
pub struct RandomModel(
    /// `SHAPE:TYPE`.
    pub &'static str,
);

impl RandomModel {
    /// Two small layers, a vocabulary of bytes, a chat template. Answers are letters without sense.
    pub const TINY: Self = Self("tiny:f32");

    /// Writes it to `path`.
    pub fn write(self, path: &Path) {
        let args = ["bench", "--random", self.0, "--write"].map(OsStr::new);
        let (code, _, stderr) = Perch::new().run(args.into_iter().chain([path.as_os_str()]));
        assert_eq!(code, Some(0), "{stderr}");
    }

    /// A home whose library holds it as `name`.
    pub fn home(self, name: &str) -> Perch {
        let perch = Perch::new();
        self.write(&perch.models_dir().join(format!("{name}.gguf")));
        perch
    }
}

/// Writes `config.toml` into the data folder.
pub fn write_config(perch: &Perch, text: &str) {
    fs::write(perch.data_dir().join("config.toml"), text).expect("the data folder can be written to");
}

/// What `cargo xtask test` set up under this name (`TESTS_PYTHON`, `TESTS_NODE_MODULES`), or why it is not there.
pub fn client_libraries(variable: &str) -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    let missing = env::var(format!("{variable}_MISSING"));
    Err(missing.unwrap_or_else(|_| format!("{variable} is not set; run `cargo xtask test`")))
}
