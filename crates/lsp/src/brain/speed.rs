//! How fast the server is here, learned from its answers, and what that allows: how much context can be computed while
//! somebody waits for a suggestion, and how much while nobody does.

/// Milliseconds of computing that a suggestion may wait for where nothing is cached.
const COLD_MS: f64 = 100.0;
/// Milliseconds for the suffix, which is computed for every key.
const SUFFIX_MS: f64 = 25.0;
/// Milliseconds of one slice of warming: a key pressed meanwhile waits for its end.
const SLICE_MS: f64 = 60.0;
/// Milliseconds for the whole window, while nobody types.
const WINDOW_MS: f64 = 1_000.0;
/// Milliseconds of decoding that one suggestion may take.
const DECODE_MS: f64 = 700.0;
/// From this time to the first token on, keys are let pass before one is answered.
const PROMPT_MS_FREE: f64 = 150.0;
/// Weight of a new measurement.
const WEIGHT: f64 = 0.2;

/// What was measured, smoothed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Prompt tokens per second.
    pub prefill_tps: f64,
    /// Milliseconds per generated token.
    pub decode_ms: f64,
    /// Milliseconds from asking to the first text.
    pub ttft_ms: f64,
    /// Bytes of source code in a token.
    pub bytes_per_token: f64,
}

impl Default for Speed {
    /// A small model on two cores.
    fn default() -> Self {
        Self { prefill_tps: 600.0, decode_ms: 20.0, ttft_ms: 60.0, bytes_per_token: 3.3 }
    }
}

fn toward(old: &mut f64, new: f64, low: f64, high: f64) {
    if new.is_finite() {
        *old += WEIGHT * (new.clamp(low, high) - *old);
    }
}

impl Speed {
    /// A prompt of `bytes` was `n_prompt` tokens, of which `n_new` took `ms`.
    pub fn saw_prompt(&mut self, bytes: usize, n_prompt: u64, n_new: u64, ms: f64) {
        if n_prompt >= 32 {
            toward(&mut self.bytes_per_token, bytes as f64 / n_prompt as f64, 1.0, 8.0);
        }
        if n_new >= 24 && ms > 0.0 {
            toward(&mut self.prefill_tps, n_new as f64 / ms * 1e3, 10.0, 1e5);
        }
    }

    /// Generating `n` tokens after the first took `ms`.
    pub fn saw_decode(&mut self, n: u64, ms: f64) {
        if n >= 4 && ms > 0.0 {
            toward(&mut self.decode_ms, ms / n as f64, 0.1, 2_000.0);
        }
    }

    /// The first text came after `ms`.
    pub fn saw_first(&mut self, ms: f64) {
        toward(&mut self.ttft_ms, ms, 0.1, 10_000.0);
    }

    fn bytes(&self, ms: f64) -> usize {
        (self.prefill_tps * ms / 1e3 * self.bytes_per_token) as usize
    }

    /// Bytes of prompt that may be computed while somebody waits.
    pub fn cold_bytes(&self) -> usize {
        self.bytes(COLD_MS).clamp(96, 4_096)
    }

    /// Bytes after the cursor.
    pub fn suffix_bytes(&self) -> usize {
        self.bytes(SUFFIX_MS).clamp(24, 400)
    }

    /// Bytes of one slice of warming.
    pub fn slice_bytes(&self) -> usize {
        self.bytes(SLICE_MS).clamp(64, 2_048)
    }

    /// Bytes of a whole window.
    pub fn window_bytes(&self) -> usize {
        self.bytes(WINDOW_MS).clamp(1_024, 6_144)
    }

    /// Bytes of other files before it.
    pub fn extra_bytes(&self) -> usize {
        self.window_bytes() / 3
    }

    /// Tokens of a suggestion of one line, or of several.
    pub fn answer_tokens(&self, is_block: bool) -> u32 {
        let (low, high) = if is_block { (32.0, 96.0) } else { (16.0, 40.0) };
        (DECODE_MS / self.decode_ms.max(0.1)).clamp(low, high) as u32
    }

    /// Microseconds to wait for the next key before asking: none where answers come before it anyway.
    pub fn debounce_us(&self) -> u64 {
        (((self.ttft_ms - PROMPT_MS_FREE) * 0.5).clamp(0.0, 150.0) * 1e3) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_gets_less_context_and_a_debounce_and_a_fast_one_none() {
        let (mut slow, mut fast) = (Speed::default(), Speed::default());
        for _ in 0..50 {
            slow.saw_prompt(3_000, 1_000, 1_000, 20_000.0);
            slow.saw_first(900.0);
            slow.saw_decode(10, 2_000.0);
            fast.saw_prompt(3_000, 1_000, 1_000, 20.0);
            fast.saw_first(9.0);
        }
        assert!(slow.cold_bytes() < 120 && fast.cold_bytes() == 4_096);
        assert!(slow.debounce_us() == 150_000 && fast.debounce_us() == 0);
        assert_eq!(slow.answer_tokens(false), 16);
        assert!((slow.bytes_per_token - 3.0).abs() < 0.1);
    }

    #[test]
    fn nonsense_is_not_learned() {
        let (mut speed, was) = (Speed::default(), Speed::default());
        speed.saw_prompt(10, 2, 2, 1.0);
        speed.saw_prompt(100, 0, 30, 0.0);
        speed.saw_decode(1, 5.0);
        speed.saw_first(f64::NAN);
        assert_eq!(speed, was);
    }
}
