//! safetensors: a JSON header, then raw little-endian data. Source: the format section of the safetensors repository.
//!
//! The format's own rules are kept: the header begins with `{`, names are unique, the tensors cover the data without
//! holes or overlaps. Headers are small (a few hundred kilobytes); the time is serde_json's.

use std::fmt;

use base::limits::{SAFETENSORS_HEADER_BYTES_MAX, TENSOR_DIMS_MAX, TENSOR_PATH_BYTES_MAX, TENSORS_MAX};
use quant::DType;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{FormatError, Kind, shown};
use crate::extent::Extent;

const FILE: &str = "safetensors";
/// The header's length, little endian.
const PREFIX_BYTES: u64 = 8;

/// One file's directory. Holds no reference to the bytes.
#[derive(Clone, Debug)]
pub struct Safetensors {
    /// In the order of their data.
    tensors: Vec<RawTensor>,
}

/// One tensor as the header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    /// The checkpoint's own name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Bytes in the file, absolute.
    pub extent: Extent,
}

impl Safetensors {
    /// Parses one file's bytes. Only the header is read.
    ///
    /// # Errors
    /// Every broken rule, with the byte offset.
    pub fn parse(bytes: &[u8]) -> Result<Safetensors, FormatError> {
        let file_len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (json, data_start) = header(bytes, file_len)?;
        let entries: Entries =
            serde_json::from_slice(json).map_err(|e| FormatError::json(FILE, json, PREFIX_BYTES, &e))?;
        let place = |name: &str| FormatError::at_key(json, PREFIX_BYTES, name);
        let mut tensors = Vec::with_capacity(entries.0.len());
        for e in entries.0 {
            tensors.push(
                e.check(data_start, file_len).map_err(|(name, kind)| FormatError::new(FILE, place(&name), kind))?,
            );
        }
        tensors.sort_by(|a, b| a.extent.cmp(&b.extent).then_with(|| a.name.cmp(&b.name)));
        refuse_gaps(&tensors, data_start, file_len, place)?;
        Ok(Safetensors { tensors })
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[RawTensor] {
        &self.tensors
    }

    pub(crate) fn into_tensors(self) -> Vec<RawTensor> {
        self.tensors
    }
}

/// The header's JSON and where the data begins.
fn header(bytes: &[u8], file_len: u64) -> Result<(&[u8], u64), FormatError> {
    let fail = |offset, kind| Err(FormatError::new(FILE, offset, kind));
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        return fail(0, Kind::Truncated { what: "the header's length", need: PREFIX_BYTES, have: file_len });
    };
    let len = u64::from_le_bytes(*prefix);
    let have = file_len.saturating_sub(PREFIX_BYTES);
    if len > SAFETENSORS_HEADER_BYTES_MAX {
        let max = SAFETENSORS_HEADER_BYTES_MAX;
        return fail(0, Kind::TooMany { what: "the header's length", count: len, max });
    }
    let Some(json) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else {
        return fail(0, Kind::PastEnd { what: "the header's length", count: len, have });
    };
    if json.first() != Some(&b'{') {
        let found = format!("\"{}\"", json.get(..4).unwrap_or(json).escape_ascii());
        return fail(PREFIX_BYTES, Kind::Magic { format: FILE, found });
    }
    Ok((json, len.saturating_add(PREFIX_BYTES)))
}

fn refuse_gaps(
    tensors: &[RawTensor],
    data_start: u64,
    file_len: u64,
    place: impl Fn(&str) -> u64,
) -> Result<(), FormatError> {
    let mut end = data_start;
    let mut before: Option<&RawTensor> = None;
    for t in tensors {
        let start = t.extent.offset();
        if start < end {
            let first = before.map_or(String::new(), |b| shown(&b.name));
            let kind = Kind::Overlap { first, second: shown(&t.name) };
            return Err(FormatError::new(FILE, place(&t.name), kind));
        }
        if start > end {
            return Err(FormatError::new(FILE, end, Kind::Hole { start: end, bytes: start.saturating_sub(end) }));
        }
        end = t.extent.end();
        before = Some(t);
    }
    if end < file_len {
        return Err(FormatError::new(FILE, end, Kind::Hole { start: end, bytes: file_len.saturating_sub(end) }));
    }
    Ok(())
}

/// An entry before its numbers are checked.
struct Entry {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

impl Entry {
    fn check(self, data_start: u64, file_len: u64) -> Result<RawTensor, (String, Kind)> {
        let tensor = shown(&self.name);
        let fail = |name: String, kind| Err((name, kind));
        let Some(dtype) = dtype(&self.dtype) else {
            let number = format!("\"{}\"", shown(&self.dtype));
            return fail(self.name, Kind::TensorType { tensor, number, name: "not supported".to_owned() });
        };
        if let Some(dim) = self.shape.iter().find(|d| **d == 0 || i64::try_from(**d).is_err()) {
            return fail(self.name, Kind::Dimension { tensor, dim: *dim });
        }
        let element = u64::try_from(dtype.block_bytes()).unwrap_or(1);
        let Some(computed) = self.shape.iter().try_fold(element, |n, d| n.checked_mul(*d)) else {
            return fail(self.name, Kind::TensorOverflow { tensor });
        };
        let declared = self.end.checked_sub(self.begin);
        if declared != Some(computed) {
            let declared = declared.unwrap_or(0);
            return fail(self.name, Kind::TensorSize { tensor, declared, computed });
        }
        let start = data_start.checked_add(self.begin);
        match start.and_then(|start| Extent::new(start, computed, file_len)) {
            Some(extent) => Ok(RawTensor { name: self.name, dtype, shape: self.shape, extent }),
            None => {
                let start = start.unwrap_or(u64::MAX);
                fail(self.name, Kind::TensorPastEnd { tensor, start, len: computed, file_len })
            }
        }
    }
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        _ => return None,
    })
}

/// The header: tensors by name, and `__metadata__`, which nothing here needs.
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let max = usize::try_from(TENSORS_MAX).unwrap_or(usize::MAX);
                let name_max = usize::try_from(TENSOR_PATH_BYTES_MAX).unwrap_or(usize::MAX);
                let mut seen = std::collections::BTreeSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > name_max {
                        return Err(A::Error::custom(format_args!("a tensor name of more than {name_max} bytes")));
                    }
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format_args!("\"{}\" occurs twice", shown(&name))));
                    }
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() >= max {
                        return Err(A::Error::custom(format_args!("more than {max} tensors")));
                    }
                    let fields: Fields = map.next_value()?;
                    let [begin, end] = fields.data_offsets;
                    entries.push(Entry { name, dtype: fields.dtype, shape: fields.shape.0, begin, end });
                }
                Ok(Entries(entries))
            }
        }
        d.deserialize_map(V)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// At most `TENSOR_DIMS_MAX` dimensions, so that a list cannot choose the memory.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let max = usize::try_from(TENSOR_DIMS_MAX).unwrap_or(usize::MAX);
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() >= max {
                        return Err(A::Error::custom(format_args!("more than {max} dimensions")));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        d.deserialize_seq(V)
    }
}
