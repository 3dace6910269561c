//! Well-known models that this version runs, small to large: something to begin with, online or not.

use futures_util::future::join_all;
use perch_hub::remote::{HubError, RepoId};
use perch_protocol::{PopularList, PopularModel};

use super::Advisor;
use super::machine;

/// A model of the list. Sizes are those of the file, to two digits.
struct Known {
    id: &'static str,
    title: &'static str,
    summary: &'static str,
    parameters: u64,
    size_bytes: u64,
}

const fn known(id: &'static str, title: &'static str, summary: &'static str, megas: [u64; 2]) -> Known {
    Known { id, title, summary, parameters: megas[0] * 1_000_000, size_bytes: megas[1] * 1_000_000 }
}

/// Small to large, in millions of weights and of bytes.
static MODELS: [Known; 12] = [
    known(
        "unsloth/Qwen3-0.6B-GGUF:Q4_K_M",
        "Qwen3 0.6B",
        "quick answers on any machine; thinks if asked to",
        [596, 400],
    ),
    known("unsloth/gemma-3-1b-it-GGUF:Q4_K_M", "Gemma 3 1B", "short texts in many languages", [1_000, 810]),
    known(
        "unsloth/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
        "Llama 3.2 1B",
        "summaries and rewriting",
        [1_236, 810],
    ),
    known("unsloth/Qwen3-1.7B-GGUF:Q4_K_M", "Qwen3 1.7B", "small, with tools and thinking", [1_720, 1_100]),
    known("unsloth/SmolLM3-3B-GGUF:Q4_K_M", "SmolLM3 3B", "fully open, long context", [3_075, 1_900]),
    known(
        "unsloth/Qwen3-4B-Instruct-2507-GGUF:Q4_K_M",
        "Qwen3 4B Instruct",
        "a good everyday model for 8 GB",
        [4_022, 2_500],
    ),
    known("unsloth/gemma-3-4b-it-GGUF:Q4_K_M", "Gemma 3 4B", "writing and translation", [3_880, 2_500]),
    known("unsloth/Qwen3-8B-GGUF:Q4_K_M", "Qwen3 8B", "reasoning and tools for 16 GB", [8_191, 5_000]),
    known(
        "unsloth/gpt-oss-20b-GGUF:Q4_K_M",
        "gpt-oss 20B",
        "reasoning with experts, quick for its size",
        [20_915, 11_600],
    ),
    known("unsloth/Qwen3-14B-GGUF:Q4_K_M", "Qwen3 14B", "stronger reasoning for 24 GB", [14_768, 9_000]),
    known(
        "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:Q4_K_M",
        "Qwen3 30B A3B",
        "a large model at a small one's speed, for 32 GB",
        [30_532, 18_600],
    ),
    known(
        "unsloth/Qwen3-32B-GGUF:Q4_K_M",
        "Qwen3 32B",
        "the strongest dense Qwen3, for 32 GB and more",
        [32_762, 19_800],
    ),
];

impl Advisor {
    /// Well-known models that this version runs, with the hub's counts where it can be asked.
    pub async fn popular(&self) -> PopularList {
        let repo = |known: &Known| RepoId::new(known.id.split(':').next().unwrap_or(known.id));
        let counts = async {
            if self.hub.settings().offline {
                return Vec::new();
            }
            let one = async |known: &'static Known| match repo(known) {
                Ok(repo) => self.hub.summary(&repo).await,
                Err(error) => Err(HubError::BadName(error)),
            };
            join_all(MODELS.iter().map(one)).await
        };
        let (counts, (here, machine)) = tokio::join!(counts, self.around());
        let mut models: Vec<PopularModel> = Vec::with_capacity(MODELS.len());
        for (index, known) in MODELS.iter().enumerate() {
            let live = counts.get(index).and_then(|answer| answer.as_ref().ok());
            models.push(PopularModel {
                id: known.id.to_owned(),
                title: known.title.to_owned(),
                summary: known.summary.to_owned(),
                parameters: known.parameters,
                size_bytes: known.size_bytes,
                fit: machine::need(known.size_bytes, None, machine).fit,
                downloaded: here.has(known.id),
                downloads: live.map(|summary| summary.downloads),
                likes: live.map(|summary| summary.likes),
            });
        }
        models.sort_by_key(|model| model.size_bytes);
        PopularList { models, online: counts.iter().any(Result::is_ok) }
    }
}

#[cfg(test)]
mod tests {
    use perch_hub::download::Wanted;

    use super::*;

    #[test]
    fn every_model_of_the_list_can_be_asked_for_as_it_is_written() {
        for known in &MODELS {
            let wanted = Wanted::parse(known.id).unwrap();
            assert_eq!(format!("{}:Q4_K_M", wanted.repo), known.id);
        }
    }
}
