//! Fill-in-the-middle: the code before and after a cursor in the form that the model was trained on.
//!
//! The parts are a stranger's code, so they are tokenised without special tokens; only the template itself writes those.
use crate::tokenizer::{Encode, Tokenizer};
use base::TokenId;
use base::limits::PROMPT_BYTES_PER_CTX_TOKEN_MAX;

/// What llama.cpp puts before each file for models that were not trained on repositories.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// The order of a prompt's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FimForm {
    /// `<prefix>P<suffix>S<middle>`: Qwen2.5-Coder, StarCoder, Granite, CodeLlama.
    PrefixSuffixMiddle,
    /// `<begin>P<hole>S<end>`: DeepSeek-Coder. The same order; repositories are written as plain files.
    BeginHoleEnd,
}

/// Another file of the same repository, given for context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimFile<'a> {
    /// Its path in the repository.
    pub path: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// What to fill in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FimInput<'a> {
    /// Code before the cursor.
    pub prefix: &'a str,
    /// Code after the cursor.
    pub suffix: &'a str,
    /// Name of the repository, where other files are given.
    pub repo: Option<&'a str>,
    /// Path of the file that is edited, where other files are given.
    pub path: Option<&'a str>,
    /// Other files, most important last: nearest to the cursor.
    pub files: &'a [FimFile<'a>],
}

/// A prompt that was made to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The prompt.
    pub tokens: Vec<TokenId>,
    /// Something was left out.
    pub is_cut: bool,
}

/// How a model wants its middle asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimTemplate {
    form: FimForm,
    prefix: TokenId,
    suffix: TokenId,
    middle: TokenId,
    repo: Option<TokenId>,
    file_sep: Option<TokenId>,
}

impl FimTemplate {
    /// The template of a model, if its vocabulary has the tokens for one.
    pub fn of(tokenizer: &Tokenizer) -> Option<FimTemplate> {
        let fim = tokenizer.fim();
        let (prefix, suffix, middle) = (fim.prefix?, fim.suffix?, fim.middle?);
        let is_deepseek = tokenizer.token_text(suffix) == "<｜fim▁hole｜>";
        let form = if is_deepseek { FimForm::BeginHoleEnd } else { FimForm::PrefixSuffixMiddle };
        Some(FimTemplate { form, prefix, suffix, middle, repo: fim.repo, file_sep: fim.file_sep })
    }

    /// The order of the parts.
    pub fn form(&self) -> FimForm {
        self.form
    }

    /// Can the model be given other files of a repository?
    pub fn takes_files(&self) -> bool {
        self.file_sep.is_some() || self.form == FimForm::BeginHoleEnd
    }

    /// The prompt for a place between two texts of one file.
    pub fn prompt(&self, tokenizer: &Tokenizer, prefix: &str, suffix: &str) -> Vec<TokenId> {
        self.prompt_with_files(tokenizer, &FimInput { prefix, suffix, ..FimInput::default() })
    }

    /// The prompt for a place in a file, with other files before it where the model takes them. Files are left out for
    /// models that do not; `bos` comes first where the vocabulary asks for it.
    pub fn prompt_with_files(&self, tokenizer: &Tokenizer, input: &FimInput<'_>) -> Vec<TokenId> {
        let mut out = Vec::new();
        if tokenizer.adds_bos() {
            out.extend(tokenizer.bos());
        }
        if !input.files.is_empty() {
            self.push_files(tokenizer, input, &mut out);
        }
        out.push(self.prefix);
        tokenizer.encode_into(input.prefix, Encode::TEXT, &mut out);
        out.push(self.suffix);
        tokenizer.encode_on(input.suffix, &mut out); // it goes on in the middle of a line: no space is put before it
        out.push(self.middle);
        out
    }

    /// The prompt for a place in a file whose gap holds `middle` already, in at most `max` tokens. What does not fit is
    /// left out: the front of `middle` beyond half of the room; of the rest, the end of the suffix beyond a quarter and
    /// the front of the prefix beyond three (either takes what the other leaves); then the files that do not fit, first ones
    /// first. Models that take no files are given them as plain text, as llama.cpp does.
    pub fn fitted(&self, tokenizer: &Tokenizer, input: &FimInput<'_>, middle: &str, max: usize) -> Fitted {
        let mut tokens = Vec::new();
        if tokenizer.adds_bos() {
            tokens.extend(tokenizer.bos());
        }
        let room = max.saturating_sub(tokens.len() + 3);
        let bytes = room.saturating_mul(PROMPT_BYTES_PER_CTX_TOKEN_MAX); // what is far too long is not even tokenised
        let (before, after, within) = (tail(input.prefix, bytes), head(input.suffix, bytes), tail(middle, bytes));
        let whole = (input.prefix.len(), input.suffix.len(), middle.len());
        let mut is_cut = (before.len(), after.len(), within.len()) != whole;

        let mut prefix = tokenizer.encode(before, Encode::TEXT);
        let (mut suffix, mut middle) = (Vec::new(), Vec::new());
        tokenizer.encode_on(after, &mut suffix);
        tokenizer.encode_on(within, &mut middle);
        let n_sent = prefix.len() + suffix.len() + middle.len();
        keep_end(&mut middle, room / 2);
        let rest = room - middle.len();
        suffix.truncate((rest / 4).max(rest.saturating_sub(prefix.len())));
        keep_end(&mut prefix, rest - suffix.len());
        is_cut |= prefix.len() + suffix.len() + middle.len() < n_sent;

        let n_files = self.push_last_files(tokenizer, input, rest - prefix.len() - suffix.len(), &mut tokens);
        is_cut |= n_files < input.files.len();
        tokens.push(self.prefix);
        tokens.append(&mut prefix);
        tokens.push(self.suffix);
        tokens.append(&mut suffix);
        tokens.push(self.middle);
        tokens.append(&mut middle);
        Fitted { tokens, is_cut }
    }

