//! Which backend runs which model.

use perch_model::{Checkpoint, Format};
use perch_server::LoadError;

use crate::Found;

/// What runs models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Perch's own kernels, on the processor.
    Cpu,
    /// Candle, on a Mac's graphics processor.
    Metal,
    /// MLX, on a Mac's graphics processor.
    Mlx,
}

impl Kind {
    /// As it is named in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Metal => "metal",
            Kind::Mlx => "mlx",
        }
    }
}

/// Weights below which a model runs on the processor unless it is told otherwise: a graphics processor is asked for every layer, and
/// the asking takes longer than such a layer.
const SMALL: u64 = 64 << 20;

/// The backend called `wanted`, or the one that suits a checkpoint.
///
/// # Errors
/// [`LoadError::UnknownBackend`] for a name that none has, [`LoadError::Unavailable`] for one that cannot run here.
pub(crate) fn choose<'a>(
    found: impl Fn() -> &'a [Found],
    wanted: Option<&str>,
    checkpoint: &Checkpoint,
) -> Result<Kind, LoadError> {
    match wanted.filter(|name| *name != "auto") {
        Some(name) => named(found(), name),
        None => Ok(suited(checkpoint.format(), checkpoint.weights_bytes(), |kind| {
            found().iter().any(|one| one.kind == kind && one.missing.is_none())
        })),
    }
}

fn named(found: &[Found], name: &str) -> Result<Kind, LoadError> {
    let Some(one) = found.iter().find(|one| one.kind.name() == name) else {
        let known: Vec<&str> = found.iter().map(|one| one.kind.name()).chain(["auto"]).collect();
        return Err(LoadError::UnknownBackend { name: name.to_owned(), known: known.join(", ") });
    };
    match &one.missing {
        None => Ok(one.kind),
        Some(reason) => Err(LoadError::Unavailable { name: one.kind.name(), reason: reason.clone() }),
    }
}

/// What suits a model best of what is there. What is there is not asked for a small one: that wakes a graphics processor.
fn suited(format: Format, weights: u64, here: impl Fn(Kind) -> bool) -> Kind {
    let wanted: &[Kind] = match format {
        _ if weights < SMALL => &[],
        Format::Gguf => &[Kind::Metal],
        Format::Safetensors | Format::MlxSafetensors => &[Kind::Mlx, Kind::Metal],
    };
    wanted.iter().copied().find(|kind| here(*kind)).unwrap_or(Kind::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 1 << 30;

    #[test]
    fn a_mac_runs_safetensors_on_mlx_and_gguf_on_metal() {
        let mac = |_| true;
        assert_eq!(suited(Format::MlxSafetensors, LARGE, mac), Kind::Mlx);
        assert_eq!(suited(Format::Safetensors, LARGE, mac), Kind::Mlx);
        assert_eq!(suited(Format::Gguf, LARGE, mac), Kind::Metal);
        assert_eq!(suited(Format::Gguf, SMALL - 1, mac), Kind::Cpu, "the guide needs no graphics processor");
    }

    #[test]
    fn what_is_not_there_is_not_chosen() {
        assert_eq!(suited(Format::Gguf, LARGE, |kind| kind == Kind::Cpu), Kind::Cpu);
        assert_eq!(suited(Format::Safetensors, LARGE, |kind| kind != Kind::Mlx), Kind::Metal);
    }

    #[test]
    fn a_wrong_name_and_a_backend_that_cannot_run_are_told_apart() {
        let one = |kind, missing: Option<&str>| Found {
            kind,
            device: String::new(),
            memory: None,
            missing: missing.map(str::to_owned),
        };
        let found = [one(Kind::Cpu, None), one(Kind::Metal, Some("only a Mac has it"))];
        assert_eq!(named(&found, "cpu").unwrap(), Kind::Cpu);
        let error = named(&found, "metal").unwrap_err().to_string();
        assert!(error.contains("`metal` cannot run here: only a Mac has it"), "{error}");
        let error = named(&found, "cuda").unwrap_err().to_string();
        assert!(error.contains("cuda") && error.contains("cpu, metal, auto"), "{error}");
    }
}
