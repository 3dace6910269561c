//! Names that come from users and from a server, checked once and safe from then on: `RepoId`, `Revision`, `RepoPath`,
//! `Commit`, `BlobName`.
//!
//! Each becomes a part of a path in the cache or of a URL. Invariant: none of them can lead out of the folder it is joined
//! to, on any system that may mount the cache, and none holds a control character.

use std::fmt;

use crate::names;

/// Longest component of a path, in bytes; the file systems' own limit, less what `.incomplete` and `.lock` add.
const MAX_COMPONENT: usize = 240;
/// Longest path in a repository, in bytes.
const MAX_PATH: usize = 1_024;
/// Longest branch or tag.
const MAX_REVISION: usize = 200;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown:?} cannot be used: {reason}")]
pub struct BadName {
    what: &'static str,
    shown: String,
    reason: &'static str,
}

fn bad(what: &'static str, name: &str, reason: &'static str) -> BadName {
    BadName { what, shown: name.chars().take(120).collect(), reason }
}

/// A model repository: `author/name`, or `name` of the few without an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId(String);

impl RepoId {
    /// Reads `author/name` or `name`.
    ///
    /// # Errors
    /// When the hub allows no such name.
    pub fn new(id: &str) -> Result<Self, BadName> {
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| names::is_repo_part(part)) || id.contains("--") {
            return Err(bad("the repository", id, "write author/name, as on the hub"));
        }
        Ok(Self(id.to_owned()))
    }

    /// `author/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who published it; empty for repositories without an owner.
    pub fn author(&self) -> &str {
        self.0.split_once('/').map_or("", |(author, _)| author)
    }

    /// The name without the author.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Revision {
    /// Reads the name of a branch or tag (`main`, `refs/pr/1`) or a commit.
    ///
    /// # Errors
    /// When it could not be one, or would not be safe as a path below `refs`.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '+');
        if name.len() > MAX_REVISION || !name.chars().all(allowed) {
            return Err(bad("the revision", name, "name a branch, a tag or a commit"));
        }
        check_components("the revision", name)?;
        Ok(Self(name.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a file in a repository, with `/` between folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// Reads a path as a server gives it.
    ///
    /// # Errors
    /// When it is absolute, leads upwards, is too long, or has a component that some system reads as something else.
    pub fn new(path: &str) -> Result<Self, BadName> {
        if path.len() > MAX_PATH {
            return Err(bad("the file name", path, "it is too long"));
        }
        check_components("the file name", path)?;
        Ok(Self(path.to_owned()))
    }

    /// The path with `/` between folders.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file's own name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether it lies in no folder.
    pub fn is_top_level(&self) -> bool {
        !self.0.contains('/')
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_components(what: &'static str, path: &str) -> Result<(), BadName> {
    for part in path.split('/') {
        let reason = match part {
            "" => "it has an empty component",
            "." | ".." => "it leads elsewhere",
            _ if part.len() > MAX_COMPONENT => "it is too long",
            _ if part.ends_with(['.', ' ']) || part.starts_with(' ') => {
                "it begins or ends with a dot or a space"
            }
            _ if part.chars().any(deceives) => "it has characters that are not allowed in file names",
            _ if is_device(part) => "some systems take it for a device",
            _ => continue,
        };
        return Err(bad(what, path, reason));
    }
    Ok(())
}

/// Characters that separate paths somewhere, hide, or turn the direction of writing.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The names that Windows keeps for devices, with any extension.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let numbered = |name: &str| {
        let rest = stem.strip_prefix(name);
        rest.is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    matches!(&*stem, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// A commit: 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit(String);

impl Commit {
    /// Reads a commit.
    ///
    /// # Errors
    /// When it is not 40 hexadecimal digits in small letters.
    pub fn new(hash: &str) -> Result<Self, BadName> {
        match is_hex(hash, 40) {
            true => Ok(Self(hash.to_owned())),
            false => Err(bad("the commit", hash, "a commit is 40 hexadecimal digits")),
        }
    }

    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a file's content is called in the cache: the name says what the content must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlobName {
    /// SHA-256 of the content: files that the hub stores apart.
    Sha256(String),
    /// Git's own name of the content, a SHA-1: small files.
    Git(String),
}

impl BlobName {
    /// Reads an object id or an ETag, quoted or not.
    ///
    /// # Errors
    /// When it is neither a SHA-1 nor a SHA-256 in hexadecimal: content that cannot be checked is not fetched.
    pub fn new(tag: &str) -> Result<Self, BadName> {
        let plain = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_ascii_lowercase();
        match plain.len() {
            64 if is_hex(&plain, 64) => Ok(Self::Sha256(plain)),
            40 if is_hex(&plain, 40) => Ok(Self::Git(plain)),
            _ => Err(bad("the content's name", tag, "it is neither a SHA-256 nor a git object")),
        }
    }

    /// The digits: the file's name among the cache's blobs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_or_deceive_are_refused() {
        let long = "x".repeat(300);
        let deep = "d/".repeat(600) + "x";
        for hostile in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "a/",
            "",
            ".",
            "..",
            "a\0b",
            "a\nb",
            "con",
            "CON.gguf",
            "a/nul",
            "com1.txt",
            "C:\\x",
            "a\\b",
            "x.",
            "x ",
            "fugg\u{202e}txt.exe",
            &long,
            &deep,
        ] {
            assert!(RepoPath::new(hostile).is_err(), "{hostile:?}");
        }
        for good in [
            "config.json",
            ".gitattributes",
            "UD-Q4_K_XL/m-00001-of-00002.gguf",
            "Mein Modell (2).gguf",
            "console",
        ] {
            assert!(RepoPath::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn only_names_that_the_hub_allows_are_repositories() {
        for bad in ["", "a/b/c", "../x", "a/..", "a/b--c", "a b/c", "a/", "/b", "a/b\0", "a/b:Q4", "-a/b"] {
            assert!(RepoId::new(bad).is_err(), "{bad:?}");
        }
        let id = RepoId::new("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!((id.author(), id.name()), ("Qwen", "Qwen3-0.6B"));
        assert_eq!(RepoId::new("gpt2").unwrap().author(), "");
    }

    #[test]
    fn revisions_stay_below_refs() {
        for bad in ["", "../main", "a//b", "/main", "a b", "main\n", "refs/../../x"] {
            assert!(Revision::new(bad).is_err(), "{bad:?}");
        }
        for good in ["main", "refs/pr/1", "v1.0", "0123456789012345678901234567890123456789"] {
            assert!(Revision::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_etag_names_a_blob_only_if_it_is_a_hash() {
        let sha = "A".repeat(64);
        assert_eq!(BlobName::new(&format!("\"{sha}\"")), Ok(BlobName::Sha256("a".repeat(64))));
        assert_eq!(BlobName::new(&format!("W/\"{}\"", "b".repeat(40))), Ok(BlobName::Git("b".repeat(40))));
        for bad in ["", "\"\"", "../x", "abc", "g".repeat(64).as_str(), "a".repeat(41).as_str()] {
            assert!(BlobName::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_stays_inside_the_folder_it_is_joined_to(path in "[a-z./\\\\ :\u{0}-\u{2f}]{0,24}") {
            if let Ok(path) = RepoPath::new(&path) {
                let joined = std::path::Path::new("/cache").join(path.as_str());
                prop_assert!(joined.starts_with("/cache"));
                let normal = joined.components().skip(1).all(|c| matches!(c, std::path::Component::Normal(_)));
                prop_assert!(normal);
            }
        }
    }
}
