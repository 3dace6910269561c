//! The packages of this build, as cargo knows them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// A package's sources.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) folder: PathBuf,
}

/// Every package of the lock file, whatever platform it is for.
pub(crate) fn all() -> Result<Vec<Package>> {
    let output = shell::cargo()
        .args(["metadata", "--locked", "--format-version", "1", "--all-features"])
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata says no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Result<Package> {
    let text = |key: &str| package[key].as_str().with_context(|| format!("a package has no {key}"));
    let folder = Path::new(text("manifest_path")?).parent().context("a manifest lies in a folder")?;
    Ok(Package { name: text("name")?.into(), version: text("version")?.into(), folder: folder.into() })
}
