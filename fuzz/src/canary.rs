//! A planted bug behind six bytes. Blind chance needs 2^48 inputs; a fuzzer that sees coverage needs a second, because
//! each right byte opens a new branch.

/// The input that fails.
pub const WORD: &[u8] = b"canary";

/// Panics on inputs that begin with `WORD`.
#[allow(clippy::collapsible_if)] // one branch per byte is the point
pub fn run(data: &[u8]) {
    // Opaque reads keep the compiler from joining the comparisons into one.
    let byte = |i: usize| std::hint::black_box(data.get(i).copied());
    if byte(0) == Some(b'c') {
        if byte(1) == Some(b'a') {
            if byte(2) == Some(b'n') {
                if byte(3) == Some(b'a') {
                    if byte(4) == Some(b'r') {
                        if byte(5) == Some(b'y') {
                            panic!("the canary was found: the fuzzer works");
                        }
                    }
                }
            }
        }
    }
}

/// One dull input.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![b"xxxxxxxx".to_vec()]
}
