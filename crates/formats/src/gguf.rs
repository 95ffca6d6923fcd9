//! GGUF, versions 2 and 3, little endian: metadata and tensor directory, checked.
//! Source: the GGUF specification in the ggml repository (docs/gguf.md).
//!
//! Time goes into the vocabulary: some 300,000 short strings, each checked for UTF-8 and copied once into a table.

use base::vocab::StrTable;
use quant::DType;

use crate::error::{FormatError, Kind, shown};
use crate::extent::Extent;

/// A parsed file. Holds no reference to the bytes; tensors are extents into them.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub(crate) version: u32,
    pub(crate) pairs: Vec<Pair>,
    /// Indices into `pairs`, sorted by key.
    pub(crate) by_key: Vec<u32>,
    pub(crate) tensors: Vec<Tensor>,
    /// Indices into `tensors`, sorted by name.
    pub(crate) by_name: Vec<u32>,
    pub(crate) alignment: u64,
    pub(crate) data_start: u64,
    pub(crate) file_len: u64,
}

/// One metadata pair.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub key: String,
    pub value: Value,
    /// Where the value begins in the file.
    pub offset: u64,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Array(Array),
}

/// An array of scalars or strings. Arrays of arrays are refused, as llama.cpp refuses them.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(StrTable),
}

impl PartialEq for Array {
    fn eq(&self, other: &Array) -> bool {
        use Array::*;
        match (self, other) {
            (U8(a), U8(b)) => a == b,
            (I8(a), I8(b)) => a == b,
            (U16(a), U16(b)) => a == b,
            (I16(a), I16(b)) => a == b,
            (U32(a), U32(b)) => a == b,
            (I32(a), I32(b)) => a == b,
            (U64(a), U64(b)) => a == b,
            (I64(a), I64(b)) => a == b,
            (F32(a), F32(b)) => a == b,
            (F64(a), F64(b)) => a == b,
            (Bool(a), Bool(b)) => a == b,
            (Str(a), Str(b)) => a.len() == b.len() && a.iter().eq(b.iter()),
            _ => false,
        }
    }
}

impl Array {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
        }
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as `i64`, whatever integer width the file used; `None` for floats, booleans, strings and for
    /// `u64` values above `i64::MAX`.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self {
            Array::U8(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Array::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Array::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I64(v) => v.clone(),
            Array::U64(v) => v.iter().map(|&x| i64::try_from(x).ok()).collect::<Option<_>>()?,
            _ => return None,
        })
    }
}

impl Value {
    /// For error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "a u8",
            Value::I8(_) => "an i8",
            Value::U16(_) => "a u16",
            Value::I16(_) => "an i16",
            Value::U32(_) => "a u32",
            Value::I32(_) => "an i32",
            Value::U64(_) => "a u64",
            Value::I64(_) => "an i64",
            Value::F32(_) => "an f32",
            Value::F64(_) => "an f64",
            Value::Bool(_) => "a boolean",
            Value::Str(_) => "a string",
            Value::Array(_) => "an array",
        }
    }

    /// Any integer width, as `i128` so that nothing is lost.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }
}

/// One entry of the tensor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name, at most `base::limits::TENSOR_NAME_BYTES_MAX` bytes.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions in GGUF's order, `dims[0]` fastest (the row length); unused ones are 1. Use [`Tensor::dims`].
    pub(crate) ne: [u64; 4],
    pub(crate) n_dims: usize,
    /// Bytes in the file, absolute.
    pub extent: Extent,
    /// Where the directory entry begins in the file, for error messages.
    pub entry_offset: u64,
}

impl Tensor {
    /// Dimensions in GGUF's order: `dims()[0]` is the row length.
    pub fn dims(&self) -> &[u64] {
        self.ne.get(..self.n_dims).unwrap_or(&self.ne)
    }
}

impl Gguf {
    /// Parses the whole file's bytes (usually a memory map). Only the header is read.
    ///
    /// # Errors
    /// Every broken rule, with the byte offset.
    pub fn parse(bytes: &[u8]) -> Result<Gguf, FormatError> {
        crate::gguf_read::parse(bytes)
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// `general.alignment`, or 32.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Where tensor data begins: the header's end, aligned.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Metadata in the file's order.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.pairs.iter().map(|p| (p.key.as_str(), &p.value))
    }

