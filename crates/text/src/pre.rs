//! Pre-tokenizers: cut a text into the words that byte-pair encoding then works on, one by one.
//!
//! A GGUF names its pre-tokenizer; model makers wrote them as regular expressions, often for backtracking engines. Here each
//! is a short list of hand-written passes. A pass reads its segment left to right, looks at every character a bounded number of
//! times, and hands each piece to the next pass. Behaviour follows llama.cpp where it and the original pattern differ.
use crate::unicode::{Class, class, is_deepseek_letter};

/// One way of cutting a segment into pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `'[sS]|...|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Words(Words),
    /// As `Words`, with words cut where lower case is followed by upper case.
    CaseWords { digits: usize, contractions: bool },
    /// Punctuation and symbols with a Latin word behind them, marks kept with letters (DeepSeek v3).
    DeepSeek3,
    /// Runs of at most `max` characters of a set stand alone.
    Isolate { set: Set, max: usize },
    /// `[0-9][0-9][0-9]` stands alone; what is left of a run does not.
    DigitTriples,
    /// `\s?` and a run of a set.
    SpacedRun(Set),
    /// `\s+$` of the segment stands alone.
    TrailingSpace,
}

/// Variations of the pattern that GPT-4 introduced.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Words {
    /// Longest run of digits in one word.
    digits: usize,
    /// Combining marks count as letters.
    marks: bool,
    /// Split English contractions off.
    contractions: bool,
    /// Punctuation takes the line ends behind it along.
    line_ends: bool,
}

/// Sets of characters that passes look for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Set {
    LineEnd,
    Letter,
    DeepSeekLetter,
    Number,
    Punct,
    /// Punctuation, and the ASCII symbols but the backtick.
    PunctSymbol,
    /// Punctuation, and the ASCII symbols.
    PunctSymbolTick,
    /// Punctuation as `deepseek-llm` lists it.
    DeepSeekPunct,
    /// `[一-龥ࠀ-一가-퟿]`
    DeepSeekCjk,
    /// `[一-龥぀-ゟ゠-ヿ]`
    HanKana,
}

impl Set {
    fn has(self, c: char) -> bool {
        match self {
            Set::LineEnd => matches!(c, '\r' | '\n'),
            Set::Letter => class(c) == Class::Letter,
            Set::DeepSeekLetter => is_deepseek_letter(c),
            Set::Number => class(c) == Class::Number,
            Set::Punct => class(c) == Class::Punct,
            Set::PunctSymbol => class(c) == Class::Punct || matches!(c, '$' | '+' | '<'..='>' | '^' | '~' | '|'),
            Set::PunctSymbolTick => c == '`' || Set::PunctSymbol.has(c),
            Set::DeepSeekPunct => {
                matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '、'..='。')
            }
            Set::DeepSeekCjk => matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'),
            Set::HanKana => matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}'),
        }
    }
}

/// How to cut text before byte-pair encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pre {
    passes: &'static [Pass],
    /// A word that is itself a token is taken whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
}

const NO_MAX: usize = usize::MAX;
const NUMBERS_ALONE: Pass = Pass::Isolate { set: Set::Number, max: 1 };
const WORDS: Words = Words { digits: 1, marks: false, contractions: true, line_ends: true };

