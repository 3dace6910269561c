//! `Variant`: what of a repository can be downloaded and run: one quantisation of its GGUF files, or its checkpoint.
//!
//! Files are grouped and named as the local library does it, so that a variant's id is what requests call it afterwards.

use std::collections::{BTreeMap, HashSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::listing::{RemoteFile, RepoInfo, RepoSummary};
use crate::local::Format;
use crate::lookup::PREFERRED;
use crate::names;

/// Files beside the weights that a checkpoint needs, or that say what it is and who may use it.
const COMPANIONS: [&str; 5] = ["json", "jinja", "model", "txt", "md"];

/// Something of a repository that can be downloaded and run.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// What a user types: `author/name:Q4_K_M`, or `author/name` for a checkpoint.
    pub id: String,
    /// `Q4_K_M`, `BF16`, `4bit`; absent where nothing says.
    pub quantization: Option<String>,
    /// How it is stored.
    pub format: Format,
    /// Its files, by path.
    pub files: Vec<RemoteFile>,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// GGUF: the file's name without part numbers and extension.
    stem: Option<String>,
}

impl Variant {
    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// What decides which variant is taken when nobody says.
#[derive(Debug, Clone, Copy)]
pub struct Preference {
    /// Bytes of weights that this machine has room for; `None` does not look at it.
    pub budget: Option<u64>,
    /// Whether a quantisation of this name is one that backends run.
    pub runs: fn(&str) -> bool,
}

/// Why no variant could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// The repository has nothing that could be run.
    #[error(
        "`{repo}` has neither GGUF files nor safetensors with a config.json; there is nothing in it that could be run"
    )]
    Nothing {
        /// `author/name`.
        repo: String,
    },
    /// It has no such quantisation.
    #[error("`{repo}` has no `{wanted}`; it has {}", known.join(", "))]
    Unknown {
        /// `author/name`.
        repo: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No file fits the patterns.
    #[error("no file of `{repo}` fits {}; see its files at GET /hub/model/{repo}", patterns.join(", "))]
    NoFile {
        /// `author/name`.
        repo: String,
        /// What was asked for.
        patterns: Vec<String>,
    },
    /// A pattern is none.
    #[error("`{pattern}` is no pattern: {reason}")]
    BadPattern {
        /// What was asked for.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// The files that were asked for include names that cannot be used.
    #[error("`{repo}` has a file named {name:?}, which cannot be stored safely; ask for other files")]
    UnusableName {
        /// `author/name`.
        repo: String,
        /// The name.
        name: String,
    },
}

/// All variants of a repository, smallest first.
pub fn variants(info: &RepoInfo) -> Vec<Variant> {
    let mut all: Vec<Variant> = ggufs(info).into_iter().chain(checkpoint(info)).collect();
    all.sort_by(|a, b| (a.weight_bytes, &a.id).cmp(&(b.weight_bytes, &b.id)));
    all
}

fn ggufs(info: &RepoInfo) -> Vec<Variant> {
    // Parts of one split model share folder, base and count.
    let mut groups: BTreeMap<(&str, &str, u32), Vec<&RemoteFile>> = BTreeMap::new();
    for file in &info.files {
        let (folder, name) = file.path.as_str().rsplit_once('/').unwrap_or(("", file.path.as_str()));
        let Some(stem) = names::gguf_stem(name) else { continue };
        if names::is_projector(stem) || stem.to_ascii_lowercase().contains("imatrix") {
            continue;
        }
        let (base, parts) = names::split_name(stem).map_or((stem, 0), |split| (split.base, split.parts));
        groups.entry((folder, base, parts)).or_default().push(file);
    }
    let repo = &info.summary.id;
    let mut labels = HashSet::new();
    let complete = groups.into_iter().filter(|((_, _, parts), files)| *parts as usize <= files.len());
    let variant = |((_, base, _), files): ((&str, &str, u32), Vec<&RemoteFile>)| {
        let quantization = names::quantization_label(base);
        // As in the library: the first file has the label for a name, others their own.
        let label = quantization.clone().filter(|label| labels.insert(label.clone()));
        let files: Vec<RemoteFile> = files.into_iter().cloned().collect();
        Variant {
            id: format!("{repo}:{}", label.as_deref().unwrap_or(base)),
            quantization,
            format: Format::Gguf,
            weight_bytes: total(&files),
            files,
            stem: Some(base.to_owned()),
        }
    };
    complete.map(variant).collect()
}

fn checkpoint(info: &RepoInfo) -> Option<Variant> {
    let top: Vec<&RemoteFile> = info.files.iter().filter(|file| file.path.is_top_level()).collect();
    let has = |name: &str| top.iter().any(|file| file.path.as_str() == name);
    let weights: Vec<&RemoteFile> =
        top.iter().copied().filter(|f| f.path.as_str().ends_with(".safetensors")).collect();
    if !has("config.json") || weights.is_empty() {
        return None;
    }
    let named = |wanted: &dyn Fn(&str) -> bool| -> Vec<&RemoteFile> {
        weights.iter().copied().filter(|file| wanted(file.path.as_str())).collect()
    };
    let shards = named(&|name| name.starts_with("model-") || name.starts_with("model.safetensors-"));
    // Others beside these are adapters, or the same weights in the layout of the model's own code.
    let weights = match () {
        () if has("model.safetensors.index.json") && !shards.is_empty() => shards,
        () if has("model.safetensors") => named(&|name| name == "model.safetensors"),
        () => named(&|name| !name.starts_with("adapter_")),
    };
    let companion = |file: &&&RemoteFile| {
        let name = file.path.as_str();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        COMPANIONS.contains(&extension) || name.starts_with("LICENSE")
    };
    let mut files: Vec<RemoteFile> = top.iter().filter(companion).map(|file| (*file).clone()).collect();
    files.extend(weights.iter().map(|file| (*file).clone()));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let summary = &info.summary;
    let format = if is_mlx(summary) { Format::Mlx } else { Format::Safetensors };
    let main_type =
        || summary.safetensors.iter().max_by_key(|(_, count)| *count).map(|(dtype, _)| dtype.clone());
    Some(Variant {
        id: summary.id.to_string(),
        quantization: names::quantization_label(summary.id.name()).or_else(main_type),
        format,
        weight_bytes: weights.iter().map(|file| file.size).fold(0, u64::saturating_add),
        files,
        stem: None,
    })
}

/// Whether a repository holds weights for MLX.
pub fn is_mlx(summary: &RepoSummary) -> bool {
    summary.has_tag("mlx") || summary.id.author() == "mlx-community"
}

fn total(files: &[RemoteFile]) -> u64 {
    files.iter().map(|file| file.size).fold(0, u64::saturating_add)
}

/// What is taken when nobody says: a repository's checkpoint, or of its GGUF files Q4_K_M, or what comes nearest and fits.
pub fn recommended(variants: &[Variant], preference: Preference) -> Option<&Variant> {
    if let Some(checkpoint) = variants.iter().find(|variant| variant.format != Format::Gguf) {
        return Some(checkpoint);
    }
    let runs = |variant: &&Variant| variant.quantization.as_deref().is_none_or(preference.runs);
    let runnable: Vec<&Variant> = variants.iter().filter(runs).collect();
    let candidates = if runnable.is_empty() { variants.iter().collect() } else { runnable };
    let fits = |variant: &&&Variant| preference.budget.is_none_or(|budget| variant.weight_bytes <= budget);
    let fitting: Vec<&Variant> = candidates.iter().filter(fits).copied().collect();
    let labelled = |label: &str| fitting.iter().find(|v| v.quantization.as_deref() == Some(label)).copied();
    let preferred = PREFERRED.iter().find_map(|label| labelled(label));
    let largest = fitting.iter().max_by_key(|variant| variant.weight_bytes).copied();
    preferred.or(largest).or_else(|| candidates.into_iter().min_by_key(|variant| variant.weight_bytes))
}

/// The variant of a name as a user types it: a label, or the file's own name.
///
/// # Errors
/// When there is none of that name.
pub fn named<'a>(info: &RepoInfo, variants: &'a [Variant], wanted: &str) -> Result<&'a Variant, ChoiceError> {
    let wanted_stem = names::gguf_stem(wanted).unwrap_or(wanted);
    let same = |text: Option<&str>| text.is_some_and(|text| text.eq_ignore_ascii_case(wanted_stem));
    let own_name = |v: &&Variant| same(v.id.split_once(':').map(|(_, name)| name)) || same(v.stem.as_deref());
    let found = variants.iter().find(own_name);
    found.or_else(|| variants.iter().find(|v| same(v.quantization.as_deref()))).ok_or_else(|| {
        let repo = info.summary.id.to_string();
        if variants.is_empty() {
            return ChoiceError::Nothing { repo };
        }
        let name =
            |v: &Variant| v.id.split_once(':').map_or("a checkpoint without variants", |(_, n)| n).to_owned();
        ChoiceError::Unknown {
            repo,
            wanted: wanted.chars().take(80).collect(),
            known: variants.iter().map(name).collect(),
        }
    })
}

