//! Fill-in-the-middle: the code before and after a cursor in the form that the model was trained on.
//!
//! The parts are a stranger's code, so they are tokenised without special tokens; only the template itself writes those.
use crate::tokenizer::{Encode, Tokenizer};
use base::TokenId;

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

    #[test]
    fn no_template_without_the_tokens() {
        assert_eq!(FimTemplate::of(&tokenizer(&["<fim_prefix>", "<fim_suffix>"])), None);
    }
}
