"""Checks Perch.app as macOS would: where everything lies, what Info.plist says and, with --signed, the signature.

    python3 check_app.py [--signed] [--metallib] Perch.app

It reads the files itself and trusts no signing tool: every code page, every special slot and every sealed file is hashed
again, and no file may be left out of the seal. What it cannot do is judge a certificate; `codesign` and `spctl` do on a Mac.

Sources: Apple's "Bundle Programming Guide", "Information Property List"; xnu's osfmk/kern/cs_blobs.h; TN2206.
"""

import hashlib
import pathlib
import plistlib
import struct
import sys

MAGIC_64, ARM64 = 0xFEEDFACF, 0x0100000C
LC_CODE_SIGNATURE, LC_BUILD_VERSION = 0x1D, 0x32
SUPER_BLOB, CODE_DIRECTORY, SHA256 = 0xFADE0CC0, 0xFADE0C02, 2
# Places in a signature, and of special hashes before those of the pages.
INFO, REQUIREMENTS, RESOURCES, ENTITLEMENTS, ENTITLEMENTS_DER = 1, 2, 3, 5, 7
HARDENED_RUNTIME = 0x10000

KEYS = {
    "CFBundleExecutable": "perch-app",
    "CFBundleIconFile": "app.icns",
    "CFBundleIdentifier": "app.perch.Perch",
    "CFBundlePackageType": "APPL",
    "LSMinimumSystemVersion": "14.0",
    "LSUIElement": True,
    "NSHighResolutionCapable": True,
}
TEXTS = [
    "CFBundleShortVersionString",
    "CFBundleVersion",
    "NSLocalNetworkUsageDescription",
    "NSDocumentsFolderUsageDescription",
    "NSDownloadsFolderUsageDescription",
    "NSNetworkVolumesUsageDescription",
    "NSRemovableVolumesUsageDescription",
]
FILES = ["MacOS/perch-app", "Helpers/perch", "Resources/app.icns", "Resources/LICENSE", "PkgInfo"]
ALLOWED = {
    "com.apple.security.cs.allow-jit",
    "com.apple.security.network.client",
    "com.apple.security.network.server",
}


class Wrong(Exception):
    pass


def need(condition, message):
    if not condition:
        raise Wrong(message)


def sha256(data):
    return hashlib.sha256(data).digest()


def check_structure(contents, metallib):
    for name in FILES:
        need((contents / name).is_file(), f"Contents/{name} is missing")
    for name in ["MacOS/perch-app", "Helpers/perch"]:
        need((contents / name).stat().st_mode & 0o111, f"Contents/{name} cannot be run")
    need((contents / "Resources/app.icns").read_bytes()[:4] == b"icns", "app.icns is no icon")
    for path in contents.rglob("*"):
        if path.is_symlink():
            target = path.resolve()
            need(target.exists(), f"{path.name} points nowhere")
            need(target.is_relative_to(contents.resolve()), f"{path.name} points out of the app")
    if metallib:
        # MLX looks beside the program that runs, and codesign takes only code there; so the file is a resource, linked.
        need((contents / "Resources/mlx.metallib").is_file(), "Resources/mlx.metallib is missing")
        for folder in ["MacOS", "Helpers"]:
            link = contents / folder / "mlx.metallib"
            need(link.is_symlink() and link.exists(), f"Contents/{folder}/mlx.metallib is no link to it")


def check_info(contents):
    with open(contents / "Info.plist", "rb") as file:
        info = plistlib.load(file)
    for key, value in KEYS.items():
        need(info.get(key) == value, f"Info.plist: {key} is {info.get(key)!r}, not {value!r}")
    for key in TEXTS:
        need(isinstance(info.get(key), str) and info[key].strip(), f"Info.plist: {key} has no text")
    transport = info.get("NSAppTransportSecurity")
    need(transport == {"NSAllowsLocalNetworking": True}, "Info.plist: more than local addresses without TLS")
    return info