const GPT2: &[Pass] = &[Pass::Gpt2];
const DEFAULT: &[Pass] = &[
    Pass::Isolate { set: Set::PunctSymbol, max: NO_MAX },
    Pass::Gpt2,
    Pass::Isolate { set: Set::Number, max: NO_MAX },
    Pass::DigitTriples,
];
const STARCODER: &[Pass] = &[NUMBERS_ALONE, Pass::Gpt2];
const FALCON: &[Pass] = &[Pass::Isolate { set: Set::PunctSymbolTick, max: NO_MAX }, Pass::Gpt2, Pass::DigitTriples];
const LLAMA3: &[Pass] = &[Pass::Words(Words { digits: 3, ..WORDS })];
const QWEN2: &[Pass] = &[Pass::Words(WORDS)];
const QWEN35: &[Pass] = &[Pass::Words(Words { marks: true, ..WORDS })];
const SEED_CODER: &[Pass] = &[Pass::Words(Words { line_ends: false, ..WORDS })];
const MINICPM5: &[Pass] = &[Pass::Isolate { set: Set::Number, max: 3 }, Pass::Words(Words { digits: NO_MAX, ..WORDS })];
const DEEPSEEK_CODER: &[Pass] = &[
    Pass::Isolate { set: Set::LineEnd, max: 1 },
    Pass::SpacedRun(Set::Letter),
    Pass::SpacedRun(Set::Punct),
    Pass::Isolate { set: Set::DeepSeekCjk, max: NO_MAX },
    NUMBERS_ALONE,
];
const DEEPSEEK_LLM: &[Pass] = &[
    Pass::Isolate { set: Set::LineEnd, max: 1 },
    Pass::SpacedRun(Set::DeepSeekLetter),
    Pass::SpacedRun(Set::DeepSeekPunct),
    Pass::TrailingSpace,
    Pass::Isolate { set: Set::DeepSeekCjk, max: NO_MAX },
    Pass::Isolate { set: Set::Number, max: NO_MAX },
];
const DEEPSEEK3: &[Pass] =
    &[Pass::Isolate { set: Set::Number, max: 3 }, Pass::Isolate { set: Set::HanKana, max: NO_MAX }, Pass::DeepSeek3];
const TEKKEN: &[Pass] = &[Pass::CaseWords { digits: 1, contractions: false }];
const GPT4O: &[Pass] = &[Pass::CaseWords { digits: 3, contractions: true }];

/// GGUF names of a rule, whether it ignores merges, its passes.
const RULES: &[(&[&str], bool, &[Pass])] = &[
    (&["", "default"], false, DEFAULT),
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        false,
        GPT2,
    ),
    (&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], false, STARCODER),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
            "glm4",
            "glm5",
        ],
        true,
        LLAMA3,
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], false, LLAMA3),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        false,
        QWEN2,
    ),
    (&["qwen35"], false, QWEN35),
    (&["seed-coder"], false, SEED_CODER),
    (&["minicpm5"], true, MINICPM5),
    (&["deepseek-coder"], false, DEEPSEEK_CODER),
    (&["deepseek-llm"], false, DEEPSEEK_LLM),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], false, DEEPSEEK3),
    (&["falcon"], false, FALCON),
    (&["tekken"], true, TEKKEN),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], false, GPT4O),
];

/// Every pre-tokenizer name that is understood.
pub(crate) fn known_names() -> impl Iterator<Item = &'static str> {
    RULES.iter().flat_map(|(names, ..)| names.iter().copied()).filter(|n| !n.is_empty())
}

impl Pre {
    /// The rule with this GGUF name.
    pub(crate) fn named(name: &str) -> Option<Pre> {
        let (_, ignore_merges, passes) = RULES.iter().find(|(names, ..)| names.contains(&name))?;
        Some(Pre { passes, ignore_merges: *ignore_merges })
    }

    /// Hands the words of `text` to `word`, in order; together they are `text`.
    pub(crate) fn split(&self, text: &str, word: &mut dyn FnMut(&str)) {
        run_passes(self.passes, text, word);
    }
}

fn run_passes(passes: &[Pass], text: &str, word: &mut dyn FnMut(&str)) {
    let Some((pass, rest)) = passes.split_first() else { return word(text) };
    if rest.is_empty() {
        pass.split(text, word);
    } else {
        pass.split(text, &mut |piece| run_passes(rest, piece, word));
    }
}

