//! The opening handshake: the proof that the server has read the key, and the terms of compression.

/// Joined with the client's key and hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`; `None` if that is not the base64 of 16 bytes.
pub fn accept_key(key: &str) -> Option<String> {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let (body, end) = key.as_bytes().split_at_checked(22)?;
    if end != b"==" || !body.iter().all(|b| is_base64(*b)) {
        return None;
    }
    Some(base64(&sha1(format!("{key}{GUID}").as_bytes())))
}

/// The answer to `Sec-WebSocket-Extensions`: the first offer of permessage-deflate that can be met. No side keeps its
/// window between messages, so a connection that is silent holds no compressor.
pub fn choose_deflate(offers: &str) -> Option<&'static str> {
    let is_met = |offer: &str| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some("permessage-deflate")
            && parts.all(|p| {
                let (name, value) = p.split_once('=').map_or((p, None), |(n, v)| (n.trim(), Some(v.trim())));
                match (name, value.map(|v| v.trim_matches('"'))) {
                    ("client_no_context_takeover" | "server_no_context_takeover", None) => true,
                    ("client_max_window_bits", None) => true,
                    ("client_max_window_bits", Some(bits)) => matches!(bits.parse(), Ok(8u8..=15)),
                    // Our compressor has one window size.
                    ("server_max_window_bits", Some("15")) => true,
                    _ => false,
                }
            })
    };
    let is_any = offers.split(',').map(str::trim).any(is_met);
    is_any.then_some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4usize {
            let index = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    out
}

/// FIPS 180-4. Broken as a signature, and RFC 6455 asks for it only as a proof of having read.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut h: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((message.len() + 9).div_ceil(64) * 64 - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 80];
        for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |sum, b| sum << 8 | u32::from(*b));
        }
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1u32),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.chunks_exact_mut(4).zip(h) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}