/// The files that fit any of these paths or patterns. `*` also stands for `/`, as in Hugging Face's own tools.
///
/// # Errors
/// When a pattern is none, nothing fits, or what fits cannot be stored.
pub fn matching(info: &RepoInfo, patterns: &[String]) -> Result<Vec<RemoteFile>, ChoiceError> {
    let repo = || info.summary.id.to_string();
    let set = compile(patterns)?;
    if let Some(name) = info.unusable.iter().find(|name| set.is_match(name)) {
        return Err(ChoiceError::UnusableName { repo: repo(), name: name.clone() });
    }
    let files: Vec<RemoteFile> =
        info.files.iter().filter(|f| set.is_match(f.path.as_str())).cloned().collect();
    match files.is_empty() {
        true => Err(ChoiceError::NoFile { repo: repo(), patterns: patterns.to_vec() }),
        false => Ok(files),
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, ChoiceError> {
    let bad = |pattern: &str, error: globset::Error| ChoiceError::BadPattern {
        pattern: pattern.chars().take(80).collect(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // A file's exact name may hold brackets.
        let text = if pattern.contains(['*', '?']) { pattern.clone() } else { globset::escape(pattern) };
        set.add(
            GlobBuilder::new(&text).literal_separator(false).build().map_err(|error| bad(pattern, error))?,
        );
    }
    set.build().map_err(|error| bad("", error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::listing::RawModel;
    use super::*;

    const ANY: Preference = Preference { budget: None, runs: |label| !label.starts_with("IQ") };

    fn repo(id: &str, files: &[(&str, u64)]) -> RepoInfo {
        let files: Vec<_> =
            files.iter().map(|(name, size)| json!({"rfilename": name, "size": size})).collect();
        let model = json!({"id": id, "sha": "0".repeat(40), "siblings": files});
        serde_json::from_value::<RawModel>(model).unwrap().info().unwrap()
    }

    #[test]
    fn gguf_files_are_grouped_and_named_as_the_library_names_them() {
        let info = repo(
            "o/m-GGUF",
            &[
                ("README.md", 1),
                ("m-Q4_K_M.gguf", 40),
                ("m-IQ2_XS.gguf", 10),
                ("BF16/m-BF16-00001-of-00002.gguf", 100),
                ("BF16/m-BF16-00002-of-00002.gguf", 100),
                ("broken-Q8_0-00001-of-00002.gguf", 50),
                ("mmproj-m-f16.gguf", 5),
                ("imatrix.gguf", 5),
                ("other-Q4_K_M.gguf", 41),
            ],
        );
        let all = variants(&info);
        let ids: Vec<(&str, u64)> = all.iter().map(|v| (v.id.as_str(), v.weight_bytes)).collect();
        assert_eq!(
            ids,
            [
                ("o/m-GGUF:IQ2_XS", 10),
                ("o/m-GGUF:Q4_K_M", 40),
                ("o/m-GGUF:other-Q4_K_M", 41),
                ("o/m-GGUF:BF16", 200)
            ]
        );
        assert_eq!(named(&info, &all, "q4_k_m").unwrap().weight_bytes, 40);
        assert_eq!(named(&info, &all, "other-Q4_K_M.gguf").unwrap().weight_bytes, 41);
        let error = named(&info, &all, "Q5_K_M").unwrap_err().to_string();
        assert!(error.contains("Q5_K_M") && error.contains("IQ2_XS, Q4_K_M"), "{error}");
    }

    #[test]
    fn without_a_word_q4_k_m_is_taken_or_what_comes_nearest_and_fits() {
        let files = [
            ("m-Q2_K.gguf", 20),
            ("m-IQ3_M.gguf", 30),
            ("m-Q4_K_S.gguf", 38),
            ("m-Q4_K_M.gguf", 40),
            ("m-Q8_0.gguf", 80),
        ];
        let all = variants(&repo("o/m-GGUF", &files));
        let taken = |budget| recommended(&all, Preference { budget, ..ANY }).unwrap().id.clone();
        assert_eq!(taken(None), "o/m-GGUF:Q4_K_M");
        assert_eq!(taken(Some(39)), "o/m-GGUF:Q4_K_S");
        assert_eq!(taken(Some(35)), "o/m-GGUF:Q2_K", "IQ does not run");
        assert_eq!(taken(Some(1)), "o/m-GGUF:Q2_K", "nothing fits: the smallest");
    }

    #[test]
    fn a_checkpoint_is_what_is_needed_to_run_it_and_no_more() {
        let info = repo(
            "o/m",
            &[
                ("config.json", 1),
                ("tokenizer.json", 2),
                ("chat_template.jinja", 1),
                ("LICENSE", 1),
                ("model.safetensors.index.json", 1),
                ("model-00001-of-00002.safetensors", 10),
                ("model-00002-of-00002.safetensors", 10),
                ("consolidated.safetensors", 20),
                ("pytorch_model.bin", 20),
                ("original/params.json", 1),
                ("onnx/model.onnx", 20),
            ],
        );
        let all = variants(&info);
        assert_eq!(all.len(), 1);
        let names: Vec<&str> = all[0].files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(
            names,
            [
                "LICENSE",
                "chat_template.jinja",
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
            ]
        );
        assert_eq!((all[0].id.as_str(), all[0].weight_bytes, all[0].size_bytes()), ("o/m", 20, 26));
    }

    #[test]
    fn patterns_take_what_they_fit_and_refuse_names_that_cannot_be_stored() {
        let info = repo("o/m", &[("a/x[1].bin", 1), ("b.json", 1), ("../evil.json", 1)]);
        let paths = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            matching(&info, &patterns)
                .map(|files| files.iter().map(|f| f.path.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(paths(&["a/x[1].bin"]).unwrap(), ["a/x[1].bin"]);
        assert_eq!(paths(&["*.bin", "b.*"]).unwrap(), ["a/x[1].bin", "b.json"]);
        assert!(matches!(paths(&["*"]), Err(ChoiceError::UnusableName { .. })));
        assert!(matches!(paths(&["nothing*"]), Err(ChoiceError::NoFile { .. })));
    }
}
