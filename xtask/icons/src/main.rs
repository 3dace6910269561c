//! Draws the app's and the tray's icons from the SVGs in `icons/`, into PNG and ICNS files beside them.
//!
//! The results are committed, so that nothing but this program needs a renderer; a test draws them again and compares.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use icns::{IconFamily, IconType, Image, PixelFormat};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

/// What the tray can show, and its colour where the system does not colour template images itself.
const STATES: [(&str, &str); 5] = [
    ("stopped", "#8b929c"),
    ("starting", "#d9962b"),
    ("idle", "#2a9d8f"),
    ("active", "#3a86ff"),
    ("error", "#e5484d"),
];
/// Pixels of a template image: 18 points at twice the density.
const TEMPLATE: u32 = 36;
/// Pixels of a coloured image, which panels scale down.
const COLOURED: u32 = 64;
/// Pixels of the app's icon as a PNG.
const APP: u32 = 512;

fn main() -> Result<()> {
    let icons = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../icons");
    for (path, bytes) in draw_all(&icons)? {
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(())
}

/// Every file and what belongs into it.
fn draw_all(icons: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let app = icons.join("app.svg");
    let mut files = vec![
        (icons.join("app.png"), draw(&app, APP, None)?.encode_png()?),
        (icons.join("app.icns"), family(&app)?),
    ];
    for (state, colour) in STATES {
        let svg = icons.join("tray").join(state).with_extension("svg");
        let template = draw(&svg, TEMPLATE, Some("#000000"))?.encode_png()?;
        let coloured = draw(&svg, COLOURED, Some(colour))?.encode_png()?;
        files.push((icons.join(format!("tray/{state}-template.png")), template));
        files.push((icons.join(format!("tray/{state}.png")), coloured));
    }
    Ok(files)
}

/// An SVG as a square of `size` pixels, its `currentColor` being `colour`.
fn draw(svg: &Path, size: u32, colour: Option<&str>) -> Result<Pixmap> {
    let text = std::fs::read_to_string(svg).with_context(|| format!("cannot read {}", svg.display()))?;
    let style_sheet = colour.map(|colour| format!("svg {{ color: {colour} }}"));
    let tree = Tree::from_str(&text, &Options { style_sheet, ..Options::default() })
        .with_context(|| format!("{} cannot be drawn", svg.display()))?;
    let mut pixels = Pixmap::new(size, size).context("an icon has no size")?;
    let scale = size as f32 / tree.size().width();
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    Ok(pixels)
}

/// The sizes that macOS asks for, in one file.
fn family(svg: &Path) -> Result<Vec<u8>> {
    let sizes = [
        (16, IconType::RGBA32_16x16),
        (32, IconType::RGBA32_16x16_2x),
        (32, IconType::RGBA32_32x32),
        (64, IconType::RGBA32_32x32_2x),
        (128, IconType::RGBA32_128x128),
        (256, IconType::RGBA32_128x128_2x),
        (256, IconType::RGBA32_256x256),
        (512, IconType::RGBA32_256x256_2x),
        (512, IconType::RGBA32_512x512),
        (1024, IconType::RGBA32_512x512_2x),
    ];
    let mut family = IconFamily::new();
    for (size, kind) in sizes {
        let data = draw(svg, size, None)?.take_demultiplied();
        family.add_icon_with_type(&Image::from_data(PixelFormat::RGBA, size, size, data)?, kind)?;
    }
    let mut bytes = Vec::new();
    family.write(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_what_the_drawings_give() {
        let icons = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../icons");
        for (path, bytes) in draw_all(&icons).unwrap() {
            let committed = std::fs::read(&path).unwrap_or_default();
            assert!(committed == bytes, "{} is old; run `cargo xtask icons`", path.display());
        }
    }
}
