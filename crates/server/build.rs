//! Puts the built dashboard (`ui/dist`) into the program; without one, writes down that there is none.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::{env, fs};

fn main() {
    let ui = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../ui");
    let dist = ui.join("dist");
    println!("cargo::rerun-if-changed=build.rs");
    // The folder is always there in a checkout; a file that is not there would make every build run this again.
    println!("cargo::rerun-if-changed={}", if dist.exists() { dist.display() } else { ui.display() });
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let source = table(&dist, Path::new(&out));
    fs::write(Path::new(&out).join("dashboard.rs"), source).expect("the output folder can be written to");
}

/// The source of `PAGE` and `ASSETS`. The files are copied, so that building the dashboard anew meanwhile does no harm.
fn table(dist: &Path, out: &Path) -> String {
    let Ok(html) = fs::read(dist.join("index.html")) else {
        return "const PAGE: Option<Page> = None;\nconst ASSETS: &[Asset] = &[];\n".to_owned();
    };
    let mut hasher = DefaultHasher::new();
    html.hash(&mut hasher);
    let page = out.join("index.html");
    fs::write(&page, &html).expect("the output folder can be written to");
    let mut source = format!(
        "const PAGE: Option<Page> = Some(Page {{ html: include_str!({:?}), etag: \"\\\"{:016x}\\\"\" }});\n",
        page.display().to_string(),
        hasher.finish()
    );
    source.push_str("const ASSETS: &[Asset] = &[\n");
    let mut files: Vec<_> = fs::read_dir(dist.join("assets"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let packed = plain != name;
        if !packed && files.contains(&file.with_file_name(format!("{name}.gz"))) {
            continue;
        }
        let copy = out.join(&name);
        if fs::copy(file, &copy).is_err() {
            continue;
        }
        let _ = writeln!(
            source,
            "    Asset {{ name: {plain:?}, kind: {:?}, packed: {packed}, bytes: include_bytes!({:?}) }},",
            kind(plain),
            copy.display().to_string()
        );
    }
    source.push_str("];\n");
    source
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
