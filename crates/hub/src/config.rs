//! `LibraryConfig`: the folders a library looks into, and where Hugging Face's own tools keep their cache.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where a [`crate::Library`] looks.
#[derive(Debug, Clone, Default)]
pub struct LibraryConfig {
    /// Folders of the user's own, first come, first named. Any may itself be a model, or a Hugging Face cache.
    pub models_dirs: Vec<PathBuf>,
    /// Stands in for `HF_HOME`; its `hub` folder is read. `None` asks the environment, as Hugging Face's tools do.
    pub hf_home: Option<PathBuf>,
    /// Perch's own data folder; models lie in `models` under it.
    pub data_dir: PathBuf,
}

impl LibraryConfig {
    /// The Hugging Face cache this configuration points at.
    pub fn hub_cache(&self) -> Option<PathBuf> {
        match &self.hf_home {
            Some(home) => Some(home.join("hub")),
            None => hf_hub_cache(|name| std::env::var_os(name)),
        }
    }
}

/// The hub cache folder by the rules of `huggingface_hub`: `HF_HUB_CACHE`, the older `HUGGINGFACE_HUB_CACHE`,
/// `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`. Empty variables count as unset.
pub fn hf_hub_cache(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let get = |name: &str| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || get("HOME").or_else(|| get("USERPROFILE"));
    let expand = |path: PathBuf| match path.strip_prefix("~") {
        Ok(rest) => home().map(|h| h.join(rest)).unwrap_or_else(|| path.clone()),
        Err(_) => path,
    };
    if let Some(cache) = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE")) {
        return Some(expand(cache));
    }
    if let Some(hf_home) = get("HF_HOME") {
        return Some(expand(hf_home).join("hub"));
    }
    let cache = get("XDG_CACHE_HOME").map(expand).or_else(|| home().map(|h| h.join(".cache")))?;
    Some(cache.join("huggingface").join("hub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with(vars: &[(&str, &str)]) -> Option<PathBuf> {
        hf_hub_cache(|name| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_hub_cache_follows_the_variables_in_the_order_of_huggingface_hub() {
        let home = ("HOME", "/home/u");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        let hf_home = ("HF_HOME", "/hf");
        let cache = ("HF_HUB_CACHE", "/cache");
        assert_eq!(cache_with(&[home]), Some("/home/u/.cache/huggingface/hub".into()));
        assert_eq!(cache_with(&[home, xdg]), Some("/xdg/huggingface/hub".into()));
        assert_eq!(cache_with(&[home, xdg, hf_home]), Some("/hf/hub".into()));
        assert_eq!(cache_with(&[home, xdg, hf_home, cache]), Some("/cache".into()));
        assert_eq!(cache_with(&[]), None);
    }

    #[test]
    fn an_empty_variable_counts_as_unset_and_a_tilde_is_the_home_folder() {
        assert_eq!(
            cache_with(&[("HOME", "/home/u"), ("HF_HOME", "")]),
            Some("/home/u/.cache/huggingface/hub".into())
        );
        assert_eq!(cache_with(&[("HOME", "/home/u"), ("HF_HOME", "~/hf")]), Some("/home/u/hf/hub".into()));
    }
}
