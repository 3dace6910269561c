//! Names the builds that have MLX: those for Macs with Apple silicon, and those of tests that ask for its CPU library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(mlx)");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let mac = var("CARGO_CFG_TARGET_OS") == "macos" && var("CARGO_CFG_TARGET_ARCH") == "aarch64";
    if mac || std::env::var_os("CARGO_FEATURE_MLX_CPU").is_some() {
        println!("cargo::rustc-cfg=mlx");
    }
}
