//! `HubSettings`: where the hub is, who we are to it, and where its files are kept; from the variables of Hugging Face's tools.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::error::HubError;
use crate::config::hf_hub_cache;

/// The hub, unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest silence within an answer, unless `HF_HUB_DOWNLOAD_TIMEOUT` says otherwise.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest token file that is read.
const MAX_TOKEN: u64 = 4_096;

/// A hub token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, if the text is one: printable ASCII without spaces.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// For the `Authorization` header alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where the hub is, who we are to it, and where its files are kept.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: Url,
    /// `HF_TOKEN`, or the token that `hf auth login` has stored.
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: nothing is asked.
    pub offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds: a connection that is silent for so long counts as broken.
    pub silence: Duration,
    /// The cache folder: `models--author--name` lie in it.
    pub cache: PathBuf,
}

impl HubSettings {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// [`HubError::Settings`] when `HF_ENDPOINT` is no URL, or nothing says where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Reads variables: `HF_ENDPOINT`, `HF_TOKEN` (or the older `HUGGING_FACE_HUB_TOKEN`), `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`, and those that say where the cache is. Empty ones count as unset.
    ///
    /// # Errors
    /// As [`HubSettings::from_env`].
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let text = |name: &str| var(name).filter(|v| !v.is_empty()).and_then(|v| v.into_string().ok());
        let written = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(written.trim_end_matches('/')).ok().filter(is_usable).ok_or_else(|| {
            HubError::Settings(format!("HF_ENDPOINT is `{written}`; write an http:// or https:// address"))
        })?;
        let cache = hf_hub_cache(&var).ok_or_else(|| {
            HubError::Settings("nothing says where the Hugging Face cache is; set HF_HOME".to_owned())
        })?;
        let switched_on = |name: &str| {
            text(name).is_some_and(|v| matches!(&*v.to_ascii_uppercase(), "1" | "ON" | "YES" | "TRUE"))
        };
        let home = text("HF_HOME").map(PathBuf::from).or_else(|| {
            let base = text("XDG_CACHE_HOME").map(PathBuf::from);
            let base = base.or_else(|| Some(PathBuf::from(text("HOME")?).join(".cache")))?;
            Some(base.join("huggingface"))
        });
        let file = text("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let said = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = said.as_deref().and_then(Token::new).or_else(|| file.and_then(stored_token));
        Ok(Self {
            endpoint,
            token,
            offline: switched_on("HF_HUB_OFFLINE") || switched_on("TRANSFORMERS_OFFLINE"),
            silence: text("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|seconds| seconds.trim().parse().ok())
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .filter(|silence| !silence.is_zero())
                .unwrap_or(SILENCE),
            cache,
        })
    }
}

fn is_usable(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
}

fn stored_token(path: PathBuf) -> Option<Token> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_TOKEN).read_to_string(&mut text).ok()?;
    Token::new(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_vars(|name| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_variables_of_hugging_faces_tools_are_honoured() {
        let home = tempfile::tempdir().unwrap();
        let hf_home = home.path().to_str().unwrap();
        let settings = with(&[("HOME", "/home/u")]).unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://huggingface.co/");
        assert!(!settings.offline && settings.token.is_none());
        assert_eq!(settings.silence, SILENCE);
        for (said, silence) in [("5", 5.0), ("0.5", 0.5), ("soon", 30.0), ("-1", 30.0), ("0", 30.0)] {
            let settings = with(&[("HOME", "/home/u"), ("HF_HUB_DOWNLOAD_TIMEOUT", said)]).unwrap();
            assert_eq!(settings.silence, Duration::from_secs_f64(silence), "{said}");
        }

        std::fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        let settings =
            with(&[("HF_HOME", hf_home), ("HF_ENDPOINT", "http://mirror:1/"), ("HF_HUB_OFFLINE", "true")])
                .unwrap();
        assert_eq!(settings.token, Token::new("hf_stored"));
        assert_eq!(settings.endpoint.as_str(), "http://mirror:1/");
        assert!(settings.offline);
        assert_eq!(settings.cache, home.path().join("hub"));
        let settings = with(&[("HF_HOME", hf_home), ("HF_TOKEN", "hf_said")]).unwrap();
        assert_eq!(settings.token, Token::new("hf_said"));
    }

    #[test]
    fn an_endpoint_that_is_none_is_an_error_and_a_token_is_never_printed() {
        for bad in ["huggingface.co", "ftp://x", "http://", "https://x/?a=b"] {
            assert!(
                matches!(with(&[("HOME", "/h"), ("HF_ENDPOINT", bad)]), Err(HubError::Settings(_))),
                "{bad}"
            );
        }
        let settings = with(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(Token::new("a b"), None);
        assert_eq!(Token::new("a\r\nX-Evil: 1"), None);
    }
}
