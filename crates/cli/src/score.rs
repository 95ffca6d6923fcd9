//! `vonk logits` and `vonk perplexity`: every position's logits.

use crate::args;
use crate::fault::{Fault, print_json, read_text};
use crate::open::{Opened, WithBackend, open, with_backend};
use engine::Want;
use ops::{Backend, math};
use serde_json::json;
use std::io::{BufWriter, Write};
use text::Encode;

/// Calls `each(index, logits)` for every token of windows of `window` tokens, `chunk` rows at a time.
struct Score<'a, F> {
    opened: &'a Opened,
    ids: &'a [u32],
    window: usize,
    chunk: usize,
    each: F,
}

impl<F: FnMut(usize, &[f32]) -> Result<(), Fault>> WithBackend for Score<'_, F> {
    type Out = ();
    fn run<B: Backend + 'static>(mut self, backend: B) -> Result<(), Fault> {
        let mut probe = self.opened.probe(backend, self.window.min(self.ids.len()).max(1), self.chunk, self.chunk)?;
        let mut at = 0;
        for window in self.ids.chunks(self.window) {
            probe.rewind(0);
            for tokens in window.chunks(self.chunk) {
                let n = probe.step(tokens, Want::All);
                for i in 0..n {
                    (self.each)(at, probe.logits(i))?;
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

fn ids_of(opened: &Opened, file: &std::path::Path) -> Result<Vec<u32>, Fault> {
    let text = read_text(file)?;
    let ids = opened.text()?.tokenizer.encode(&text, Encode::PROMPT);
    if ids.is_empty() { Err(Fault::input(format!("{} is empty", file.display()))) } else { Ok(ids) }
}

/// `vonk logits`.
pub fn logits(args: args::Logits) -> Result<(), Fault> {
    let opened = open(Some(&args.model))?;
    let ids = ids_of(&opened, &args.text_file)?;
    let n_vocab = opened.loaded.desc.hp.n_vocab;
    let n_ctx = opened.loaded.desc.hp.n_ctx;
    if ids.len() > n_ctx {
        return Err(Fault::input(format!("{} tokens are more than the context of {n_ctx}; cut the text", ids.len())));
    }
    let file = std::fs::File::create(&args.out)
        .map_err(|e| Fault::input(format!("cannot write {}: {e}", args.out.display())))?;
    let mut out = BufWriter::new(file);
    let mut bytes = Vec::with_capacity(n_vocab * 4);
    let each = |_: usize, row: &[f32]| {
        bytes.clear();
        row.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        Ok(out.write_all(&bytes)?)
    };
    with_backend(
        &args.engine,
        Score { opened: &opened, ids: &ids, window: ids.len(), chunk: args.chunk as usize, each },
    )?;
    out.flush()?;
    if args.json {
        return print_json(&json!({"shape": [ids.len(), n_vocab], "dtype": "f32", "ids": ids}));
    }
    println!("[{}, {n_vocab}]", ids.len());
    Ok(())
}

/// `vonk perplexity`.
pub fn perplexity(args: args::Perplexity) -> Result<(), Fault> {
    let opened = open(Some(&args.model))?;
    let ids = ids_of(&opened, &args.file)?;
    if ids.len() < 2 {
        return Err(Fault::input(format!("{} has one token; at least two are needed", args.file.display())));
    }
    let window = (args.window as usize).min(opened.loaded.desc.hp.n_ctx);
    let (mut nll, mut n) = (0.0f64, 0usize);
    let each = |at: usize, row: &[f32]| {
        if let Some(next) = ids.get(at + 1).filter(|_| !(at + 1).is_multiple_of(window)) {
            let max = engine::sampler::argmax(row).1;
            let sum: f64 = row.iter().map(|l| f64::from(math::exp(l - max))).sum();
            nll += sum.ln() - f64::from(row[*next as usize] - max);
            n += 1;
        }
        Ok(())
    };
    with_backend(&args.engine, Score { opened: &opened, ids: &ids, window, chunk: 64, each })?;
    let perplexity = (nll / n.max(1) as f64).exp();
    if args.json {
        return print_json(&json!({"perplexity": perplexity, "tokens": n}));
    }
    println!("perplexity {perplexity:.4} over {n} tokens");
    Ok(())
}