impl Pass {
    fn split(self, text: &str, out: &mut dyn FnMut(&str)) {
        let mut pieces = Pieces { text, done: 0, out };
        match self {
            Pass::Gpt2 => pieces.each(|s, pos| Some(gpt2_end(s, pos))),
            Pass::Words(rule) => pieces.each(|s, pos| Some(words_end(s, pos, rule))),
            Pass::CaseWords { digits, contractions } => {
                pieces.each(|s, pos| Some(case_words_end(s, pos, digits, contractions)));
            }
            Pass::DeepSeek3 => pieces.each(deepseek3_end),
            Pass::Isolate { set, max } => pieces.each(|s, pos| isolate_end(s, pos, set, max)),
            Pass::DigitTriples => pieces.each(digit_triple_end),
            Pass::SpacedRun(set) => pieces.each(|s, pos| spaced_run_end(s, pos, set)),
            Pass::TrailingSpace => {
                pieces.piece(text.trim_end().len());
                pieces.piece(text.len());
            }
        }
    }
}

/// Cuts a segment; what no match covers becomes pieces of its own.
struct Pieces<'a, 'f> {
    text: &'a str,
    done: usize,
    out: &'f mut dyn FnMut(&str),
}

impl Pieces<'_, '_> {
    /// Ends a piece at byte `end`.
    fn piece(&mut self, end: usize) {
        if let Some(piece) = self.text.get(self.done..end).filter(|p| !p.is_empty()) {
            (self.out)(piece);
            self.done = end;
        }
    }

    /// `match_end` says where a match that begins at a byte offset ends; `None`: no match begins there.
    fn each(&mut self, match_end: impl Fn(&str, usize) -> Option<usize>) {
        let mut pos = 0;
        while let Some(here) = at(self.text, pos) {
            match match_end(self.text, pos) {
                Some(end) if end > pos => {
                    self.piece(pos);
                    self.piece(end);
                    pos = end;
                }
                _ => pos = here.next,
            }
        }
        self.piece(self.text.len());
    }
}

/// A character of a segment.
#[derive(Clone, Copy)]
struct At {
    c: char,
    class: Class,
    /// Where the following character begins.
    next: usize,
}

#[inline]
fn at(s: &str, pos: usize) -> Option<At> {
    let first = *s.as_bytes().get(pos)?;
    let c = if first < 0x80 { first as char } else { s.get(pos..)?.chars().next()? };
    Some(At { c, class: class(c), next: pos + c.len_utf8() })
}

/// End of the longest run from `pos`, of at most `max` characters.
#[inline]
fn run_end(s: &str, mut pos: usize, max: usize, wanted: impl Fn(At) -> bool) -> usize {
    let mut n = 0;
    while let Some(a) = at(s, pos) {
        if n == max || !wanted(a) {
            break;
        }
        pos = a.next;
        n += 1;
    }
    pos
}