    /// As many of the last files as fit into `room` tokens; how many.
    fn push_last_files(&self, t: &Tokenizer, input: &FimInput<'_>, room: usize, out: &mut Vec<TokenId>) -> usize {
        let frame = |files| {
            let mut tokens = Vec::new();
            self.push_files(t, &FimInput { files, ..*input }, &mut tokens);
            tokens.len()
        };
        let plain = |file: &FimFile<'_>| t.encode(&format!("{SNIPPET}{}", file.text), Encode::TEXT);
        let takes_files = self.takes_files();
        let n_frame = if takes_files { frame(&[]) } else { 0 };
        let (mut n_left, mut first) = (room.saturating_sub(n_frame), input.files.len());
        while let Some(file) = first.checked_sub(1).and_then(|i| input.files.get(i..=i)) {
            let n_bytes = file[0].text.len().saturating_add(file[0].path.len());
            if n_bytes > n_left.saturating_mul(PROMPT_BYTES_PER_CTX_TOKEN_MAX) {
                break;
            }
            let n = if takes_files { frame(file) - n_frame } else { plain(&file[0]).len() };
            let Some(left) = n_left.checked_sub(n) else { break };
            (n_left, first) = (left, first - 1);
        }
        let files = input.files.get(first..).unwrap_or_default();
        match takes_files {
            _ if files.is_empty() => {}
            true => self.push_files(t, &FimInput { files, ..*input }, out),
            false => files.iter().for_each(|f| out.extend(plain(f))),
        }
        files.len()
    }

    /// `<repo>NAME\n<file>PATH\nTEXT\n...<file>PATH\n`, as Qwen2.5-Coder and StarCoder2 were trained; `#PATH\nTEXT\n` for DeepSeek.
    fn push_files(&self, tokenizer: &Tokenizer, input: &FimInput<'_>, out: &mut Vec<TokenId>) {
        let text = |text: &str, out: &mut Vec<TokenId>| tokenizer.encode_into(text, Encode::TEXT, out);
        if let Some(file_sep) = self.file_sep {
            if let Some(repo) = self.repo {
                out.push(repo);
                text(&format!("{}\n", input.repo.unwrap_or("repo")), out);
            }
            for file in input.files {
                out.push(file_sep);
                text(&format!("{}\n{}\n", file.path, file.text), out);
            }
            out.push(file_sep);
            text(&format!("{}\n", input.path.unwrap_or("file")), out);
        } else if self.form == FimForm::BeginHoleEnd {
            for file in input.files {
                text(&format!("#{}\n{}\n", file.path, file.text), out);
            }
            if let Some(path) = input.path {
                text(&format!("#{path}\n"), out);
            }
        }
    }
}

fn keep_end(tokens: &mut Vec<TokenId>, n: usize) {
    tokens.drain(..tokens.len().saturating_sub(n));
}

/// At most this many bytes from the beginning, in whole characters.
fn head(text: &str, mut bytes: usize) -> &str {
    bytes = bytes.min(text.len());
    while !text.is_char_boundary(bytes) {
        bytes -= 1;
    }
    &text[..bytes]
}

