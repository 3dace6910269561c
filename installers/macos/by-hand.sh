#!/usr/bin/env bash
# What `cargo xtask bundle` does on a Mac, one command after another, for whoever wants to see or to do a step alone.
#
#   installers/macos/by-hand.sh [build|assemble|sign|image|notarise]…      without words: all of them, in this order
#
# APPLE_SIGNING_IDENTITY   the certificate, such as "Developer ID Application: NAME (TEAM)"; without it: ad hoc, this Mac only
# APPLE_ID, APPLE_PASSWORD (an app-specific one), APPLE_TEAM_ID     the account for the notary; without it: not notarised
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target="${CARGO_TARGET_DIR:-target}"
out="$target/bundle"
app="$out/Perch.app"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)"
image="$out/Perch-$version.dmg"
identity="${APPLE_SIGNING_IDENTITY:--}"

build() {
  (cd ui && npm ci && npm run build)
  # MLX takes Xcode, for its Metal compiler, and cmake.
  cargo build --release --locked --package perch --features mlx
  cargo build --release --locked --package perch-app --features mlx
}

assemble() {
  # Info.plist gets the bundle's own keys; MLX's kernels become a resource with links beside the programs.
  binaries="$target/by-hand"
  mkdir -p "$binaries"
  cp "$target/release/perch" "$target/release/perch-app" "$binaries/"
  cp target/mlx-metal/mlx.metallib "$binaries/"
  cargo xtask bundle --app "$binaries"
}

sign() {
  # From the inside out: the app's seal contains the command's signature. The hardened runtime is what the notary asks for.
  words=(--force --options runtime --sign "$identity" --entitlements src-tauri/Entitlements.plist)
  [ "$identity" = - ] || words+=(--timestamp)
  codesign "${words[@]}" "$app/Contents/Helpers/perch"
  codesign "${words[@]}" "$app"
  codesign --verify --strict --deep --verbose=2 "$app"
  python3 xtask/macos/check_app.py --signed --metallib "$app"
}

image() {
  rm -rf "$out/dmg"
  mkdir -p "$out/dmg"
  ditto "$app" "$out/dmg/Perch.app"
  ln -s /Applications "$out/dmg/Applications"
  hdiutil create -volname Perch -ov -format UDZO -srcfolder "$out/dmg" "$image"
}

notarise() {
  if [ -z "${APPLE_ID:-}" ]; then
    echo "No APPLE_ID: not notarised, and other Macs will refuse to open it." >&2
    return
  fi
  # `@env:` keeps the password off the command line.
  xcrun notarytool submit --wait --apple-id "$APPLE_ID" --team-id "$APPLE_TEAM_ID" --password @env:APPLE_PASSWORD "$image"
  xcrun stapler staple "$image"
  xcrun stapler staple "$app"
  spctl --assess --type open --context context:primary-signature --verbose "$image"
}

steps=("$@")
[ "$#" -gt 0 ] || steps=(build assemble sign image notarise)
for step in "${steps[@]}"; do
  case "$step" in
    build | assemble | sign | image | notarise) "$step" ;;
    *)
      echo "there is no step '$step'" >&2
      exit 2
      ;;
  esac
done
