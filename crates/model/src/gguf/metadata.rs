//! `Metadata`: the keys and values of a GGUF file, with typed getters.
//!
//! Values stay in the mapped file; only the keys are copied. Everything was validated when the file was opened (see
//! `header.rs`), so a getter cannot fail other than by a missing key or another type: `get_*` answers both with `None`,
//! `require_*` with an error that names the key and says which of the two it was.

use std::collections::BTreeMap;
use std::ops::Range;

use super::value::{Scalar, ValueType};
use crate::ModelError;
use crate::map::MappedFile;

/// Where a value lies in the file.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// A number or truth value.
    Scalar(ValueType, Range<usize>),
    /// A string's bytes, known to be UTF-8.
    String(Range<usize>),
    /// The items of an array, one after another. Strings are each preceded by their length.
    Array { of: ValueType, count: usize, items: Range<usize> },
}

/// The metadata of a GGUF file (of its first part, where it is split).
#[derive(Debug, Clone)]
pub struct Metadata {
    file: MappedFile,
    slots: BTreeMap<Box<str>, Slot>,
}

/// The strings of an array, read out of the file one by one.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = self.bytes.split_first_chunk::<8>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

impl Metadata {
    /// Holds `slots`, whose ranges all lie in `file`.
    pub(crate) fn new(file: MappedFile, slots: BTreeMap<Box<str>, Slot>) -> Self {
        Self { file, slots }
    }

