//! Prompts that look like code and that nobody has seen before: the same for the same seed, different from the first line on
//! for another, so that no server's prefix cache can help.

use base::rng;

/// Bytes of such code that make two tokens, as Qwen2.5-Coder's tokenizer cuts it (measured).
const BYTES_PER_TWO_TOKENS: usize = 7;

const NOUNS: [&str; 24] = [
    "buffer", "cursor", "token", "page", "route", "frame", "index", "record", "ledger", "socket", "packet", "branch",
    "column", "weight", "header", "window", "layer", "digest", "cache", "span", "graph", "batch", "offset", "journal",
];
const VERBS: [&str; 16] = [
    "merge", "split", "scan", "collect", "trim", "encode", "decode", "rank", "filter", "update", "count", "flush",
    "resolve", "append", "rotate", "compare",
];

/// Draws one after the other.
struct Draws {
    seed: u64,
    position: u64,
}

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.position += 1;
        (rng::bits(self.seed, self.position, 0) % n.max(1) as u64) as usize
    }

    fn noun(&mut self) -> &'static str {
        NOUNS[self.below(NOUNS.len())]
    }

    fn verb(&mut self) -> &'static str {
        VERBS[self.below(VERBS.len())]
    }
}

/// About `tokens` tokens of Python that break off at the head of a function. Never longer than a line more than that.
pub(crate) fn code(seed: u64, tokens: usize) -> String {
    let mut draws = Draws { seed, position: 0 };
    let bytes = tokens.saturating_mul(BYTES_PER_TWO_TOKENS) / 2;
    let id = rng::bits(seed, 0, 1);
    let tail = format!("\n\ndef {}_{}(items, limit):\n", draws.verb(), draws.noun());
    let mut out = format!("# module {id:016x}\n");
    while out.len() + tail.len() < bytes {
        function(&mut draws, &mut out);
    }
    let cut = bytes.saturating_sub(tail.len()).min(out.len());
    let cut = out.get(..cut).and_then(|head| head.rfind('\n')).map_or(0, |at| at + 1);
    let keep = cut.max(out.find('\n').map_or(0, |at| at + 1));
    out.truncate(keep);
    out + tail.trim_start_matches('\n')
}

fn function(draws: &mut Draws, out: &mut String) {
    let (verb, noun, other) = (draws.verb(), draws.noun(), draws.noun());
    out.push_str(&format!("\ndef {verb}_{noun}({other}s, limit={}):\n", draws.below(512)));
    out.push_str(&format!("    {noun} = {}\n", ["{}", "[]", "0", "set()"][draws.below(4)]));
    for _ in 0..1 + draws.below(3) {
        let (a, b) = (draws.noun(), draws.verb());
        match draws.below(4) {
            0 => out.push_str(&format!(
                "    for i, {a} in enumerate({other}s):\n        if {a}.size > limit:\n            {b}({noun}, i)\n"
            )),
            1 => out.push_str(&format!("    {a} = [{b}(x) for x in {other}s if x % {} == 0]\n", 2 + draws.below(90))),
            2 => out.push_str(&format!(
                "    while limit > {}:\n        limit -= {b}_{a}({other}s[limit:])\n",
                draws.below(64)
            )),
            _ => out.push_str(&format!("    {a} = {b}({noun}, key=lambda x: x[{}])\n", draws.below(9))),
        }
    }
    out.push_str(&format!("    return {noun}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_equal_prompts_and_others_differ_at_once() {
        assert_eq!(code(7, 256), code(7, 256));
        let shared = code(7, 256).bytes().zip(code(8, 256).bytes()).take_while(|(a, b)| a == b).count();
        assert!(shared < 16, "{shared} bytes shared");
    }

    #[test]
    fn prompts_have_the_length_that_was_asked_for() {
        for tokens in [0, 1, 16, 64, 256, 4096] {
            let prompt = code(tokens as u64, tokens);
            let want = tokens * BYTES_PER_TWO_TOKENS / 2;
            assert!(prompt.len() <= want + 100 && prompt.len() + 100 >= want, "{tokens}: {}", prompt.len());
            assert!(prompt.ends_with("(items, limit):\n"));
        }
    }
}
