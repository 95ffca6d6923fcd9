//! The GGUF reader. Every count and length is compared with the bytes that are left before anything is allocated,
//! so memory never exceeds a small multiple of the header that was really there.

use base::limits;
use base::vocab::StrTable;
use quant::DType;

use crate::error::{FormatError, Kind, shown};
use crate::extent::Extent;
use crate::gguf::{Array, Gguf, Pair, Tensor, Value};

/// Magic, version, two counts.
pub(crate) const METADATA_START: u64 = 24;
const ALIGNMENT_DEFAULT: u64 = 32;
/// Key length, one key byte, type, one value byte.
const PAIR_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Name length, one name byte, n_dims, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

type Res<T> = Result<T, FormatError>;

/// A cursor over the file that stops at the header limit.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn offset(&self) -> u64 {
        u64::try_from(self.at).unwrap_or(u64::MAX)
    }

    fn left(&self) -> u64 {
        u64::try_from(self.bytes.len().saturating_sub(self.at)).unwrap_or(u64::MAX)
    }

    fn fail<T>(&self, kind: Kind) -> Res<T> {
        Err(FormatError::gguf(self.offset(), kind))
    }

    fn take(&mut self, n: u64, what: &'static str) -> Res<&'a [u8]> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, run)) => {
                self.at = end;
                Ok(run)
            }
            None => self.fail(Kind::Truncated { what, need: n, have: self.left() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Res<[u8; N]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(run) => {
                self.at = self.at.saturating_add(N);
                Ok(*run)
            }
            None => self.fail(Kind::Truncated { what, need: N.try_into().unwrap_or(u64::MAX), have: self.left() }),
        }
    }

    fn u32(&mut self, what: &'static str) -> Res<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Res<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things of at least `bytes_each` bytes: within `max`, and with enough bytes left for all of them.
    fn count(&mut self, what: &'static str, max: u64, bytes_each: u64) -> Res<u64> {
        let start = self.offset();
        let count = self.u64(what)?;
        if count > max {
            return Err(FormatError::gguf(start, Kind::TooMany { what, count, max }));
        }
        match count.checked_mul(bytes_each) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            _ => Err(FormatError::gguf(start, Kind::PastEnd { what, count, have: self.left() })),
        }
    }

    /// A length-prefixed UTF-8 string of at most `max` bytes; `size` is what its length is called in errors.
    fn string(&mut self, what: &'static str, size: &'static str, max: u64) -> Res<&'a str> {
        let len = self.count(size, max, 1)?;
        let start = self.offset();
        let run = self.take(len, what)?;
        std::str::from_utf8(run).map_err(|e| {
            let in_run = u64::try_from(e.valid_up_to()).unwrap_or(0);
            FormatError::gguf(start.saturating_add(in_run), Kind::Utf8 { what })
        })
    }
}

/// See [`Gguf::parse`].
pub(crate) fn parse(bytes: &[u8]) -> Res<Gguf> {
    let max = limits::GGUF_HEADER_BYTES_MAX;
    let file_len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let header = usize::try_from(max).ok().and_then(|max| bytes.get(..max)).unwrap_or(bytes);
    parse_header(header, file_len).map_err(|e| match e.kind() {
        // The cursor stops at the limit: say so, and not that the file is short.
        Kind::Truncated { .. } | Kind::PastEnd { .. } if file_len > max => {
            FormatError::gguf(e.offset(), Kind::TooMany { what: "the header's size", count: file_len, max })
        }
        _ => e,
    })
}

fn parse_header(header: &[u8], file_len: u64) -> Res<Gguf> {
    let mut r = Reader { bytes: header, at: 0 };
    let version = read_magic(&mut r)?;
    let counts_at = r.offset();
    let n_tensors = r.u64("the tensor count")?;
    let n_pairs = r.count("the metadata count", limits::GGUF_KV_MAX, PAIR_BYTES_MIN)?;
    if n_tensors > limits::GGUF_TENSORS_MAX {
        let kind = Kind::TooMany { what: "the tensor count", count: n_tensors, max: limits::GGUF_TENSORS_MAX };
        return Err(FormatError::gguf(counts_at, kind));
    }
    if n_tensors.saturating_mul(TENSOR_BYTES_MIN) > r.left() {
        let kind = Kind::PastEnd { what: "the tensor count", count: n_tensors, have: r.left() };
        return Err(FormatError::gguf(counts_at, kind));
    }
    let mut gguf = Gguf {
        version,
        pairs: read_pairs(&mut r, n_pairs)?,
        by_key: Vec::new(),
        tensors: Vec::new(),
        by_name: Vec::new(),
        alignment: ALIGNMENT_DEFAULT,
        data_start: 0,
        file_len,
    };
    gguf.by_key = index(&gguf.pairs, "metadata key", |p| (&p.key, p.offset))?;
    gguf.alignment = alignment(&gguf)?;
    let entries = read_entries(&mut r, n_tensors)?;
    gguf.data_start = r.offset().checked_next_multiple_of(gguf.alignment).unwrap_or(u64::MAX);
    gguf.tensors = place(entries, gguf.alignment, gguf.data_start, file_len)?;
    gguf.by_name = index(&gguf.tensors, "tensor name", |t| (&t.name, t.entry_offset))?;
    refuse_overlap(&gguf.tensors)?;
    Ok(gguf)
}