    /// Metadata out of the bytes of a GGUF file that lies in memory. `name` stands for the path in errors.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        Ok(super::GgufFile::from_map(MappedFile::from_bytes(name, bytes)?)?.metadata().clone())
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(|key| &**key)
    }

    /// Whether there is a value of any type under `key`.
    pub fn has(&self, key: &str) -> bool {
        self.slots.contains_key(key)
    }

    /// `general.architecture`, e.g. `qwen3`: the prefix of the keys that describe the model.
    pub fn architecture(&self) -> Result<&str, ModelError> {
        self.require_str("general.architecture")
    }

    /// A string.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        match self.slots.get(key)? {
            Slot::String(range) => std::str::from_utf8(&self.file.bytes()[range.clone()]).ok(),
            _ => None,
        }
    }

    /// An integer of any width that is not negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.scalar(key)?.as_u64()
    }

    /// The same as a size.
    pub fn get_usize(&self, key: &str) -> Option<usize> {
        self.get_u64(key)?.try_into().ok()
    }

    /// A float of either width, or an integer.
    pub fn get_f32(&self, key: &str) -> Option<f32> {
        self.scalar(key)?.as_f32()
    }

    /// A truth value.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.scalar(key)?.as_bool()
    }

    /// The strings of an array. Cloning the iterator starts again; `len()` costs nothing.
    pub fn get_strs(&self, key: &str) -> Option<Strings<'_>> {
        match self.slots.get(key)? {
            Slot::Array { of: ValueType::String, count, items } => {
                Some(Strings { bytes: &self.file.bytes()[items.clone()], left: *count })
            }
            _ => None,
        }
    }

    /// The numbers of an array, as floats.
    pub fn get_f32s(&self, key: &str) -> Option<Vec<f32>> {
        self.scalars(key, Scalar::as_f32)
    }

    /// The integers of an array.
    pub fn get_i64s(&self, key: &str) -> Option<Vec<i64>> {
        self.scalars(key, Scalar::as_i64)
    }

    /// The integers of an array, none of them negative.
    pub fn get_u64s(&self, key: &str) -> Option<Vec<u64>> {
        self.scalars(key, Scalar::as_u64)
    }

    /// The truth values of an array.
    pub fn get_bools(&self, key: &str) -> Option<Vec<bool>> {
        self.scalars(key, Scalar::as_bool)
    }

    /// A value for every layer: an array of `layers` integers, or one integer that stands for all. Some families have
    /// one head count, others one for each layer, under the same key.
    pub fn get_per_layer(&self, key: &str, layers: usize) -> Option<Vec<u64>> {
        match self.get_u64(key) {
            Some(value) => Some(vec![value; layers]),
            None => self.get_u64s(key).filter(|values| values.len() == layers),
        }
    }

    /// [`Self::get_str`], or why not.
    pub fn require_str(&self, key: &str) -> Result<&str, ModelError> {
        self.get_str(key).ok_or_else(|| self.complaint(key, "a string"))
    }

    /// [`Self::get_u64`], or why not.
    pub fn require_u64(&self, key: &str) -> Result<u64, ModelError> {
        self.get_u64(key).ok_or_else(|| self.complaint(key, "an unsigned integer"))
    }

    /// [`Self::get_usize`], or why not.
    pub fn require_usize(&self, key: &str) -> Result<usize, ModelError> {
        self.get_usize(key).ok_or_else(|| self.complaint(key, "an unsigned integer"))
    }

    /// [`Self::get_f32`], or why not.
    pub fn require_f32(&self, key: &str) -> Result<f32, ModelError> {
        self.get_f32(key).ok_or_else(|| self.complaint(key, "a number"))
    }

    /// [`Self::get_bool`], or why not.
    pub fn require_bool(&self, key: &str) -> Result<bool, ModelError> {
        self.get_bool(key).ok_or_else(|| self.complaint(key, "true or false"))
    }

    /// [`Self::get_strs`], or why not.
    pub fn require_strs(&self, key: &str) -> Result<Strings<'_>, ModelError> {
        self.get_strs(key).ok_or_else(|| self.complaint(key, "an array of strings"))
    }

    /// [`Self::get_f32s`], or why not.
    pub fn require_f32s(&self, key: &str) -> Result<Vec<f32>, ModelError> {
        self.get_f32s(key).ok_or_else(|| self.complaint(key, "an array of numbers"))
    }

    /// [`Self::get_i64s`], or why not.
    pub fn require_i64s(&self, key: &str) -> Result<Vec<i64>, ModelError> {
        self.get_i64s(key).ok_or_else(|| self.complaint(key, "an array of integers"))
    }

    /// [`Self::get_u64s`], or why not.
    pub fn require_u64s(&self, key: &str) -> Result<Vec<u64>, ModelError> {
        self.get_u64s(key).ok_or_else(|| self.complaint(key, "an array of unsigned integers"))
    }

    /// [`Self::get_per_layer`], or why not.
    pub fn require_per_layer(&self, key: &str, layers: usize) -> Result<Vec<u64>, ModelError> {
        self.get_per_layer(key, layers).ok_or_else(|| {
            self.complaint(
                key,
                &format!("an unsigned integer or an array of {layers} of them, one for each layer"),
            )
        })
    }

    /// The error for a file whose metadata contradict themselves; `reason` should name the key.
    pub fn invalid(&self, reason: impl Into<String>) -> ModelError {
        self.file.invalid(reason)
    }

    fn complaint(&self, key: &str, wanted: &str) -> ModelError {
        match self.slots.get(key) {
            None => self.invalid(format!("metadata key {key:?} is missing")),
            Some(Slot::Scalar(kind, _)) => {
                let value = self.scalar(key);
                self.invalid(format!("metadata key {key:?} should be {wanted}, but is {kind:?} {value:?}"))
            }
            Some(Slot::String(_)) => {
                self.invalid(format!("metadata key {key:?} should be {wanted}, but is a string"))
            }
            Some(Slot::Array { of, count, .. }) => self.invalid(format!(
                "metadata key {key:?} should be {wanted}, but is an array of {count} values of type {of:?}"
            )),
        }
    }

    fn scalar(&self, key: &str) -> Option<Scalar> {
        match self.slots.get(key)? {
            Slot::Scalar(kind, range) => Scalar::decode(*kind, &self.file.bytes()[range.clone()]),
            _ => None,
        }
    }

    fn scalars<T>(&self, key: &str, convert: impl Fn(Scalar) -> Option<T>) -> Option<Vec<T>> {
        let Slot::Array { of, items, .. } = self.slots.get(key)? else { return None };
        let size = of.size()?;
        self.file.bytes()[items.clone()]
            .chunks_exact(size)
            .map(|item| convert(Scalar::decode(*of, item)?))
            .collect()
    }

    /// Where the value under `key` lies, and its bytes, for a copy of it.
    pub(crate) fn raw(&self, key: &str) -> Option<(&Slot, &[u8])> {
        let slot = self.slots.get(key)?;
        let (Slot::Scalar(_, range) | Slot::String(range) | Slot::Array { items: range, .. }) = slot;
        Some((slot, &self.file.bytes()[range.clone()]))
    }
}
