//! The user's cache folder: where everything that these commands install or make is kept between runs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

/// `$XTASK_CACHE`, `$XDG_CACHE_HOME/perch` or `~/.cache/perch`; made if it is not there. Where no home can be written
/// to, `target/cache` in the checkout.
pub(crate) fn dir() -> Result<PathBuf> {
    let var = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let wanted = var("XTASK_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|cache| cache.join("perch")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache").join("perch")));
    if let Some(dir) = wanted
        && fs::create_dir_all(&dir).is_ok()
    {
        return Ok(dir);
    }
    let dir = root().join("target").join("cache");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// A folder of the cache whose name changes when what it is made from changes.
pub(crate) fn keyed(name: &str, made_from: &[&Path]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for path in made_from {
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.hash(&mut hasher);
    }
    Ok(dir()?.join(format!("{name}-{:012x}", hasher.finish() & 0xffff_ffff_ffff)))
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The name of the binary.
pub(crate) const PERCH: &str = "perch";

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from))
}
