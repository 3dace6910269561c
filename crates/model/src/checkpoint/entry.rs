//! `Entry`: a tensor of the checkpoint as the model means it, and how it is put together out of stored tensors.
//!
//! MLX stores a quantised matrix as packed words under `x.weight` with `x.scales` and `x.biases` beside them; gpt-oss
//! stores `x_blocks` and `x_scales`. Both become one entry (`x.weight`, `x`) with the unpacked shape, and the parts
//! leave the table. Invariant: the parts' shapes agree with each other and with the entry's.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use crate::DType;
use crate::stored::{StoredType, shown};

/// A tensor as the model means it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its dimensions, outermost first, unpacked.
    pub(super) shape: Box<[usize]>,
    /// Where its values are.
    pub(super) source: Source,
}

/// Bytes in one of the checkpoint's files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) range: Range<usize>,
}

/// How a tensor is stored.
#[derive(Debug)]
pub(super) enum Source {
    /// As it is.
    Plain { kind: &'static StoredType, place: Place },
    /// MLX's affine quantisation: `scale * q + bias`, one scale and bias for each `group` elements of a row.
    Affine(Box<Affine>),
    /// MXFP4: a byte of exponent for each 32 elements of a row; elements `2j` and `2j + 1` in byte `j`.
    Mxfp4(Box<Fp4>),
    /// MLX's NVFP4: an E4M3 scale for each 16 elements of a row; elements as in MXFP4.
    Nvfp4(Box<Fp4>),
    /// A quantisation of MLX that is known by name, and not run.
    Foreign { name: String, bytes: usize },
}

/// Parts of an MLX matrix, see [`Source::Affine`].
#[derive(Debug)]
pub(super) struct Affine {
    pub(super) bits: usize,
    pub(super) group: usize,
    pub(super) words: Place,
    pub(super) scales: Place,
    pub(super) biases: Place,
    pub(super) scale_dtype: DType,
}

/// Parts of a matrix of E2M1 values, see [`Source::Mxfp4`] and [`Source::Nvfp4`].
#[derive(Debug)]
pub(super) struct Fp4 {
    pub(super) packed: Place,
    pub(super) scales: Place,
}

impl Entry {
    /// Why no backend could run this tensor, if none could.
    pub(super) fn obstacle(&self) -> Option<String> {
        match &self.source {
            Source::Plain { kind, .. } if kind.dtype.is_none() => {
                Some(format!("is stored as {}, which is not supported", kind.name))
            }
            Source::Foreign { name, .. } => Some(format!(
                "is quantised to {name} by MLX, which is not supported; 2 to 8 bits in groups of 32, 64 or 128, mxfp4 and \
                 nvfp4 are"
            )),
            _ => None,
        }
    }

    /// Bytes that it takes on disk.
    pub(super) fn stored_bytes(&self) -> usize {
        match &self.source {
            Source::Plain { place, .. } => place.range.len(),
            Source::Affine(parts) => {
                parts.words.range.len() + parts.scales.range.len() + parts.biases.range.len()
            }
            Source::Mxfp4(parts) | Source::Nvfp4(parts) => {
                parts.packed.range.len() + parts.scales.range.len()
            }
            Source::Foreign { bytes, .. } => *bytes,
        }
    }

    fn plain(&self) -> Option<(&'static StoredType, &Place)> {
        match &self.source {
            Source::Plain { kind, place } => Some((kind, place)),
            _ => None,
        }
    }
}

/// Joins the parts of gpt-oss' MXFP4 tensors.
///
/// # Errors
/// A sentence with the tensor's name when blocks and scales disagree.
pub(super) fn join_mxfp4(tensors: &mut BTreeMap<Box<str>, Entry>) -> Result<(), String> {
    let stems: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix("_blocks")?.to_owned())).collect();
    for stem in stems {
        let (blocks_name, scales_name) = (format!("{stem}_blocks"), format!("{stem}_scales"));
        let (Some(blocks), Some(scales)) =
            (tensors.get(blocks_name.as_str()), tensors.get(scales_name.as_str()))
        else {
            continue;
        };
        let wrong = || format!("tensors {} and {scales_name:?} do not fit together", shown(&blocks_name));
        let ((block_type, packed), (scale_type, exponents)) =
            (blocks.plain().ok_or_else(wrong)?, scales.plain().ok_or_else(wrong)?);
        let [lead @ .., groups, 16] = &*blocks.shape else { return Err(wrong()) };
        let same = scales.shape.split_last() == Some((groups, lead));
        if !same || block_type.name != "U8" || !matches!(scale_type.name, "U8" | "F8_E8M0") {
            return Err(wrong());
        }
        let mut shape = lead.to_vec();
        shape.push(groups.checked_mul(32).ok_or_else(wrong)?);
        let source = Source::Mxfp4(Box::new(Fp4 { packed: packed.clone(), scales: exponents.clone() }));
        tensors.remove(blocks_name.as_str());
        tensors.remove(scales_name.as_str());
        if tensors.insert(stem.as_str().into(), Entry { shape: shape.into(), source }).is_some() {
            return Err(format!("tensor {} is there both packed and unpacked", shown(&stem)));
        }
    }
    Ok(())
}