/// End of an English contraction (`'s`, `'LL`) that begins at `pos`.
fn contraction_end(s: &str, pos: usize, any_case: bool) -> Option<usize> {
    let bytes = s.as_bytes();
    if bytes.get(pos) != Some(&b'\'') {
        return None;
    }
    let fold = |i: usize| bytes.get(i).map(|b| if any_case { b.to_ascii_lowercase() } else { *b });
    match (fold(pos + 1)?, fold(pos + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(pos + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(pos + 3),
        _ => None,
    }
}

/// Neither white space, letter nor number.
fn is_punctuation_like(a: At) -> bool {
    !matches!(a.class, Class::Space | Class::Letter | Class::Number)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+` (the first only if `line_ends`) at a white-space character.
fn space_end(s: &str, start: usize, line_ends: bool) -> usize {
    let (mut pos, mut last, mut line_end) = (start, start, None);
    while let Some(a) = at(s, pos) {
        if a.class != Class::Space {
            break;
        }
        (last, pos) = (pos, a.next);
        if matches!(a.c, '\r' | '\n') {
            line_end = Some(pos);
        }
    }
    match line_end {
        Some(end) if line_ends => end,
        _ if pos < s.len() && last > start => last, // the last one goes with the word behind it
        _ => pos,
    }
}

fn gpt2_end(s: &str, pos: usize) -> usize {
    let Some(first) = at(s, pos) else { return pos };
    if let Some(end) = contraction_end(s, pos, false) {
        return end;
    }
    let head = if first.c == ' ' { at(s, first.next) } else { Some(first) };
    match head.map(|a| a.class) {
        None | Some(Class::Space) => space_end(s, pos, false),
        Some(kind @ (Class::Letter | Class::Number)) => run_end(s, first.next, NO_MAX, |a| a.class == kind),
        Some(_) => run_end(s, first.next, NO_MAX, is_punctuation_like),
    }
}

fn words_end(s: &str, pos: usize, rule: Words) -> usize {
    let Some(first) = at(s, pos) else { return pos };
    if rule.contractions
        && let Some(end) = contraction_end(s, pos, true)
    {
        return end;
    }
    let is_letter = |a: At| a.class == Class::Letter || (rule.marks && a.class == Class::Mark);
    if !matches!(first.c, '\r' | '\n')
        && first.class != Class::Number
        && (is_letter(first) || at(s, first.next).is_some_and(is_letter))
    {
        return run_end(s, first.next, NO_MAX, is_letter);
    }
    if first.class == Class::Number {
        return run_end(s, pos, rule.digits, |a| a.class == Class::Number);
    }
    let is_punctuation = |a: At| is_punctuation_like(a) && !is_letter(a);
    let head = if first.c == ' ' { at(s, first.next) } else { Some(first) };
    if head.is_some_and(is_punctuation) {
        let end = run_end(s, first.next, NO_MAX, is_punctuation);
        return if rule.line_ends { run_end(s, end, NO_MAX, |a| matches!(a.c, '\r' | '\n')) } else { end };
    }
    space_end(s, pos, true)
}

/// End of `[^a-z]*[^A-Z]+`, else of `[^a-z]+[^A-Z]*`, both over letters only, at `pos`.
fn case_run_end(s: &str, pos: usize) -> usize {
    let mut upper_end = pos; // of the run of letters that are not a-z
    let mut last_caseless = None; // end of the last letter in it that is not A-Z either
    while let Some(a) = at(s, upper_end) {
        if a.class != Class::Letter || a.c.is_ascii_lowercase() {
            break;
        }
        upper_end = a.next;
        if !a.c.is_ascii_uppercase() {
            last_caseless = Some(upper_end);
        }
    }
    let end = run_end(s, upper_end, NO_MAX, |a| a.class == Class::Letter && !a.c.is_ascii_uppercase());
    if end > upper_end { end } else { last_caseless.unwrap_or(upper_end) }
}

fn case_words_end(s: &str, pos: usize, digits: usize, contractions: bool) -> usize {
    let Some(first) = at(s, pos) else { return pos };
    let is_letter = |a: At| a.class == Class::Letter;
    let word = if is_letter(first) {
        Some(pos)
    } else if !matches!(first.c, '\r' | '\n') && first.class != Class::Number {
        at(s, first.next).filter(|&a| is_letter(a)).map(|_| first.next)
    } else {
        None
    };
    if let Some(start) = word {
        let end = case_run_end(s, start);
        return contractions.then(|| contraction_end(s, end, true)).flatten().unwrap_or(end);
    }
    if first.class == Class::Number {
        return run_end(s, pos, digits, |a| a.class == Class::Number);
    }
    let head = if first.c == ' ' { at(s, first.next) } else { Some(first) };
    if head.is_some_and(is_punctuation_like) {
        let end = run_end(s, first.next, NO_MAX, is_punctuation_like);
        return run_end(s, end, NO_MAX, |a| matches!(a.c, '\r' | '\n' | '/'));
    }
    space_end(s, pos, true)
}

fn deepseek3_end(s: &str, pos: usize) -> Option<usize> {
    let first = at(s, pos)?;
    let next = at(s, first.next);
    if first.c.is_ascii_punctuation() && next.is_some_and(|a| a.c.is_ascii_alphabetic()) {
        return Some(run_end(s, first.next, NO_MAX, |a| a.c.is_ascii_alphabetic()));
    }
    let is_letter = |a: At| matches!(a.class, Class::Letter | Class::Mark);
    let is_punctuation = |a: At| matches!(a.class, Class::Punct | Class::Symbol);
    let may_lead = !matches!(first.c, '\r' | '\n') && !is_punctuation(first);
    if is_letter(first) || (may_lead && next.is_some_and(is_letter)) {
        return Some(run_end(s, first.next, NO_MAX, is_letter));
    }
    let head = if first.c == ' ' { next } else { Some(first) };
    if head.is_some_and(is_punctuation) {
        let end = run_end(s, first.next, NO_MAX, is_punctuation);
        return Some(run_end(s, end, NO_MAX, |a| matches!(a.c, '\r' | '\n')));
    }
    (first.class == Class::Space).then(|| space_end(s, pos, true))
}

fn isolate_end(s: &str, pos: usize, set: Set, max: usize) -> Option<usize> {
    let end = run_end(s, pos, max, |a| set.has(a.c));
    (end > pos).then_some(end)
}

fn digit_triple_end(s: &str, pos: usize) -> Option<usize> {
    let triple = s.as_bytes().get(pos..pos.checked_add(3)?)?;
    triple.iter().all(u8::is_ascii_digit).then_some(pos + 3)
}

fn spaced_run_end(s: &str, pos: usize, set: Set) -> Option<usize> {
    let first = at(s, pos)?;
    let start = if first.class == Class::Space { first.next } else { pos };
    isolate_end(s, start, set, NO_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        Pre::named(pre).unwrap().split(text, &mut |w| out.push(w.to_string()));
        assert_eq!(out.concat(), text, "{pre}: no character is lost");
        out
    }

    #[test]
    fn qwen2_words() {
        assert_eq!(words("qwen2", "I'm 123  ok\n\n x"), ["I", "'m", " ", "1", "2", "3", " ", " ok", "\n\n", " x"]);
        assert_eq!(words("qwen2", "fn f() {\n    x\n}"), ["fn", " f", "()", " {\n", "   ", " x", "\n", "}"]);
        assert_eq!(words("qwen2", "   "), ["   "]);
        assert_eq!(words("qwen2", "a!!\r\n\r\n"), ["a", "!!\r\n\r\n"]);
    }

    #[test]
    fn llama3_groups_digits() {
        assert_eq!(words("llama-bpe", "12345 'LL"), ["123", "45", " '", "LL"]);
    }

    #[test]
    fn gpt2_words() {
        assert_eq!(words("gpt-2", "we'll  do 42!\n\n"), ["we", "'ll", " ", " do", " 42", "!", "\n\n"]);
    }

    #[test]
    fn starcoder_digits_stand_alone() {
        assert_eq!(words("starcoder", "x = 42"), ["x", " =", " ", "4", "2"]);
    }

    #[test]
    fn falcon_digit_triples() {
        assert_eq!(words("falcon", "12345"), ["123", "45"]);
    }

    #[test]
    fn deepseek_coder_words() {
        assert_eq!(words("deepseek-coder", "a  b1\n\n"), ["a", " ", " b", "1", "\n", "\n"]);
    }

    #[test]
    fn case_words_split_where_case_rises() {
        assert_eq!(words("tekken", "parseHTMLDoc"), ["parse", "HTMLDoc"]);
        assert_eq!(words("tekken", "ÉABC"), ["É", "ABC"]);
        assert_eq!(words("gpt-4o", "Don't 1234"), ["Don't", " ", "123", "4"]);
    }

    #[test]
    fn deepseek3_words() {
        assert_eq!(words("deepseek-v3", ".foo(12345)\n"), [".foo", "(", "123", "45", ")\n"]);
    }

    #[test]
    fn every_name_is_found_and_lossless() {
        let text = "Hello, wörld!  12345 中文テスト\r\n\t e\u{301}x \u{a0}\u{3000} 🚀🚀 'S'll \u{0} \u{85}~`^|+<=>$   ";
        for name in known_names() {
            words(name, text);
            words(name, "");
        }
        assert!(Pre::named("no-such").is_none());
    }
}
