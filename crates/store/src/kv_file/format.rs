//! The bytes of a file of KV pages: a header and records of one length, so that a damaged record cannot hide where the next
//! one begins. No file is opened here; the fuzzer feeds the same `read`. Time goes into SHA-256, once over every byte.
//!
//! Each record's checksum also covers the header's, which holds a number drawn for this one file, and the record's own place:
//! what an older file left on the disk, or what was written to a wrong place, does not fit.

use std::io::{self, Read};
use std::ops::ControlFlow;

use base::limits::{KV_FILE_RECORDS_MAX, KV_PAGE_BYTES_MAX, KV_PAGE_LEN_MAX};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"vonk-kv\n";
const VERSION: u32 = 1;
/// Bytes of a checksum.
const SUM: usize = 32;
/// Bytes of the header, its checksum included.
pub const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 16 + 32 + SUM;
/// Bytes of a record in front of its tokens.
const RECORD_HEAD: usize = 4 + 4 + 8 + 4;
/// The parent of a page that begins a sequence.
const NO_PARENT: u32 = u32::MAX;

/// One page and its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvRecord<'a> {
    /// The record, by its number, whose page comes before this one in the sequence; `None` at the start of one.
    pub parent: Option<u32>,
    /// Of the tree that it is in. A parent has the same.
    pub salt: u64,
    /// The page's tokens. A parent has as many as a page can have.
    pub tokens: &'a [u32],
    /// Keys and values, in the layout that the fingerprint names.
    pub bytes: &'a [u8],
}

/// What makes one file's pages of use: whose they are, and their size.
#[derive(Clone, Debug)]
pub struct Form {
    fingerprint: [u8; 32],
    page_len: usize,
    page_bytes: usize,
}

impl Form {
    /// Nothing when a size is out of bounds.
    pub fn new(fingerprint: &str, page_len: usize, page_bytes: usize) -> Option<Self> {
        let fits = (1..=KV_PAGE_LEN_MAX).contains(&page_len) && (1..=KV_PAGE_BYTES_MAX).contains(&page_bytes);
        fits.then(|| Self { fingerprint: Sha256::digest(fingerprint).into(), page_len, page_bytes })
    }

    /// Digest of the fingerprint.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Bytes of every record.
    pub fn record_bytes(&self) -> usize {
        RECORD_HEAD + 4 * self.page_len + self.page_bytes + SUM
    }

    fn header(&self, id: [u8; 16]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.page_len as u32).to_le_bytes());
        out.extend((self.page_bytes as u64).to_le_bytes());
        out.extend(id);
        out.extend(self.fingerprint);
        let sum = Sha256::digest(&out);
        out.extend(sum);
        out
    }
}

/// What may hang below a record.
#[derive(Clone, Copy)]
struct Above {
    salt: u64,
    is_whole: bool,
}

/// The pages so far, as far as their children need to know. `None`: not accepted.
struct Tree {
    above: Vec<Option<Above>>,
    page_len: usize,
}

impl Tree {
    fn fits(&self, r: &KvRecord<'_>) -> Result<(), &'static str> {
        if !(1..=self.page_len).contains(&r.tokens.len()) {
            return Err("a page of no tokens, or of too many");
        }
        let Some(parent) = r.parent else { return Ok(()) };
        match self.above.get(parent as usize) {
            Some(Some(above)) if above.salt != r.salt => Err("its parent has another salt"),
            Some(Some(above)) if !above.is_whole => Err("its parent is not a whole page"),
            Some(Some(_)) => Ok(()),
            _ => Err("its parent is not there"),
        }
    }

    fn add(&mut self, r: &KvRecord<'_>) {
        self.above.push(Some(Above { salt: r.salt, is_whole: r.tokens.len() == self.page_len }));
    }
}

/// Makes the bytes of one file.
pub struct Encoder {
    form: Form,
    header_sum: [u8; SUM],
    tree: Tree,
}

impl Encoder {
    /// The header, and what makes the records that follow it. `id` is drawn anew for each file.
    pub fn new(form: &Form, id: [u8; 16]) -> (Vec<u8>, Self) {
        let header = form.header(id);
        let header_sum = sum_of(&header);
        let tree = Tree { above: Vec::new(), page_len: form.page_len };
        (header, Self { form: form.clone(), header_sum, tree })
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.tree.above.len()
    }

    /// There is no number for another record.
    pub fn is_full(&self) -> bool {
        self.count() >= KV_FILE_RECORDS_MAX
    }