fn read_magic(r: &mut Reader<'_>) -> Res<u32> {
    let start = r.bytes.get(..4).unwrap_or(r.bytes);
    if start != b"GGUF" {
        let found = match start {
            [] => "nothing: it is empty".to_owned(),
            some => format!("\"{}\"", some.escape_ascii()),
        };
        return r.fail(Kind::Magic { format: "GGUF", found });
    }
    r.take(4, "the magic")?;
    let at = r.offset();
    match r.u32("the version")? {
        v @ (2 | 3) => Ok(v),
        v if v != 0 && v.trailing_zeros() >= 16 => Err(FormatError::gguf(at, Kind::BigEndian)),
        v => Err(FormatError::gguf(at, Kind::Version(v))),
    }
}

fn read_pairs(r: &mut Reader<'_>, n: u64) -> Res<Vec<Pair>> {
    let mut pairs = Vec::new();
    for _ in 0..n {
        let key_at = r.offset();
        let key = r.string("a metadata key", "the size of a metadata key", limits::GGUF_KEY_BYTES_MAX)?;
        if key.is_empty() {
            return Err(FormatError::gguf(key_at, Kind::Empty { what: "a metadata key" }));
        }
        let type_at = r.offset();
        let number = r.u32("a value type")?;
        let offset = r.offset();
        let value = match number {
            9 => Value::Array(read_array(r, key)?),
            _ => match read_scalar(r, number, key)? {
                Some(value) => value,
                None => return Err(FormatError::gguf(type_at, Kind::ValueType { key: shown(key), number })),
            },
        };
        pairs.push(Pair { key: key.to_owned(), value, offset });
    }
    Ok(pairs)
}

fn read_bool(r: &Reader<'_>, byte: u8, back: u64, key: &str) -> Res<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(FormatError::gguf(r.offset().saturating_sub(back), Kind::Boolean { key: shown(key), value })),
    }
}

/// `None` for a type number that is not a scalar's.
fn read_scalar(r: &mut Reader<'_>, number: u32, key: &str) -> Res<Option<Value>> {
    const WHAT: &str = "a metadata value";
    Ok(Some(match number {
        0 => Value::U8(u8::from_le_bytes(r.array(WHAT)?)),
        1 => Value::I8(i8::from_le_bytes(r.array(WHAT)?)),
        2 => Value::U16(u16::from_le_bytes(r.array(WHAT)?)),
        3 => Value::I16(i16::from_le_bytes(r.array(WHAT)?)),
        4 => Value::U32(r.u32(WHAT)?),
        5 => Value::I32(i32::from_le_bytes(r.array(WHAT)?)),
        6 => Value::F32(f32::from_le_bytes(r.array(WHAT)?)),
        7 => {
            let [byte] = r.array(WHAT)?;
            Value::Bool(read_bool(r, byte, 1, key)?)
        }
        8 => Value::Str(
            r.string("a string value", "the size of a string value", limits::GGUF_STRING_BYTES_MAX)?.to_owned(),
        ),
        10 => Value::U64(r.u64(WHAT)?),
        11 => Value::I64(i64::from_le_bytes(r.array(WHAT)?)),
        12 => Value::F64(f64::from_le_bytes(r.array(WHAT)?)),
        _ => return Ok(None),
    }))
}