/// The same from the end.
fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::byte_level;
    use base::vocab::TokenKind;

    fn tokenizer(names: &[&str]) -> Tokenizer {
        let more: Vec<_> = names.iter().map(|n| (*n, TokenKind::Control)).collect();
        Tokenizer::new(&byte_level("qwen2", &more, &[])).unwrap()
    }

    fn shown(t: &Tokenizer, ids: &[TokenId]) -> String {
        String::from_utf8(t.decode(ids, true)).unwrap()
    }

    const QWEN: &[&str] = &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"];

    #[test]
    fn one_file() {
        let t = tokenizer(QWEN);
        let ids = FimTemplate::of(&t).unwrap().prompt(&t, "a(", ")b");
        assert_eq!(shown(&t, &ids), "<|fim_prefix|>a(<|fim_suffix|>)b<|fim_middle|>");
        assert_eq!(ids.iter().filter(|&&id| id >= 256).count(), 3);
    }

    #[test]
    fn special_tokens_in_the_users_code_stay_text() {
        let t = tokenizer(QWEN);
        let ids = FimTemplate::of(&t).unwrap().prompt(&t, "<|fim_middle|>", "<|file_sep|>");
        assert_eq!(ids.iter().filter(|&&id| id >= 256).count(), 3);
    }

    #[test]
    fn a_repository() {
        let t = tokenizer(QWEN);
        let files = [FimFile { path: "b.py", text: "x = 1" }];
        let input = FimInput { prefix: "p", suffix: "s", repo: Some("r"), path: Some("a.py"), files: &files };
        let ids = FimTemplate::of(&t).unwrap().prompt_with_files(&t, &input);
        let want =
            "<|repo_name|>r\n<|file_sep|>b.py\nx = 1\n<|file_sep|>a.py\n<|fim_prefix|>p<|fim_suffix|>s<|fim_middle|>";
        assert_eq!(shown(&t, &ids), want);
    }

    #[test]
    fn deepseek_and_starcoder_forms() {
        let t = tokenizer(&["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]);
        let template = FimTemplate::of(&t).unwrap();
        assert_eq!(template.form(), FimForm::BeginHoleEnd);
        assert_eq!(shown(&t, &template.prompt(&t, "a", "b")), "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>");
        let t = tokenizer(&["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]);
        let template = FimTemplate::of(&t).unwrap();
        assert!(!template.takes_files());
        assert_eq!(shown(&t, &template.prompt(&t, "a", "b")), "<fim_prefix>a<fim_suffix>b<fim_middle>");
    }

    /// Byte-level vocabulary: a token is a byte, so lengths can be told by eye.
    #[test]
    fn what_does_not_fit_is_left_out_by_rule() {
        let t = tokenizer(QWEN);
        let fim = FimTemplate::of(&t).unwrap();
        let files = [FimFile { path: "b", text: "old" }, FimFile { path: "c", text: "new" }];
        let input =
            FimInput { prefix: "0123456789", suffix: "abcdefghij", repo: Some("r"), path: Some("a"), files: &files };
        let show = |middle: &str, max: usize| {
            let fitted = fim.fitted(&t, &input, middle, max);
            assert!(fitted.tokens.len() <= max.max(3), "{max}");
            (shown(&t, &fitted.tokens).replace("<|", "<").replace("|>", ">").replace('\n', "/"), fitted.is_cut)
        };
        let gap = "<fim_prefix>0123456789<fim_suffix>abcdefghij<fim_middle>";
        let (old, new) = ("<file_sep>b/old/", "<file_sep>c/new/");
        let with = |files: &str| format!("<repo_name>r/{files}<file_sep>a/{gap}");
        assert_eq!(show("", 100), (with(&[old, new].concat()), false));
        let whole = fim.prompt_with_files(&t, &input);
        assert_eq!(fim.fitted(&t, &input, "", 100).tokens, whole, "the same prompt if nothing is left out");
        let n = whole.len();
        assert_eq!(show("xyz", n + 3), (with(&[old, new].concat()) + "xyz", false));
        assert_eq!(show("", n - 1), (with(new), true), "the oldest file goes first");
        assert_eq!(show("", 29), (gap.to_owned(), true), "no frame without a file");
        assert_eq!(show("", 23), (gap.to_owned(), true));
        assert_eq!(show("", 19).0, "<fim_prefix>0123456789<fim_suffix>abcdef<fim_middle>");
        assert_eq!(show("", 11).0, "<fim_prefix>456789<fim_suffix>ab<fim_middle>");
        assert_eq!(show("uvwxyz", 11).0, "<fim_prefix>789<fim_suffix>a<fim_middle>wxyz");
        assert_eq!(show("uvwxyz", 0).0, "<fim_prefix><fim_suffix><fim_middle>");
        for max in 0..80 {
            assert!(fim.fitted(&t, &input, "é漢😀", max).tokens.len() <= max.max(3));
        }
        let long = "é".repeat(100_000);
        let fitted = fim.fitted(&t, &FimInput { prefix: &long, suffix: &long, ..FimInput::default() }, &long, 64);
        assert!(fitted.is_cut && fitted.tokens.len() == 64);
    }

    #[test]
    fn models_without_a_separator_get_plain_text() {
        let t = tokenizer(&["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]);
        let files = [FimFile { path: "b", text: "x = 1" }];
        let input = FimInput { prefix: "p", suffix: "s", files: &files, ..FimInput::default() };
        let fitted = FimTemplate::of(&t).unwrap().fitted(&t, &input, "m", 100);
        assert_eq!(shown(&t, &fitted.tokens), format!("{SNIPPET}x = 1<fim_prefix>p<fim_suffix>s<fim_middle>m"));
        assert!(!fitted.is_cut);
    }

    #[test]
    fn no_template_without_the_tokens() {
        assert_eq!(FimTemplate::of(&tokenizer(&["<fim_prefix>", "<fim_suffix>"])), None);
    }
}