    /// Puts the next record's bytes into `out`, which is emptied first. Returns its number, or why it is none.
    pub fn encode(&mut self, r: &KvRecord<'_>, out: &mut Vec<u8>) -> Result<u32, &'static str> {
        self.tree.fits(r)?;
        if r.bytes.len() != self.form.page_bytes {
            return Err("a page of another size");
        }
        let number = u32::try_from(self.count()).map_err(|_| "too many pages")?;
        out.clear();
        out.extend(number.to_le_bytes());
        out.extend(r.parent.unwrap_or(NO_PARENT).to_le_bytes());
        out.extend(r.salt.to_le_bytes());
        out.extend((r.tokens.len() as u32).to_le_bytes());
        out.extend(r.tokens.iter().flat_map(|t| t.to_le_bytes()));
        out.resize(RECORD_HEAD + 4 * self.form.page_len, 0);
        out.extend_from_slice(r.bytes);
        out.extend(record_sum(&self.header_sum, out));
        self.tree.add(r);
        Ok(number)
    }
}

/// What was in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvRead {
    /// Records that were whole, and were shown.
    pub accepted: usize,
    /// Records that were damaged, or whose parent was not accepted.
    pub rejected: usize,
    /// The file ends inside a record.
    pub is_cut: bool,
    /// Why the whole file is of no use: it is another model's, another version's, or damaged at its start.
    pub refused: Option<&'static str>,
}

/// Shows each sound record with its number. The memory it takes depends on `form`, not on the file.
pub fn read(
    form: &Form,
    mut source: impl Read,
    each: &mut dyn FnMut(u32, KvRecord<'_>) -> ControlFlow<()>,
) -> io::Result<KvRead> {
    let mut report = KvRead::default();
    let mut header = [0; HEADER_BYTES];
    let got = fill(&mut source, &mut header)?;
    if let Err(why) = check_header(form, &header[..got]) {
        report.refused = Some(why);
        return Ok(report);
    }
    let header_sum = sum_of(&header);
    let mut tree = Tree { above: Vec::new(), page_len: form.page_len };
    let mut record = vec![0; form.record_bytes()];
    let mut tokens = Vec::with_capacity(form.page_len);
    for number in 0..KV_FILE_RECORDS_MAX as u32 {
        let got = fill(&mut source, &mut record)?;
        if got < record.len() {
            report.is_cut = got > 0;
            break;
        }
        let sound = decode(form, &header_sum, number, &record, &mut tokens).filter(|r| tree.fits(r).is_ok());
        let Some(r) = sound else {
            report.rejected += 1;
            tree.above.push(None);
            continue;
        };
        tree.add(&r);
        report.accepted += 1;
        if each(number, r).is_break() {
            break;
        }
    }
    Ok(report)
}

fn check_header(form: &Form, header: &[u8]) -> Result<(), &'static str> {
    let Some((body, sum)) = header.split_last_chunk::<SUM>().filter(|_| header.len() == HEADER_BYTES) else {
        return Err("it is too short");
    };
    if !body.starts_with(MAGIC) {
        return Err("it is no file of KV pages");
    }
    if body[8..12] != VERSION.to_le_bytes() {
        return Err("another version wrote it");
    }
    if Sha256::digest(body)[..] != sum[..] {
        return Err("its header is damaged");
    }
    let id = body[24..40].first_chunk().copied().unwrap_or_default();
    if form.header(id) != header {
        return Err("its pages are another model's, or laid out in another way");
    }
    Ok(())
}

/// Bounds first, then the checksum; what hangs above is the caller's to check.
fn decode<'a>(
    form: &Form,
    header_sum: &[u8; SUM],
    number: u32,
    record: &'a [u8],
    tokens: &'a mut Vec<u32>,
) -> Option<KvRecord<'a>> {
    let (body, sum) = record.split_last_chunk::<SUM>()?;
    let (head, rest) = body.split_first_chunk::<RECORD_HEAD>()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (parent, n_tokens) = (word(4), word(16) as usize);
    let salt = u64::from(word(8)) | u64::from(word(12)) << 32;
    if word(0) != number || n_tokens > form.page_len || (parent >= number && parent != NO_PARENT) {
        return None;
    }
    if record_sum(header_sum, body) != *sum {
        return None;
    }
    let (words, bytes) = rest.split_at_checked(4 * form.page_len)?;
    tokens.clear();
    tokens.extend(words.as_chunks().0.iter().take(n_tokens).map(|w| u32::from_le_bytes(*w)));
    Some(KvRecord { parent: (parent != NO_PARENT).then_some(parent), salt, tokens, bytes })
}

fn record_sum(header_sum: &[u8; SUM], body: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(header_sum).chain_update(body).finalize().into()
}

fn sum_of(header: &[u8]) -> [u8; SUM] {
    header.last_chunk().copied().unwrap_or_default()
}

/// Reads until `out` is full or the source ends; how many bytes came.
fn fill(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match source.read(&mut out[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