fn read_array(r: &mut Reader<'_>, key: &str) -> Res<Array> {
    let type_at = r.offset();
    let number = r.u32("an array's element type")?;
    macro_rules! numbers {
        ($variant:ident, $type:ty) => {
            Array::$variant(read_numbers(r, <$type>::from_le_bytes)?)
        };
    }
    Ok(match number {
        0 => numbers!(U8, u8),
        1 => numbers!(I8, i8),
        2 => numbers!(U16, u16),
        3 => numbers!(I16, i16),
        4 => numbers!(U32, u32),
        5 => numbers!(I32, i32),
        6 => numbers!(F32, f32),
        7 => {
            let bytes = read_numbers(r, u8::from_le_bytes)?;
            let mut back = u64::try_from(bytes.len()).unwrap_or(0);
            let mut flags = Vec::with_capacity(bytes.len());
            for byte in bytes {
                flags.push(read_bool(r, byte, back, key)?);
                back = back.saturating_sub(1);
            }
            Array::Bool(flags)
        }
        8 => Array::Str(read_strings(r)?),
        9 => return Err(FormatError::gguf(type_at, Kind::NestedArray { key: shown(key) })),
        10 => numbers!(U64, u64),
        11 => numbers!(I64, i64),
        12 => numbers!(F64, f64),
        _ => return Err(FormatError::gguf(type_at, Kind::ValueType { key: shown(key), number })),
    })
}

fn read_numbers<T, const N: usize>(r: &mut Reader<'_>, from: fn([u8; N]) -> T) -> Res<Vec<T>> {
    let width = u64::try_from(N).unwrap_or(u64::MAX);
    let n = r.count("an array's length", limits::GGUF_ARRAY_MAX, width)?;
    let run = r.take(n.saturating_mul(width), "an array")?;
    // The run is really there, so this allocates no more than the file holds.
    Ok(run.as_chunks::<N>().0.iter().map(|c| from(*c)).collect())
}

fn read_strings(r: &mut Reader<'_>) -> Res<StrTable> {
    let n = r.count("an array's length", limits::GGUF_ARRAY_MAX, 8)?;
    let mut table = StrTable::new();
    for _ in 0..n {
        let at = r.offset();
        let text =
            r.string("a string in an array", "the size of a string in an array", limits::GGUF_STRING_BYTES_MAX)?;
        if table.push(text).is_none() {
            let max = u64::from(u32::MAX);
            return Err(FormatError::gguf(at, Kind::TooMany { what: "an array's bytes", count: max, max }));
        }
    }
    Ok(table)
}

fn alignment(gguf: &Gguf) -> Res<u64> {
    const KEY: &str = "general.alignment";
    let Some(value) = gguf.opt_u64(KEY)? else { return Ok(ALIGNMENT_DEFAULT) };
    if value < 8 || !value.is_power_of_two() {
        return Err(gguf.wrong(KEY, Kind::Alignment(value)));
    }
    Ok(value)
}

/// A directory entry before its place in the file is checked.
struct Entry {
    name: String,
    dtype: DType,
    ne: [u64; 4],
    n_dims: usize,
    bytes: u64,
    offset: u64,
    entry_offset: u64,
    offset_at: u64,
}

fn read_entries(r: &mut Reader<'_>, n: u64) -> Res<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..n {
        let entry_offset = r.offset();
        let name = r.string("a tensor name", "the size of a tensor name", limits::TENSOR_NAME_BYTES_MAX)?;
        if name.is_empty() {
            return Err(FormatError::gguf(entry_offset, Kind::Empty { what: "a tensor name" }));
        }
        let dims_at = r.offset();
        let (ne, n_dims) = read_dims(r, name)?;
        let type_at = r.offset();
        let number = r.u32("a tensor's type")?;
        let Some(dtype) = DType::from_gguf(number) else {
            let kind = Kind::TensorType {
                tensor: shown(name),
                number: number.to_string(),
                name: foreign_type(number).to_owned(),
            };
            return Err(FormatError::gguf(type_at, kind));
        };
        let bytes = tensor_bytes(name, dtype, &ne).map_err(|kind| FormatError::gguf(dims_at, kind))?;
        let offset_at = r.offset();
        let offset = r.u64("a tensor's offset")?;
        entries.push(Entry { name: name.to_owned(), dtype, ne, n_dims, bytes, offset, entry_offset, offset_at });
    }
    Ok(entries)
}

