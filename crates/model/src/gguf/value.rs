//! `ValueType`: the types of a GGUF metadata value; `Scalar`: a number or truth value out of one.

/// Type of a metadata value, by GGUF's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type that GGUF gives this number, if any.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of a value of this type; `None` for strings and arrays, whose length varies.
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::String | Self::Array => return None,
        })
    }
}

/// A number or a truth value, as wide as they come. Which width the file used is of no interest to a reader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// An integer of any width and sign.
    Int(i128),
    /// A floating-point number of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    /// Decodes `bytes`, which are `kind.size()` long. `None` for strings and arrays.
    pub(crate) fn decode(kind: ValueType, bytes: &[u8]) -> Option<Self> {
        fn le<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        Some(match kind {
            ValueType::U8 => Self::Int(u8::from_le_bytes(le(bytes)?).into()),
            ValueType::I8 => Self::Int(i8::from_le_bytes(le(bytes)?).into()),
            ValueType::U16 => Self::Int(u16::from_le_bytes(le(bytes)?).into()),
            ValueType::I16 => Self::Int(i16::from_le_bytes(le(bytes)?).into()),
            ValueType::U32 => Self::Int(u32::from_le_bytes(le(bytes)?).into()),
            ValueType::I32 => Self::Int(i32::from_le_bytes(le(bytes)?).into()),
            ValueType::U64 => Self::Int(u64::from_le_bytes(le(bytes)?).into()),
            ValueType::I64 => Self::Int(i64::from_le_bytes(le(bytes)?).into()),
            ValueType::F32 => Self::Float(f32::from_le_bytes(le(bytes)?).into()),
            ValueType::F64 => Self::Float(f64::from_le_bytes(le(bytes)?)),
            ValueType::Bool => Self::Bool(bytes.first().copied()? != 0),
            ValueType::String | ValueType::Array => return None,
        })
    }

    /// As an unsigned integer; `None` for what is negative or no integer.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Int(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// As a signed integer; `None` for what does not fit or is no integer.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// As a float; integers are converted.
    pub fn as_f32(self) -> Option<f32> {
        match self {
            Self::Int(value) => Some(value as f32),
            Self::Float(value) => Some(value as f32),
            Self::Bool(_) => None,
        }
    }

    /// As a truth value. Files of some converters hold a small integer where a truth value is meant.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Int(0) => Some(false),
            Self::Int(1) => Some(true),
            _ => None,
        }
    }
}
