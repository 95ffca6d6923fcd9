//! Peak memory from opening a model file to its first token: the file's size, the KV cache and 15 %, plus a constant for
//! scratch. The model is a file of holes, so that it costs no disk; its process does nothing else, so that the system's own
//! record of the peak can be read. Where the system keeps none there is nothing to see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::Cpu;
use model::{Model, Scratch};
use ops::{Backend, Batch, Row};
use std::io::Write;
use store::LoadedModel;

const D_MODEL: u64 = 1024;
const D_FF: u64 = 4096;
const D_KV: u64 = 256;
const N_VOCAB: u64 = 65_536;
const N_LAYERS: u64 = 6;
/// Scratch for one row and pages rounded up to 2 MiB.
const REST_BYTES: u64 = 8 << 20;

/// GGUF's numbers for F32, Q8_0 and Q4_K, with the elements and bytes of a block.
const F32: (u32, u64, u64) = (0, 1, 4);
const Q8_0: (u32, u64, u64) = (8, 32, 34);
const Q4_K: (u32, u64, u64) = (12, 256, 144);

/// A llama of zeros whose embedding is half of it.
fn write_model(path: &std::path::Path) {
    let mut tensors = vec![("token_embd.weight".to_string(), vec![D_MODEL, N_VOCAB], Q8_0)];
    tensors.push(("output_norm.weight".into(), vec![D_MODEL], F32));
    for i in 0..N_LAYERS {
        let mut add = |name: &str, dims: &[u64], kind| {
            tensors.push((format!("blk.{i}.{name}.weight"), dims.to_vec(), kind));
        };
        add("attn_norm", &[D_MODEL], F32);
        add("ffn_norm", &[D_MODEL], F32);
        for (name, n_in, n_out) in [
            ("attn_q", D_MODEL, D_MODEL),
            ("attn_k", D_MODEL, D_KV),
            ("attn_v", D_MODEL, D_KV),
            ("attn_output", D_MODEL, D_MODEL),
            ("ffn_gate", D_MODEL, D_FF),
            ("ffn_up", D_MODEL, D_FF),
            ("ffn_down", D_FF, D_MODEL),
        ] {
            add(name, &[n_in, n_out], Q4_K);
        }
    }
    let text = |s: &str| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat();
    let number =
        |key: &str, kind: u32, bytes: [u8; 4]| [text(key), kind.to_le_bytes().to_vec(), bytes.to_vec()].concat();
    let sizes = [
        ("llama.block_count", N_LAYERS),
        ("llama.attention.head_count", 16),
        ("llama.attention.head_count_kv", 4),
        ("llama.embedding_length", D_MODEL),
        ("llama.feed_forward_length", D_FF),
        ("llama.context_length", 2048),
    ];
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((sizes.len() as u64 + 2).to_le_bytes());
    head.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
    for (key, n) in sizes {
        head.extend(number(key, 4, (n as u32).to_le_bytes()));
    }
    head.extend(number("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes()));
    let mut at = 0u64;
    for (name, dims, (kind, block_len, block_bytes)) in &tensors {
        head.extend(text(name));
        head.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| head.extend(d.to_le_bytes()));
        head.extend(kind.to_le_bytes());
        head.extend(at.to_le_bytes());
        at = (at + dims.iter().product::<u64>() / block_len * block_bytes).next_multiple_of(32);
    }
    head.resize(head.len().next_multiple_of(32), 0);
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(head.len() as u64 + at).unwrap();
}

/// A figure of this process, in bytes.
fn status(key: &str) -> Option<u64> {
    let all = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = all.lines().find(|l| l.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

fn main() {
    let (Some(before), Some(mut cpu)) = (status("VmRSS:"), Cpu::new(None, 2)) else {
        return println!("skipped: no record of memory, or no fast backend");
    };
    let path = std::env::temp_dir().join(format!("vonk-memory-{}.gguf", std::process::id()));
    write_model(&path);
    let loaded = LoadedModel::open(&path);
    std::fs::remove_file(&path).unwrap();
    let loaded = loaded.unwrap();
    let file: u64 = loaded.bytes().iter().map(|b| b.len() as u64).sum();
    let model = Model::load(&mut cpu, &loaded.desc, &loaded.bytes(), |t, range| loaded.release(t, range)).unwrap();
    let shape = model.kv_shape(2);
    let mut kv = cpu.new_kv(shape).unwrap();
    let mut scratch = Scratch::new(&mut cpu, &model, 1, 1, 128).unwrap();
    let rows = [Row { token: 1, pos: 0, table: 0 }];
    model.forward(&mut cpu, &mut kv, &mut scratch, Batch { rows: &rows, pages: &[0, 1] }, &[0]);

    let peak = status("VmHWM:").unwrap() - before;
    let kv = (shape.bytes_per_token(ops::KvType::F16) * shape.n_pages * ops::PAGE_LEN) as u64;
    let most = (file + kv) * 115 / 100 + REST_BYTES;
    let mib = |bytes: u64| bytes >> 20;
    println!("a file of {} MiB peaks at {} MiB, allowed are {}", mib(file), mib(peak), mib(most));
    assert!(file > 100 << 20, "large enough to tell");
    assert!(peak > file, "the weights are really there: the figure means something");
    assert!(peak <= most, "loading takes more memory than promised");
}
