//! `Perch.app`: assembled, signed, put into a disk image, notarised.
//!
//! Sources: Apple's "Bundle Programming Guide" (structure), "Information Property List" (keys), codesign(1), hdiutil(1),
//! notarytool(1).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::{VERSION, fresh, put, write};
use crate::{cache, desktop, shell};

/// MLX's compiled kernels, by the name under which MLX looks for them.
const METALLIB: &str = "mlx.metallib";

/// The oldest macOS that Perch runs on.
pub(crate) const MINIMUM: &str = "14.0";

/// Builds the folder `Perch.app` from the binaries in `binaries`, and from `mlx.metallib` if it is given.
pub(crate) fn assemble(folder: &Path, binaries: &Path, metallib: Option<&Path>) -> Result<PathBuf> {
    let app = fresh(folder.join("Perch.app"))?;
    let (root, contents) = (cache::root(), app.join("Contents"));
    put(&binaries.join(desktop::APP), &contents.join("MacOS").join(desktop::APP))?;
    // Not beside the app: on a file system that does not know capitals, `Perch` and `perch` are one file.
    put(&binaries.join(cache::PERCH), &contents.join("Helpers").join(cache::PERCH))?;
    put(&root.join("icons/app.icns"), &contents.join("Resources/app.icns"))?;
    put(&root.join("LICENSE"), &contents.join("Resources/LICENSE"))?;
    if let Some(metallib) = metallib {
        put(metallib, &contents.join("Resources").join(METALLIB))?;
        // MLX looks beside the program, where codesign takes nothing but code, and links.
        for folder in ["MacOS", "Helpers"] {
            link(&Path::new("../Resources").join(METALLIB), &contents.join(folder).join(METALLIB))?;
        }
    }
    let own = fs::read_to_string(root.join("Info.plist")).context("cannot read Info.plist")?;
    write(&contents.join("Info.plist"), &property_list(&own)?)?;
    write(&contents.join("PkgInfo"), "APPL????")?;
    Ok(app)
}

/// MLX's kernels, which its build leaves where `.cargo/config.toml` says.
///
/// # Errors
/// When they are not there: an app without them could not run a model on MLX.
pub(super) fn metallib() -> Result<PathBuf> {
    let path = cache::root().join("target/mlx-metal").join(METALLIB);
    if !path.is_file() {
        bail!("MLX's build left no {}", path.display());
    }
    Ok(path)
}

/// Checks an app with Python's eyes; see the script's head.
pub(crate) fn check(app: &Path, flags: &[&str]) -> Result<()> {
    let script = cache::root().join("xtask/macos/check_app.py");
    let output = Command::new("python3").arg(script).args(flags).arg(app).output();
    let output = output.context("cannot run python3")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The repository's `Info.plist` with the keys that every bundle has.
fn property_list(own: &str) -> Result<String> {
    let end = own.rfind("</dict>").context("Info.plist has no dictionary")?;
    let keys = [
        ("CFBundleDevelopmentRegion", "en"),
        ("CFBundleDisplayName", "Perch"),
        ("CFBundleExecutable", desktop::APP),
        ("CFBundleIconFile", "app.icns"),
        ("CFBundleIdentifier", "app.perch.Perch"),
        ("CFBundleInfoDictionaryVersion", "6.0"),
        ("CFBundleName", "Perch"),
        ("CFBundlePackageType", "APPL"),
        ("CFBundleShortVersionString", VERSION),
        ("CFBundleVersion", VERSION),
        ("LSApplicationCategoryType", "public.app-category.developer-tools"),
        ("LSMinimumSystemVersion", MINIMUM),
        ("NSHumanReadableCopyright", "Apache-2.0"),
    ];
    let rows: String =
        keys.iter().map(|(key, value)| format!("\t<key>{key}</key>\n\t<string>{value}</string>\n")).collect();
    let high_resolution = "\t<key>NSHighResolutionCapable</key>\n\t<true/>\n";
    Ok(format!("{}{rows}{high_resolution}{}", &own[..end], &own[end..]))
}

/// Signs from the inside out. Without `APPLE_SIGNING_IDENTITY` the signature is ad hoc.
pub(super) fn sign(app: &Path) -> Result<()> {
    let identity = setting("APPLE_SIGNING_IDENTITY").unwrap_or_else(|| "-".to_string());
    let entitlements = entitlements();
    for path in [app.join("Contents/Helpers").join(cache::PERCH), app.to_path_buf()] {
        let mut codesign = Command::new("codesign");
        codesign.args(["--force", "--options", "runtime", "--sign", &identity]);
        if identity != "-" {
            codesign.arg("--timestamp");
        }
        shell::run(codesign.arg("--entitlements").arg(&entitlements).arg(path))?;
    }
    shell::run(Command::new("codesign").args(["--verify", "--strict", "--deep"]).arg(app))
}

/// What the programs may do.
pub(crate) fn entitlements() -> PathBuf {
    cache::root().join("src-tauri/Entitlements.plist")
}

/// A variable; an empty one, as CI makes of a secret that is not set, is none.
pub(super) fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot make {}", at.display()))
}

