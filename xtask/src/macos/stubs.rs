//! `Stubs`: text files (.tbd) that stand for a Mac's libraries when a program is linked. No SDK of Apple's is needed: a
//! framework exports here what the bindings that a program uses declare of it, `libSystem` what zig's list of it says.
//!
//! Source: LLVM's "TextAPI" (tbd-version 4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::declarations::{Block, Library, blocks};
use crate::packages::Package;

/// Libraries that are no framework and no part of `libSystem`: by the linker's name, and by dyld's.
const LIBRARIES: &[(&str, &str)] =
    &[("iconv", "/usr/lib/libiconv.2.dylib"), ("objc", "/usr/lib/libobjc.A.dylib")];
/// Frameworks whose version is not `A`.
const VERSION_C: &[&str] = &["AppKit", "Foundation"];
/// The library that has the C library in it: dyld's name, and those by which it is linked.
const SYSTEM: (&str, &[&str]) = ("/usr/lib/libSystem.B.dylib", &["System", "c", "m"]);

/// What every library exports.
#[derive(Debug)]
pub(super) struct Stubs {
    list: String,
    system: BTreeSet<String>,
    declared: BTreeMap<Library, BTreeSet<String>>,
}

impl Stubs {
    /// Knows `libSystem` by zig's list of it, and nothing else yet.
    pub(super) fn new(list: &str) -> Self {
        let words = list.split(|c: char| c.is_whitespace() || "[],'\"".contains(c));
        // Keys end with a colon. One symbol that matters, `dyld_stub_binder`, begins with no underscore.
        let symbols = words.filter(|word| !word.is_empty() && !word.ends_with(':'));
        let system = symbols.map(str::to_string).collect();
        // LLVM does not know this processor of Apple's, and gives up the file.
        Self { list: list.replace("arm64e.x1", "arm64e"), system, declared: BTreeMap::new() }
    }

    /// Reads a package's declarations. What it declares without a `#[link]` belongs to the library that it links as a
    /// whole: by an empty block, or in its build script.
    pub(super) fn read(&mut self, package: &Package) -> Result<()> {
        let mut declared = Vec::new();
        for path in sources(&package.folder.join("src"))? {
            declared.extend(blocks(&String::from_utf8_lossy(&fs::read(path)?)));
        }
        let script = fs::read_to_string(package.folder.join("build.rs")).unwrap_or_default();
        self.add(&declared, &script);
        Ok(())
    }

    fn add(&mut self, declared: &[Block], script: &str) {
        let empty = declared.iter().filter(|block| block.symbols.is_empty());
        let mut whole: Vec<Library> = empty.flat_map(|block| block.libraries.iter()).cloned().collect();
        whole.extend(script.split("rustc-link-lib=framework=").skip(1).map(|after| {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            Library::framework(&after[..end])
        }));
        whole.retain(|library| install_name(library).is_some());
        // Of several the first is the package's own: objc2 names libobjc before Foundation.
        let first = &whole[..whole.len().min(1)];
        for library in &whole {
            self.declared.entry(library.clone()).or_default();
        }
        for block in declared {
            let libraries = if block.libraries.is_empty() { first } else { &block.libraries };
            for library in libraries.iter().filter(|library| install_name(library).is_some()) {
                let names = block.symbols.iter().map(|name| format!("_{name}"));
                // Bindings declare functions of the C library too, `free` for one.
                let own = names.filter(|name| !self.system.contains(name));
                self.declared.entry(library.clone()).or_default().extend(own);
            }
        }
    }

    /// Writes them below `root` as they would lie below a Mac's.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let lib = root.join("usr/lib");
        fs::create_dir_all(&lib)?;
        for name in SYSTEM.1 {
            fs::write(lib.join(format!("lib{name}.tbd")), &self.list)?;
        }
        for (library, symbols) in &self.declared {
            let Some(install_name) = install_name(library) else { continue };
            let name = &library.name;
            let file = match library.framework {
                true => root.join(format!("System/Library/Frameworks/{name}.framework/{name}.tbd")),
                false => lib.join(format!("lib{name}.tbd")),
            };
            fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
            fs::write(file, text(&install_name, symbols))?;
        }
        Ok(())
    }

    /// The libraries, by dyld's names.
    pub(super) fn libraries(&self) -> impl Iterator<Item = (String, &BTreeSet<String>)> {
        let named = |(library, symbols)| Some((install_name(library)?, symbols));
        self.declared.iter().filter_map(named).chain([(SYSTEM.0.to_string(), &self.system)])
    }
}

/// dyld's name of a library, where it is one of a Mac's that needs a stub of its own.
fn install_name(library: &Library) -> Option<String> {
    let name = library.name.as_str();
    if library.framework {
        let version = if VERSION_C.contains(&name) { "C" } else { "A" };
        return Some(format!("/System/Library/Frameworks/{name}.framework/Versions/{version}/{name}"));
    }
    LIBRARIES.iter().find(|(known, _)| *known == name).map(|(_, place)| place.to_string())
}

fn text(install_name: &str, symbols: &BTreeSet<String>) -> String {
    let mut text =
        format!("--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{install_name}'\n");
    if !symbols.is_empty() {
        let quoted: Vec<String> = symbols.iter().map(|symbol| format!("'{symbol}'")).collect();
        let list = quoted.join(", ");
        text += &format!("exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {list} ]\n");
    }
    text + "...\n"
}

/// Every Rust file below `folder`, in an order that stays.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        // Some packages have their sources elsewhere; none of the bindings.
        Err(_) => Vec::new(),
    };
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_without_a_library_belongs_to_the_first_that_the_package_links() {
        let source = r#"
            #[link(name = "objc", kind = "dylib")] extern "C" {}
            #[link(name = "Foundation", kind = "framework")] extern "C" {}
            #[link(name = "gnustep-base", kind = "dylib")] extern "C" {}
            #[link(name = "IOKit", kind = "framework")] extern "C" { fn near(); }
            extern "C" { fn far(); fn free(); }
        "#;
        let mut stubs = Stubs::new("exports:\n  symbols: [ _exit, '_free', dyld_stub_binder ]");
        stubs.add(&blocks(source), "println!(\"cargo:rustc-link-lib=framework=Metal\");");
        stubs.add(&blocks("extern \"C\" { fn getpid(); }"), "");
        let found: BTreeMap<String, Vec<&str>> = stubs
            .libraries()
            .map(|(name, symbols)| (name, symbols.iter().map(String::as_str).collect()))
            .collect();
        let framework =
            |name, version| format!("/System/Library/Frameworks/{name}.framework/Versions/{version}/{name}");
        let wanted = BTreeMap::from([
            ("/usr/lib/libSystem.B.dylib".to_string(), vec!["_exit", "_free", "dyld_stub_binder"]),
            ("/usr/lib/libobjc.A.dylib".to_string(), vec!["_far"]),
            (framework("Foundation", "C"), vec![]),
            (framework("IOKit", "A"), vec!["_near"]),
            (framework("Metal", "A"), vec![]),
        ]);
        assert_eq!(found, wanted);
    }
}
