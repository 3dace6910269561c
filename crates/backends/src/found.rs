//! What this machine can run models on.

use perch_backend_candle::{DeviceKind, LoadError};
use sysinfo::System;

use crate::Kind;

/// Why MLX is missing from a build without it.
#[cfg(not(feature = "mlx"))]
pub(crate) const NO_MLX: &str = match cfg!(target_os = "macos") {
    true => "this build was made without it, because Xcode's Metal compiler was missing",
    false => "MLX runs on Macs with Apple silicon",
};

/// A backend, and whether it can run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub kind: Kind,
    /// The device, as its maker calls it.
    pub device: String,
    /// Bytes that models on it should take at most together, where that is less than the machine's memory.
    pub memory: Option<u64>,
    /// Why it cannot run, if it cannot.
    pub missing: Option<String>,
}

/// Looks for every backend; models compute on so many threads.
pub fn find(threads: usize) -> Vec<Found> {
    let cpu = Found {
        kind: Kind::Cpu,
        device: format!("{}, {threads} threads", processor()),
        memory: None,
        missing: None,
    };
    let mlx = mlx();
    let metal = Found {
        kind: Kind::Metal,
        device: mlx.device.clone(),
        // Both are the same processor, which only MLX tells how much it should hold.
        memory: mlx.memory,
        missing: metal(),
    };
    vec![cpu, metal, mlx]
}

/// Why candle cannot use Metal here, if it cannot.
fn metal() -> Option<String> {
    DeviceKind::Metal.check().err().map(|error| match error {
        LoadError::NoMetal(reason) => reason.to_owned(),
        other => other.to_string(),
    })
}

#[cfg(feature = "mlx")]
fn mlx() -> Found {
    let none = cfg!(target_os = "macos").then(|| "MLX finds no graphics processor".to_owned());
    match perch_backend_mlx::gpu() {
        Some(gpu) => Found {
            kind: Kind::Mlx,
            device: gpu.name,
            memory: (gpu.working_set > 0).then_some(gpu.working_set),
            missing: None,
        },
        None => {
            Found { kind: Kind::Mlx, device: "MLX's CPU library".to_owned(), memory: None, missing: none }
        }
    }
}

#[cfg(not(feature = "mlx"))]
fn mlx() -> Found {
    Found { kind: Kind::Mlx, device: String::new(), memory: None, missing: Some(NO_MLX.to_owned()) }
}

fn processor() -> String {
    let mut system = System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let brand =
        system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty());
    brand.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