/// Joins the parts of MLX's quantised tensors, as `config`'s `quantization` describes them. Returns how many.
///
/// # Errors
/// A sentence with the tensor's name when the parts disagree with each other or with the config.
pub(super) fn join_mlx(tensors: &mut BTreeMap<Box<str>, Entry>, config: &Value) -> Result<usize, String> {
    // Older files call it `quantization_config`, which others use for other things.
    let scheme = ["quantization", "quantization_config"]
        .into_iter()
        .filter_map(|key| config.get(key))
        .find(|scheme| scheme.get("group_size").is_some_and(Value::is_u64));
    let stems: Vec<String> = tensors
        .iter()
        .filter_map(|(name, entry)| {
            let stem = name.strip_suffix(".weight")?;
            let packed = entry.plain()?.0.name == "U32";
            (packed && tensors.contains_key(format!("{stem}.scales").as_str())).then(|| stem.to_owned())
        })
        .collect();
    for stem in &stems {
        let name = format!("{stem}.weight");
        let Some(scheme) = scheme else {
            return Err(format!("tensor {} is quantised, but config.json has no quantization", shown(&name)));
        };
        let entry = mlx_entry(tensors, stem, scheme).map_err(|reason| format!("{name:?} {reason}"))?;
        tensors.remove(format!("{stem}.scales").as_str());
        tensors.remove(format!("{stem}.biases").as_str());
        tensors.insert(name.into(), entry);
    }
    Ok(stems.len())
}

fn mlx_entry(tensors: &BTreeMap<Box<str>, Entry>, stem: &str, scheme: &Value) -> Result<Entry, String> {
    let part = |suffix: &str| {
        let entry = tensors.get(format!("{stem}.{suffix}").as_str())?;
        let (kind, place) = entry.plain()?;
        Some((kind, place.clone(), &*entry.shape))
    };
    let missing = || "has parts that are no plain tensors".to_owned();
    let (_, words, words_shape) = part("weight").ok_or_else(missing)?;
    let (scale_type, scales, scales_shape) = part("scales").ok_or_else(missing)?;

    // A layer's own settings stand under its path and stand in for all of the model's.
    let own = scheme.get(stem).filter(|own| own.is_object()).unwrap_or(scheme);
    let setting = |key: &str| own.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let mode = own.get("mode").and_then(Value::as_str).unwrap_or("affine");
    let (Some(bits), Some(group)) = (setting("bits"), setting("group_size")) else {
        return Err("has no bits or group_size in config.json".into());
    };

    let ([lead @ .., width], [scale_lead @ .., groups]) = (words_shape, scales_shape) else {
        return Err("has no dimensions".into());
    };
    let cols = groups.checked_mul(group).filter(|cols| *cols > 0);
    let fits = cols.and_then(|cols| cols.checked_mul(bits)) == width.checked_mul(32) && lead == scale_lead;
    let Some(cols) = cols.filter(|_| fits) else {
        return Err(format!(
            "of shape {words_shape:?} with scales {scales_shape:?} does not have {bits} bits in groups of {group}, as \
             config.json says"
        ));
    };
    let mut shape = lead.to_vec();
    shape.push(cols);

    let source = match (mode, bits, group) {
        ("affine", 2..=6 | 8, 32 | 64 | 128) => {
            let (bias_type, biases, biases_shape) = part("biases").ok_or("has no biases")?;
            let fits = bias_type == scale_type && biases_shape == scales_shape;
            let Some(scale_dtype) = scale_type.dtype.filter(|_| fits) else {
                return Err("has scales and biases that do not fit together".into());
            };
            Source::Affine(Box::new(Affine { bits, group, words, scales, biases, scale_dtype }))
        }
        ("mxfp4", 4, 32) if scale_type.name == "U8" => Source::Mxfp4(Box::new(Fp4 { packed: words, scales })),
        ("nvfp4", 4, 16) if scale_type.name == "U8" => Source::Nvfp4(Box::new(Fp4 { packed: words, scales })),
        _ => Source::Foreign {
            name: format!("{mode} {bits} bits in groups of {group}"),
            bytes: words.range.len() + scales.range.len(),
        },
    };
    Ok(Entry { shape: shape.into(), source })
}