class Program:
    """A thin Mach-O program for arm64 and its embedded signature."""

    def __init__(self, path):
        self.name, self.data = path.name, path.read_bytes()
        magic, cpu, _, kind, commands, _, _, _ = struct.unpack_from("<8I", self.data)
        need(magic == MAGIC_64 and cpu == ARM64 and kind == 2, f"{self.name} is no arm64 program")
        self.minimum, self.signature, at = None, None, 32
        for _ in range(commands):
            command, size = struct.unpack_from("<2I", self.data, at)
            if command == LC_CODE_SIGNATURE:
                self.signature = struct.unpack_from("<2I", self.data, at + 8)
            if command == LC_BUILD_VERSION:
                self.minimum = struct.unpack_from("<I", self.data, at + 12)[0]
            at += size

    def check_minimum(self, minimum):
        wanted = [int(part) for part in minimum.split(".")]
        need(self.minimum is not None, f"{self.name} does not say what it was built for")
        built = [self.minimum >> 16, self.minimum >> 8 & 0xFF]
        need(built <= wanted, f"{self.name} needs macOS {built[0]}.{built[1]}, and the app promises {minimum}")

    def blobs(self):
        need(self.signature, f"{self.name} has no signature")
        start, _ = self.signature
        magic, _, count = struct.unpack_from(">3I", self.data, start)
        need(magic == SUPER_BLOB, f"{self.name}: the signature is damaged")
        found = {}
        for i in range(count):
            kind, offset = struct.unpack_from(">2I", self.data, start + 12 + 8 * i)
            _, size = struct.unpack_from(">2I", self.data, start + offset)
            found[kind] = self.data[start + offset : start + offset + size]
        return found

    def check_signature(self, info=None, resources=None):
        blobs = self.blobs()
        directory = blobs[0]
        magic, _, _, flags, hashes, _, specials, pages, limit = struct.unpack_from(">9I", directory)
        size, kind, _, page = struct.unpack_from("4B", directory, 36)
        need(magic == CODE_DIRECTORY and kind == SHA256, f"{self.name}: the signature is not SHA-256")
        need(flags & HARDENED_RUNTIME, f"{self.name} is not signed for the hardened runtime")
        need(limit == self.signature[0], f"{self.name}: code lies outside the signature")
        slot = lambda i: directory[hashes + i * size : hashes + (i + 1) * size]
        for i in range(pages):
            code = self.data[i << page : min((i + 1) << page, limit)]
            need(sha256(code) == slot(i), f"{self.name}: code page {i} was changed")
        special = {REQUIREMENTS: blobs.get(2), ENTITLEMENTS: blobs.get(5), ENTITLEMENTS_DER: blobs.get(7)}
        special |= {INFO: info, RESOURCES: resources}
        for i, data in special.items():
            if data is not None:
                need(i <= specials and sha256(data) == slot(-i), f"{self.name}: special slot {i} was changed")
        need(5 in blobs, f"{self.name} has no entitlements")
        entitlements = set(plistlib.loads(blobs[5][8:]))
        need(entitlements == ALLOWED, f"{self.name}: entitlements {sorted(entitlements)}")
        return directory


def check_seal(contents, helper):
    with open(contents / "_CodeSignature/CodeResources", "rb") as file:
        sealed = plistlib.load(file)["files2"]
    for name, entry in sealed.items():
        path = contents / name
        if "symlink" in entry:
            need(path.is_symlink() and str(path.readlink()) == entry["symlink"], f"the link {name} was changed")
        elif "cdhash" in entry:
            need(entry["cdhash"] == helper, f"{name} is not the program that was sealed")
        else:
            need(path.is_file() and sha256(path.read_bytes()) == entry["hash2"], f"{name} was changed")
    own = {"Info.plist", "PkgInfo", "MacOS/perch-app", "_CodeSignature/CodeResources"}
    for path in contents.rglob("*"):
        name = str(path.relative_to(contents))
        if not path.is_dir() or path.is_symlink():
            need(name in sealed or name in own, f"{name} is not sealed")


def main(words):
    app = pathlib.Path(words[-1])
    contents = app / "Contents"
    check_structure(contents, "--metallib" in words)
    info = check_info(contents)
    app_program, helper = (Program(contents / name) for name in FILES[:2])
    for program in (app_program, helper):
        program.check_minimum(info["LSMinimumSystemVersion"])
    if "--signed" in words:
        app_program.check_signature(
            (contents / "Info.plist").read_bytes(),
            (contents / "_CodeSignature/CodeResources").read_bytes(),
        )
        check_seal(contents, sha256(helper.check_signature())[:20])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Wrong as wrong:
        sys.exit(f"{sys.argv[-1]}: {wrong}")
    except (OSError, KeyError, struct.error, plistlib.InvalidFileException) as error:
        sys.exit(f"{sys.argv[-1]}: damaged ({error!r})")