fn read_dims(r: &mut Reader<'_>, name: &str) -> Res<([u64; 4], usize)> {
    let at = r.offset();
    let n_dims = r.u32("a tensor's dimension count")?;
    if n_dims == 0 || n_dims > limits::TENSOR_DIMS_MAX {
        let (dims, max) = (n_dims.into(), limits::TENSOR_DIMS_MAX.into());
        return Err(FormatError::gguf(at, Kind::Dimensions { tensor: shown(name), dims, max }));
    }
    let n_dims = usize::try_from(n_dims).unwrap_or(0);
    let mut ne = [1u64; 4];
    for slot in ne.iter_mut().take(n_dims) {
        let at = r.offset();
        *slot = r.u64("a tensor's dimension")?;
        // Other engines hold dimensions as signed numbers: what is negative there is refused here.
        if *slot == 0 || i64::try_from(*slot).is_err() {
            return Err(FormatError::gguf(at, Kind::Dimension { tensor: shown(name), dim: *slot }));
        }
    }
    Ok((ne, n_dims))
}

/// Bytes of a tensor: elements and bytes both representable, rows made of whole blocks.
fn tensor_bytes(name: &str, dtype: DType, ne: &[u64; 4]) -> Result<u64, Kind> {
    let overflow = || Kind::TensorOverflow { tensor: shown(name) };
    let [row, rest @ ..] = *ne;
    let block = u64::try_from(dtype.block_len()).unwrap_or(1);
    if !row.is_multiple_of(block) {
        return Err(Kind::RowBlock { tensor: shown(name), row, block });
    }
    let elements = rest.iter().try_fold(row, |n, d| n.checked_mul(*d)).ok_or_else(overflow)?;
    i64::try_from(elements).map_err(|_| overflow())?;
    let row_bytes = dtype.row_bytes(row).ok_or_else(overflow)?;
    let bytes = rest.iter().try_fold(row_bytes, |n, d| n.checked_mul(*d)).ok_or_else(overflow)?;
    i64::try_from(bytes).map_err(|_| overflow())?;
    Ok(bytes)
}

/// Names of ggml types that this engine does not compute with, so that an error can say which one it met.
fn foreign_type(number: u32) -> &'static str {
    match number {
        4 | 5 => "removed from ggml",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        31..=33 | 36..=38 => "removed from ggml",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => "unknown",
    }
}

fn place(entries: Vec<Entry>, alignment: u64, data_start: u64, file_len: u64) -> Res<Vec<Tensor>> {
    let mut tensors = Vec::with_capacity(entries.len());
    for e in entries {
        if !e.offset.is_multiple_of(alignment) {
            let kind = Kind::Unaligned { tensor: shown(&e.name), offset: e.offset, alignment };
            return Err(FormatError::gguf(e.offset_at, kind));
        }
        let start = data_start.checked_add(e.offset);
        let Some(extent) = start.and_then(|start| Extent::new(start, e.bytes, file_len)) else {
            let kind = Kind::TensorPastEnd {
                tensor: shown(&e.name),
                start: start.unwrap_or(u64::MAX),
                len: e.bytes,
                file_len,
            };
            return Err(FormatError::gguf(e.offset_at, kind));
        };
        tensors.push(Tensor {
            name: e.name,
            dtype: e.dtype,
            ne: e.ne,
            n_dims: e.n_dims,
            extent,
            entry_offset: e.entry_offset,
        });
    }
    Ok(tensors)
}

/// Indices sorted by name; a name that occurs twice is refused at its second place.
fn index<'a, T>(items: &'a [T], what: &'static str, of: impl Fn(&'a T) -> (&'a String, u64)) -> Res<Vec<u32>> {
    let mut order: Vec<(&str, u32, u64)> = Vec::with_capacity(items.len());
    for (i, item) in (0u32..).zip(items) {
        let (name, offset) = of(item);
        order.push((name, i, offset));
    }
    order.sort_unstable();
    for (a, b) in order.iter().zip(order.iter().skip(1)) {
        if a.0 == b.0 {
            return Err(FormatError::gguf(b.2, Kind::Duplicate { what, name: shown(b.0) }));
        }
    }
    Ok(order.into_iter().map(|(_, i, _)| i).collect())
}

fn refuse_overlap(tensors: &[Tensor]) -> Res<()> {
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.extent, t.entry_offset));
    for (a, b) in order.iter().zip(order.iter().skip(1)) {
        if b.extent.offset() < a.extent.end() {
            let kind = Kind::Overlap { first: shown(&a.name), second: shown(&b.name) };
            return Err(FormatError::gguf(b.entry_offset, kind));
        }
    }
    Ok(())
}
