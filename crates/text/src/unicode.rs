//! What pre-tokenizers ask about a character: letter, number, mark, punctuation, symbol, white space.
//!
//! Characters of the basic plane are one look-up in a 64 KiB table that the compiler fills from the generated runs; the rest
//! (emoji, rare scripts) cost a binary search.
use crate::unicode_runs::{DEEPSEEK_LETTERS, RUNS};

/// The classes that the splitting patterns tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Controls, format characters, unassigned.
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\p{M}`.
    Mark,
    /// `\p{P}`.
    Punct,
    /// `\p{S}`.
    Symbol,
    /// `\s`, whatever its category.
    Space,
}

impl Class {
    const fn from_code(code: u8) -> Class {
        match code {
            1 => Class::Letter,
            2 => Class::Number,
            3 => Class::Mark,
            4 => Class::Punct,
            5 => Class::Symbol,
            6 => Class::Space,
            _ => Class::Other,
        }
    }
}

const BASIC: usize = 0x1_0000;

static BASIC_PLANE: [u8; BASIC] = fill_basic_plane();

const fn fill_basic_plane() -> [u8; BASIC] {
    let mut table = [0u8; BASIC];
    let mut run = 0;
    while run < RUNS.len() {
        let code = (RUNS[run] & 7) as u8;
        let mut cp = (RUNS[run] >> 3) as usize;
        let end = if run + 1 < RUNS.len() { (RUNS[run + 1] >> 3) as usize } else { BASIC };
        while cp < end && cp < BASIC {
            table[cp] = code;
            cp += 1;
        }
        run += 1;
    }
    table
}

/// The class of a character.
#[inline]
pub(crate) fn class(c: char) -> Class {
    let cp = c as u32;
    match BASIC_PLANE.get(cp as usize) {
        Some(&code) => Class::from_code(code),
        None => {
            let run = RUNS.partition_point(|&r| r >> 3 <= cp);
            Class::from_code(run.checked_sub(1).map_or(0, |i| (RUNS[i] & 7) as u8))
        }
    }
}

/// Is the character a cased letter in the pattern of `deepseek-llm`?
pub(crate) fn is_deepseek_letter(c: char) -> bool {
    let cp = c as u32;
    let i = DEEPSEEK_LETTERS.partition_point(|&(first, _)| first <= cp);
    i > 0 && cp <= DEEPSEEK_LETTERS[i - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_known_characters() {
        let cases = [
            ('a', Class::Letter),
            ('Z', Class::Letter),
            ('9', Class::Number),
            ('½', Class::Number),
            ('\u{301}', Class::Mark),
            ('!', Class::Punct),
            ('$', Class::Symbol),
            (' ', Class::Space),
            ('\u{85}', Class::Space),
            ('\u{3000}', Class::Space),
            ('\u{1c}', Class::Other),
            ('中', Class::Letter),
            ('🚀', Class::Symbol),
            ('\u{10ffff}', Class::Other),
            ('\u{20000}', Class::Letter),
        ];
        for (c, want) in cases {
            assert_eq!(class(c), want, "{c:?}");
        }
    }

    #[test]
    fn white_space_agrees_with_std() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            assert_eq!(class(c) == Class::Space, c.is_whitespace(), "{:x}", c as u32);
        }
    }

    #[test]
    fn deepseek_letters_are_cased() {
        assert!(is_deepseek_letter('a') && is_deepseek_letter('Ä') && is_deepseek_letter('я'));
        assert!(!is_deepseek_letter('中') && !is_deepseek_letter('1') && !is_deepseek_letter('ა'));
    }
}