#[cfg(not(unix))]
fn link(_: &Path, at: &Path) -> Result<()> {
    bail!("{} has to be a link, which this system does not make", at.display())
}

/// The disk image with the app and a link to the folder where it belongs.
pub(super) fn disk_image(app: &Path) -> Result<()> {
    let folder = app.parent().context("an app lies in a folder")?;
    let staging = fresh(folder.join("dmg"))?;
    shell::run(Command::new("ditto").arg(app).arg(staging.join("Perch.app")))?;
    shell::run(Command::new("ln").args(["-s", "/Applications"]).arg(staging.join("Applications")))?;
    let image = folder.join(format!("Perch-{VERSION}.dmg"));
    let create = ["create", "-volname", "Perch", "-ov", "-format", "UDZO", "-srcfolder"];
    shell::run(Command::new("hdiutil").args(create).arg(&staging).arg(&image))?;
    if notarise(&image)? {
        // The image's ticket names the app in it too; stapled, the app opens without asking Apple.
        for stapled in [&image, app] {
            shell::run(Command::new("xcrun").args(["stapler", "staple"]).arg(stapled))?;
        }
    }
    println!("{}", image.display());
    Ok(())
}

/// Sends the image to Apple if there is an account to do so; whether it did.
fn notarise(image: &Path) -> Result<bool> {
    let account = ["APPLE_ID", "APPLE_PASSWORD", "APPLE_TEAM_ID"].map(setting);
    let [Some(id), Some(password), Some(team)] = account else {
        if account.iter().any(Option::is_some) {
            bail!("notarising needs APPLE_ID, APPLE_PASSWORD and APPLE_TEAM_ID, all three");
        }
        eprintln!("Not notarised: no APPLE_ID. Other Macs will refuse to open it.");
        return Ok(false);
    };
    let mut submit = Command::new("xcrun");
    submit.args(["notarytool", "submit", "--wait", "--apple-id", &id, "--team-id", &team]);
    // Not on the command line, where every user of the machine could read it.
    submit.args(["--password", "@env:PERCH_NOTARY_PASSWORD"]).env("PERCH_NOTARY_PASSWORD", password);
    shell::run(submit.arg(image))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_assembled_with_each_key_once() {
        let folder = env::temp_dir().join(format!("perch-bundle-{}", std::process::id()));
        let binaries = fresh(folder.join("binaries")).unwrap();
        for name in [desktop::APP, cache::PERCH, METALLIB] {
            fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
        }
        let app = assemble(&folder, &binaries, Some(&binaries.join(METALLIB))).unwrap();
        let list = fs::read_to_string(app.join("Contents/Info.plist")).unwrap();
        assert!(list.contains("<key>LSUIElement</key>\n\t<true/>"), "the app's own keys are kept");
        assert_eq!(list.matches("<key>CFBundleExecutable</key>\n\t<string>perch-app</string>").count(), 1);
        // Python's parser is the judge of the syntax, and of keys that would be there twice.
        let script = "import plistlib, sys; d = plistlib.load(open(sys.argv[1], 'rb')); \
                      print(d['CFBundleIdentifier'], d['LSUIElement'], len(d))";
        let path = app.join("Contents/Info.plist");
        if let Some(said) = shell::output("python3", &["-c", script, &path.to_string_lossy()]) {
            let keys = list.matches("\n\t<key>").count();
            assert_eq!(said, format!("app.perch.Perch True {keys}"));
        }
        for file in ["MacOS/perch-app", "Helpers/perch", "MacOS/mlx.metallib", "Helpers/mlx.metallib"] {
            assert!(app.join("Contents").join(file).is_file(), "{file}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
