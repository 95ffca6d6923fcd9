//! `vonk bench symbols`: the definitions that the completion's index finds in files, and how long that takes.

use std::io::read_to_string;
use std::path::PathBuf;
use std::time::Instant;

use crate::args;
use crate::fault::Fault;
use lsp::brain::outline::definitions;
use serde_json::json;

/// `vonk bench symbols`.
pub fn symbols(args: args::BenchSymbols) -> Result<(), Fault> {
    let mut files = args.files;
    if files == [PathBuf::from("-")] {
        files = read_to_string(std::io::stdin())?.lines().map(PathBuf::from).collect();
    }
    for path in files {
        let bytes = std::fs::read(&path).map_err(|e| Fault::input(format!("{}: {e}", path.display())))?;
        let text = String::from_utf8_lossy(&bytes);
        let begin = Instant::now();
        let found = definitions(&path.to_string_lossy(), &text);
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        match args.json {
            true => {
                let found: Vec<_> = found.iter().map(|d| json!({"line": d.line, "name": d.name})).collect();
                println!("{}", json!({"path": path, "bytes": text.len(), "ms": ms, "definitions": found}));
            }
            false => found.iter().for_each(|d| println!("{}:{}: {}", path.display(), d.line + 1, d.name)),
        }
    }
    Ok(())
}
