//! Writes tiny GGUF files, right ones and, with `raw`, wrong ones.

#[derive(Clone)]
pub enum Val {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Str(String),
    Strs(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// Type number and body as they are.
    Raw(u32, Vec<u8>),
}

#[derive(Clone)]
pub struct TensorSpec {
    pub name: String,
    pub dims: Vec<u64>,
    pub dtype: u32,
    pub data: Vec<u8>,
}

#[derive(Clone)]
pub struct Writer {
    pub version: u32,
    pub alignment: usize,
    pub pairs: Vec<(String, Val)>,
    pub tensors: Vec<TensorSpec>,
}

/// A written file and the places that a mutator likes to hit.
pub struct Written {
    pub bytes: Vec<u8>,
    pub header_len: usize,
    /// Start and width of every count, length, type, dimension and offset.
    pub fields: Vec<(usize, usize)>,
}

pub fn str(s: &str) -> Val {
    Val::Str(s.to_owned())
}

pub fn strs(s: &[&str]) -> Val {
    Val::Strs(s.iter().map(|s| (*s).to_owned()).collect())
}

impl Writer {
    pub fn new() -> Writer {
        Writer { version: 3, alignment: 32, pairs: Vec::new(), tensors: Vec::new() }
    }

    pub fn pair(mut self, key: &str, val: Val) -> Writer {
        self.pairs.push((key.to_owned(), val));
        self
    }

