//! API keys: how they are configured, kept and compared.
//!
//! Only SHA-256 digests are kept while the server runs. A presented key is compared with every digest in constant time,
//! so neither a near miss nor the position of a match can be timed. Keys are long random strings, not passwords, so a
//! fast hash is enough.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::ConfigError;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// Listing models and asking them.
    Inference,
    /// Seeing and changing what the server does.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inference => "inference",
            Self::Admin => "admin",
        })
    }
}

/// One `[[keys]]` table: `key`, or `sha256`, the key's digest in hexadecimal.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Whose it is; for logs.
    #[serde(default)]
    pub name: String,
    /// The key itself.
    pub key: Option<String>,
    /// Or its SHA-256 in hexadecimal.
    pub sha256: Option<String>,
    /// What it is good for.
    #[serde(default = "inference")]
    pub scopes: Vec<Scope>,
}

fn inference() -> Vec<Scope> {
    vec![Scope::Inference]
}

impl KeyConfig {
    /// A key that is good for everything.
    pub fn all_scopes(name: impl Into<String>, key: impl Into<String>) -> Self {
        let scopes = vec![Scope::Inference, Scope::Admin];
        Self { name: name.into(), key: Some(key.into()), sha256: None, scopes }
    }

    /// Names it without giving it away: the beginning of its digest. `None` for a key that cannot be used.
    pub(crate) fn id(&self) -> Option<String> {
        let digest = self.digest().ok()?;
        Some(digest[..4].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn digest(&self) -> Result<[u8; 32], &'static str> {
        match (&self.key, &self.sha256) {
            (Some(key), None) if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) => {
                Err("`key` must be visible ASCII characters without spaces")
            }
            (Some(key), None) => Ok(Sha256::digest(key.as_bytes()).into()),
            (None, Some(hex)) => unhex(hex).ok_or("`sha256` must be 64 hexadecimal digits"),
            _ => Err("give either `key` or `sha256`"),
        }
    }
}

/// Says everything but the secret.
impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Checks that every key can be used.
pub(crate) fn check_keys(keys: &[KeyConfig]) -> Result<(), ConfigError> {
    for key in keys {
        key.digest().map_err(|reason| ConfigError::invalid(format!("keys (`{}`)", key.name), reason))?;
    }
    Ok(())
}

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Unknown,
    Scope,
}

/// The keys of a running server.
pub(crate) struct KeyRing {
    keys: Vec<([u8; 32], Vec<Scope>)>,
    /// No key was configured: none is needed.
    open: bool,
}

impl KeyRing {
    /// A ring of `keys`; those that [`check_keys`] would refuse are left out, and open nothing.
    pub(crate) fn new(keys: &[KeyConfig]) -> Self {
        let usable = keys.iter().filter_map(|key| Some((key.digest().ok()?, key.scopes.clone())));
        Self { keys: usable.collect(), open: keys.is_empty() }
    }

    /// Whether whoever presents `key` may do `scope`. Without any keys, everyone may.
    pub(crate) fn admit(&self, key: Option<&[u8]>, scope: Scope) -> Result<(), Refusal> {
        if self.open {
            return Ok(());
        }
        let presented: [u8; 32] = Sha256::digest(key.ok_or(Refusal::Missing)?).into();
        let (mut known, mut allowed) = (Choice::from(0), Choice::from(0));
        for (digest, scopes) in &self.keys {
            let same = digest.ct_eq(&presented);
            known |= same;
            allowed |= same & Choice::from(u8::from(scopes.contains(&scope)));
        }
        match (bool::from(known), bool::from(allowed)) {
            (_, true) => Ok(()),
            (true, false) => Err(Refusal::Scope),
            (false, false) => Err(Refusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf secret | sha256sum`
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_key_is_known_by_itself_or_by_its_digest() {
        let hashed = KeyConfig { key: None, sha256: Some(SECRET.into()), ..KeyConfig::all_scopes("a", "") };
        for config in [KeyConfig::all_scopes("a", "secret"), hashed] {
            let ring = KeyRing::new(&[config]);
            assert_eq!(ring.admit(Some(b"secret"), Scope::Admin), Ok(()));
            assert_eq!(ring.admit(Some(b"secres"), Scope::Admin), Err(Refusal::Unknown));
            assert_eq!(ring.admit(Some(b""), Scope::Admin), Err(Refusal::Unknown));
            assert_eq!(ring.admit(None, Scope::Admin), Err(Refusal::Missing));
        }
    }

    #[test]
    fn a_key_opens_its_scopes_only() {
        let inference =
            KeyConfig { scopes: vec![Scope::Inference], ..KeyConfig::all_scopes("a", "inference-key") };
        let ring = KeyRing::new(&[inference, KeyConfig::all_scopes("b", "all-key")]);
        assert_eq!(ring.admit(Some(b"inference-key"), Scope::Inference), Ok(()));
        assert_eq!(ring.admit(Some(b"inference-key"), Scope::Admin), Err(Refusal::Scope));
        assert_eq!(ring.admit(Some(b"all-key"), Scope::Admin), Ok(()));
    }

    #[test]
    fn keys_that_cannot_be_used_do_not_open_the_door() {
        let ring =
            KeyRing::new(&[KeyConfig { sha256: Some("abc".into()), ..KeyConfig::all_scopes("a", "k") }]);
        assert_eq!(ring.admit(Some(b"k"), Scope::Inference), Err(Refusal::Unknown));
        assert_eq!(KeyRing::new(&[]).admit(None, Scope::Admin), Ok(()));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert!(!format!("{:?}", KeyConfig::all_scopes("a", "secret")).contains("secret"));
    }

    #[test]
    fn a_key_that_could_not_be_sent_in_a_header_is_refused() {
        for key in ["", "with space", "\u{e9}t\u{e9}", "line\nbreak"] {
            assert!(check_keys(&[KeyConfig::all_scopes("a", key)]).is_err(), "{key:?}");
        }
    }
}