    /// Tensors in the file's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = |i: &u32| self.tensors.get(usize::try_from(*i).ok()?);
        let found = self.by_name.binary_search_by(|i| at(i).map_or("", |t| t.name.as_str()).cmp(name)).ok()?;
        self.by_name.get(found).and_then(at)
    }

    pub(crate) fn pair(&self, key: &str) -> Option<&Pair> {
        let at = |i: &u32| self.pairs.get(usize::try_from(*i).ok()?);
        let found = self.by_key.binary_search_by(|i| at(i).map_or("", |p| p.key.as_str()).cmp(key)).ok()?;
        self.by_key.get(found).and_then(at)
    }

    /// A value by key, untyped.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pair(key).map(|p| &p.value)
    }

    /// `general.architecture`.
    ///
    /// # Errors
    /// Missing, or not a string.
    pub fn architecture(&self) -> Result<&str, FormatError> {
        self.get_str("general.architecture")
    }

    /// `general.name`, where it is a string.
    pub fn name(&self) -> Option<&str> {
        match self.get("general.name") {
            Some(Value::Str(s)) => Some(s),
            _ => None,
        }
    }

    /// An error about a key, at the key's value (or, when it is missing, where the metadata begins).
    pub(crate) fn wrong(&self, key: &str, kind: Kind) -> FormatError {
        FormatError::gguf(self.pair(key).map_or(crate::gguf_read::METADATA_START, |p| p.offset), kind)
    }

    fn missing(&self, key: &str) -> FormatError {
        self.wrong(key, Kind::Missing { key: shown(key) })
    }

    fn mistyped(&self, key: &str, want: &'static str, found: &Value) -> FormatError {
        self.wrong(key, Kind::WrongType { key: shown(key), want, found: found.type_name() })
    }

    fn opt_int<T: TryFrom<i128>>(&self, key: &str, want: &'static str) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(n) = value.integer() else { return Err(self.mistyped(key, want, value)) };
        match T::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => {
                Err(self.wrong(key, Kind::OutOfRange { key: shown(key), value: n.to_string(), want: want.to_owned() }))
            }
        }
    }

    /// An integer of any width that fits `u32`.
    ///
    /// # Errors
    /// Missing, not an integer, or out of range; all getters alike.
    pub fn get_u32(&self, key: &str) -> Result<u32, FormatError> {
        self.opt_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_u32`], `None` when the key is missing.
    ///
    /// # Errors
    /// Not an integer, or out of range.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        self.opt_int(key, "an integer that fits 32 bits without sign")
    }

    /// An integer of any width that fits `u64`.
    ///
    /// # Errors
    /// As [`Gguf::get_u32`].
    pub fn get_u64(&self, key: &str) -> Result<u64, FormatError> {
        self.opt_u64(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_u64`], `None` when the key is missing.
    ///
    /// # Errors
    /// Not an integer, or out of range.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, FormatError> {
        self.opt_int(key, "an integer that is not negative")
    }

    /// An `f32`, or an `f64` rounded to one.
    ///
    /// # Errors
    /// Missing or of another type.
    pub fn get_f32(&self, key: &str) -> Result<f32, FormatError> {
        self.opt_f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_f32`], `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            // Rounding is wanted here: the engine computes in f32.
            #[allow(clippy::cast_possible_truncation)]
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(other) => Err(self.mistyped(key, "a float", other)),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// Missing or of another type.
    pub fn get_bool(&self, key: &str) -> Result<bool, FormatError> {
        self.opt_bool(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_bool`], `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(x)) => Ok(Some(*x)),
            Some(other) => Err(self.mistyped(key, "a boolean", other)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// Missing or of another type.
    pub fn get_str(&self, key: &str) -> Result<&str, FormatError> {
        self.opt_str(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_str`], `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Str(s)) => Ok(Some(s)),
            Some(other) => Err(self.mistyped(key, "a string", other)),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// Missing or of another type.
    pub fn get_strings(&self, key: &str) -> Result<&StrTable, FormatError> {
        self.opt_strings(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Gguf::get_strings`], `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&StrTable>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Str(t))) => Ok(Some(t)),
            Some(other) => Err(self.mistyped(key, "an array of strings", other)),
        }
    }

    /// An array of `f32`; `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<&[f32]>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(v))) => Ok(Some(v)),
            Some(other) => Err(self.mistyped(key, "an array of f32", other)),
        }
    }

    /// An array of integers of any width; `None` when the key is missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn opt_integers(&self, key: &str) -> Result<Option<Vec<i64>>, FormatError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers = if let Value::Array(a) = value { a.to_i64() } else { None };
        numbers.map(Some).ok_or_else(|| self.mistyped(key, "an array of integers", value))
    }
}
