//! Writes the seeds: `seeds FOLDER` makes `FOLDER/TARGET/seed-N` for every target.
#![forbid(unsafe_code)]

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    for t in targets::TARGETS {
        let dir = root.join(t.name);
        std::fs::create_dir_all(&dir)?;
        for (i, seed) in (t.seeds)().iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
