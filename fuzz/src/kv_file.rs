//! Any bytes as a file of KV pages. The first byte chooses: 0 as they are, else every checksum is made right first, so that
//! the rules behind the checksums meet hostile records too. What is accepted is a forest of pages of the right size.

use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

#[path = "../../crates/store/src/kv_file/format.rs"]
#[allow(dead_code)]
mod format;

use format::{Encoder, Form, HEADER_BYTES, KvRecord};

const PAGE_LEN: usize = 4;
const PAGE_BYTES: usize = 24;
const SUM: usize = 32;

fn form() -> Form {
    Form::new("fuzz", PAGE_LEN, PAGE_BYTES).unwrap_or_else(|| unreachable!())
}

/// Makes the header's and each whole record's checksum right.
fn seal(file: &mut [u8]) {
    let Some((header, records)) = file.split_at_mut_checked(HEADER_BYTES) else { return };
    let (body, sum) = header.split_at_mut(HEADER_BYTES - SUM);
    sum.copy_from_slice(&Sha256::digest(&body));
    for record in records.chunks_exact_mut(form().record_bytes()) {
        let (body, record_sum) = record.split_at_mut(form().record_bytes() - SUM);
        record_sum.copy_from_slice(&Sha256::new().chain_update(&*sum).chain_update(&body).finalize());
    }
}

/// Checks what is accepted.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let mut file = data.to_vec();
    if *mode != 0 {
        seal(&mut file);
    }
    // Number, salt, whether it is whole.
    let mut seen: Vec<(u32, u64, bool)> = Vec::new();
    let mut show = |number: u32, r: KvRecord<'_>| {
        assert!((1..=PAGE_LEN).contains(&r.tokens.len()) && r.bytes.len() == PAGE_BYTES);
        assert!(seen.last().is_none_or(|last| last.0 < number));
        let above = r.parent.map(|p| seen.iter().find(|s| s.0 == p).copied());
        assert!(above.is_none_or(|above| above.is_some_and(|(_, salt, is_whole)| salt == r.salt && is_whole)));
        seen.push((number, r.salt, r.tokens.len() == PAGE_LEN));
        ControlFlow::Continue(())
    };
    let report = format::read(&form(), &file[..], &mut show).unwrap_or_else(|e| unreachable!("a slice failed: {e}"));
    let n_records = file.len().saturating_sub(HEADER_BYTES) / form().record_bytes();
    assert_eq!(report.accepted, seen.len());
    assert!(report.refused.is_some() || report.accepted + report.rejected == n_records);
    assert!(report.refused.is_none() || (report.accepted, report.rejected) == (0, 0));
}

/// A small forest, as it is and sealed; an empty file.
pub fn seeds() -> Vec<Vec<u8>> {
    let (header, mut encoder) = Encoder::new(&form(), [9; 16]);
    let (mut file, mut buffer) = (header.clone(), Vec::new());
    for (parent, salt, n) in [(None, 0, 4), (Some(0), 0, 4), (Some(0), 0, 2), (None, 5, 4), (Some(3), 5, 1)] {
        let tokens = &[1, 2, 3, 4][..n];
        let record = KvRecord { parent, salt, tokens, bytes: &[n as u8; PAGE_BYTES] };
        if encoder.encode(&record, &mut buffer).is_ok() {
            file.extend(&buffer);
        }
    }
    [(0, &file), (1, &file), (0, &header)].into_iter().map(|(mode, file)| [&[mode], &file[..]].concat()).collect()
}