    pub fn set(&mut self, key: &str, val: Val) {
        match self.pairs.iter_mut().find(|(k, _)| k == key) {
            Some(pair) => pair.1 = val,
            None => self.pairs.push((key.to_owned(), val)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(k, _)| k != key);
    }

    pub fn f32_tensor(mut self, name: &str, dims: &[u64]) -> Writer {
        let n: u64 = dims.iter().product();
        let data = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        self.tensors.push(TensorSpec { name: name.to_owned(), dims: dims.to_vec(), dtype: 0, data });
        self
    }

    pub fn write(&self) -> Written {
        let mut w = Out::default();
        w.bytes.extend_from_slice(b"GGUF");
        w.int32(self.version);
        w.int64(self.tensors.len() as u64);
        w.int64(self.pairs.len() as u64);
        for (key, val) in &self.pairs {
            w.string(key);
            w.value(val);
        }
        let mut offset = 0usize;
        for t in &self.tensors {
            w.string(&t.name);
            w.int32(t.dims.len() as u32);
            for d in &t.dims {
                w.int64(*d);
            }
            w.int32(t.dtype);
            w.int64(offset as u64);
            offset = (offset + t.data.len()).next_multiple_of(self.alignment);
        }
        let header_len = w.bytes.len();
        for t in &self.tensors {
            w.bytes.resize(w.bytes.len().next_multiple_of(self.alignment), 0);
            w.bytes.extend_from_slice(&t.data);
        }
        w.bytes.resize(w.bytes.len().next_multiple_of(self.alignment), 0);
        Written { bytes: w.bytes, header_len, fields: w.fields }
    }
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    fields: Vec<(usize, usize)>,
}

impl Out {
    fn int32(&mut self, n: u32) {
        self.fields.push((self.bytes.len(), 4));
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }
    fn int64(&mut self, n: u64) {
        self.fields.push((self.bytes.len(), 8));
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }
    fn string(&mut self, s: &str) {
        self.int64(s.len() as u64);
        self.bytes.extend_from_slice(s.as_bytes());
    }
    fn array(&mut self, element: u32, len: usize) {
        self.int32(9);
        self.int32(element);
        self.int64(len as u64);
    }
    fn value(&mut self, val: &Val) {
        match val {
            Val::U8(x) => {
                self.int32(0);
                self.bytes.push(*x);
            }
            Val::U32(x) => {
                self.int32(4);
                self.int32(*x);
            }
            Val::I32(x) => {
                self.int32(5);
                self.bytes.extend_from_slice(&x.to_le_bytes());
            }
            Val::U64(x) => {
                self.int32(10);
                self.int64(*x);
            }
            Val::F32(x) => {
                self.int32(6);
                self.bytes.extend_from_slice(&x.to_le_bytes());
            }
            Val::Bool(x) => {
                self.int32(7);
                self.bytes.push(u8::from(*x));
            }
            Val::Str(s) => {
                self.int32(8);
                self.string(s);
            }
            Val::Strs(v) => {
                self.array(8, v.len());
                v.iter().for_each(|s| self.string(s));
            }
            Val::I32s(v) => {
                self.array(5, v.len());
                v.iter().for_each(|x| self.bytes.extend_from_slice(&x.to_le_bytes()));
            }
            Val::F32s(v) => {
                self.array(6, v.len());
                v.iter().for_each(|x| self.bytes.extend_from_slice(&x.to_le_bytes()));
            }
            Val::Raw(number, body) => {
                self.int32(*number);
                self.bytes.extend_from_slice(body);
            }
        }
    }
}

/// A whole tiny model: one layer, four heads of eight, a vocabulary of twelve byte-level tokens.
pub fn tiny_model(arch: &str) -> Writer {
    let tokens = [
        "a",
        "b",
        "c",
        "ab",
        "abc",
        "Ġ",
        "<|endoftext|>",
        "<|im_end|>",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        "z",
    ];
    let mut kinds = vec![1i32; 12];
    kinds[6..11].fill(3);
    let key = |name: &str| format!("{arch}.{name}");
    let mut w = Writer::new()
        .pair("general.architecture", str(arch))
        .pair("general.name", str("tiny"))
        .pair("general.file_type", Val::U32(0))
        .pair(&key("block_count"), Val::U32(1))
        .pair(&key("context_length"), Val::U32(64))
        .pair(&key("embedding_length"), Val::U32(32))
        .pair(&key("feed_forward_length"), Val::U32(64))
        .pair(&key("attention.head_count"), Val::U32(4))
        .pair(&key("attention.head_count_kv"), Val::U32(2))
        .pair(&key("attention.layer_norm_rms_epsilon"), Val::F32(1e-5))
        .pair(&key("rope.freq_base"), Val::F32(10_000.0))
        .pair("tokenizer.ggml.model", str("gpt2"))
        .pair("tokenizer.ggml.pre", str("qwen2"))
        .pair("tokenizer.ggml.tokens", strs(&tokens))
        .pair("tokenizer.ggml.token_type", Val::I32s(kinds))
        .pair("tokenizer.ggml.merges", strs(&["a b", "ab c"]))
        .pair("tokenizer.ggml.eos_token_id", Val::U32(6))
        .pair("tokenizer.ggml.add_bos_token", Val::Bool(false))
        .pair("tokenizer.chat_template", str("{{ messages[0].content }}"))
        .f32_tensor("token_embd.weight", &[32, 12])
        .f32_tensor("output_norm.weight", &[32]);
    for (name, rows, cols) in [
        ("attn_q", 32, 32),
        ("attn_k", 16, 32),
        ("attn_v", 16, 32),
        ("attn_output", 32, 32),
        ("ffn_gate", 64, 32),
        ("ffn_up", 64, 32),
        ("ffn_down", 32, 64),
    ] {
        w = w.f32_tensor(&format!("blk.0.{name}.weight"), &[cols, rows]);
    }
    w.f32_tensor("blk.0.attn_norm.weight", &[32]).f32_tensor("blk.0.ffn_norm.weight", &[32])
}

/// Metadata of every type, and quantised tensors of odd sizes: nothing that a model needs.
pub fn every_type() -> Writer {
    let mut w = Writer::new()
        .pair("general.architecture", str("llama"))
        .pair("u8", Val::U8(7))
        .pair("i8", Val::Raw(1, vec![0xff]))
        .pair("u16", Val::Raw(2, vec![1, 2]))
        .pair("i16", Val::Raw(3, vec![0xfe, 0xff]))
        .pair("u32", Val::U32(70_000))
        .pair("i32", Val::I32(-5))
        .pair("f32", Val::F32(1.5))
        .pair("bool", Val::Bool(true))
        .pair("u64", Val::U64(1 << 40))
        .pair("i64", Val::Raw(11, (-9i64).to_le_bytes().to_vec()))
        .pair("f64", Val::Raw(12, 2.5f64.to_le_bytes().to_vec()))
        .pair("bools", Val::Raw(9, [&7u32.to_le_bytes()[..], &3u64.to_le_bytes(), &[1, 0, 1]].concat()))
        .pair("u16s", Val::Raw(9, [&2u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 0, 2, 0]].concat()))
        .pair("empty", strs(&[]))
        .pair("strings", strs(&["", "x", "é▁😀"]))
        .pair("floats", Val::F32s(vec![0.5, -0.5]))
        .f32_tensor("cube", &[3, 2, 2, 1]);
    for (name, dtype, cols, rows, bytes) in
        [("q4_0", 2u32, 64u64, 3u64, 108usize), ("q4_k", 12, 256, 1, 144), ("q6_k", 14, 512, 2, 840)]
    {
        let data = (0..bytes).map(|i| i as u8).collect();
        w.tensors.push(TensorSpec { name: name.to_owned(), dims: vec![cols, rows], dtype, data });
    }
    w
}
