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

/// Builds the folder `Perch.app` from the binaries in `binaries`.
pub(super) fn assemble(folder: &Path, binaries: &Path) -> Result<PathBuf> {
    let app = fresh(folder.join("Perch.app"))?;
    let (root, contents) = (cache::root(), app.join("Contents"));
    put(&binaries.join(desktop::APP), &contents.join("MacOS").join(desktop::APP))?;
    // Not beside the app: on a file system that does not know capitals, `Perch` and `perch` are one file.
    put(&binaries.join(cache::PERCH), &contents.join("Helpers").join(cache::PERCH))?;
    put(&root.join("icons/app.icns"), &contents.join("Resources/app.icns"))?;
    put(&root.join("LICENSE"), &contents.join("Resources/LICENSE"))?;
    let own = fs::read_to_string(root.join("Info.plist")).context("cannot read Info.plist")?;
    write(&contents.join("Info.plist"), &property_list(&own)?)?;
    write(&contents.join("PkgInfo"), "APPL????")?;
    Ok(app)
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
        ("LSMinimumSystemVersion", "14.0"),
        ("NSHumanReadableCopyright", "Apache-2.0"),
    ];
    let rows: String =
        keys.iter().map(|(key, value)| format!("\t<key>{key}</key>\n\t<string>{value}</string>\n")).collect();
    let high_resolution = "\t<key>NSHighResolutionCapable</key>\n\t<true/>\n";
    Ok(format!("{}{rows}{high_resolution}{}", &own[..end], &own[end..]))
}

/// Signs from the inside out. Without `APPLE_SIGNING_IDENTITY` the signature is ad hoc.
pub(super) fn sign(app: &Path) -> Result<()> {
    let identity = env::var("APPLE_SIGNING_IDENTITY").unwrap_or_else(|_| "-".to_string());
    let entitlements = cache::root().join("src-tauri/Entitlements.plist");
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

/// The disk image with the app and a link to the folder where it belongs.
pub(super) fn disk_image(app: &Path) -> Result<()> {
    let folder = app.parent().context("an app lies in a folder")?;
    let staging = fresh(folder.join("dmg"))?;
    shell::run(Command::new("ditto").arg(app).arg(staging.join("Perch.app")))?;
    shell::run(Command::new("ln").args(["-s", "/Applications"]).arg(staging.join("Applications")))?;
    let image = folder.join(format!("Perch-{VERSION}.dmg"));
    let create = ["create", "-volname", "Perch", "-ov", "-format", "UDZO", "-srcfolder"];
    shell::run(Command::new("hdiutil").args(create).arg(&staging).arg(&image))?;
    notarise(&image)?;
    println!("{}", image.display());
    Ok(())
}

/// Sends the image to Apple if there is an account to do so.
fn notarise(image: &Path) -> Result<()> {
    let account = ["APPLE_ID", "APPLE_PASSWORD", "APPLE_TEAM_ID"].map(|name| env::var(name).ok());
    let [Some(id), Some(password), Some(team)] = account else {
        if account.iter().any(Option::is_some) {
            bail!("notarising needs APPLE_ID, APPLE_PASSWORD and APPLE_TEAM_ID, all three");
        }
        eprintln!("Not notarised: no APPLE_ID. Other Macs will refuse to open it.");
        return Ok(());
    };
    let mut submit = Command::new("xcrun");
    submit.args(["notarytool", "submit", "--wait", "--apple-id", &id, "--team-id", &team]);
    // Not on the command line, where every user of the machine could read it.
    submit.args(["--password", "@env:PERCH_NOTARY_PASSWORD"]).env("PERCH_NOTARY_PASSWORD", password);
    shell::run(submit.arg(image))?;
    shell::run(Command::new("xcrun").args(["stapler", "staple"]).arg(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_assembled_as_macos_wants_it() {
        let folder = env::temp_dir().join(format!("perch-bundle-{}", std::process::id()));
        let binaries = fresh(folder.join("binaries")).unwrap();
        for name in [desktop::APP, cache::PERCH] {
            fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
        }
        let app = assemble(&folder, &binaries).unwrap();
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
        for file in ["MacOS/perch-app", "Helpers/perch", "Resources/app.icns", "PkgInfo"] {
            assert!(app.join("Contents").join(file).is_file(), "{file}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
