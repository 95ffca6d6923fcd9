//! Special tokens: which they are, which of them end an answer, and where they stand in a text.
//!
//! GGUF files are careless about this, so tokens are also known by their text; the lists follow llama.cpp.
use crate::error::TextError;
use crate::hash::TextIndex;
use base::TokenId;
use base::limits::SPECIAL_TOKEN_BYTES_MAX;
use base::vocab::{FimTokens, TokenKind, VocabModel, VocabSpec};

/// A token is what its kind says, and more where its text gives it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) kind: TokenKind,
    /// Not produced by ordinary text, not shown in output.
    pub(crate) is_hidden: bool,
    /// White space behind the token in a text belongs to it (Phi-3).
    pub(crate) strips_right: bool,
}

/// What a vocabulary says about its special tokens.
#[derive(Clone, Debug)]
pub(crate) struct Specials {
    pub(crate) roles: Vec<Role>,
    pub(crate) eog: Vec<TokenId>,
    pub(crate) eot: Option<TokenId>,
    pub(crate) fim: FimTokens,
}

const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &str = "<|eom_id|>";
const END: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    EOM,
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
const FIM_PREFIX: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUFFIX: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MIDDLE: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPO: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<repo_name>"];
const FIM_FILE: &[&str] = &["<|file_sep|>", "<file_sep>"];
/// Tokens that structure an answer and so are shown, whatever the file says.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];
/// Only Phi-3 vocabularies have this one.
const PHI3_MARK: &str = "<|placeholder1|>";
/// Of Phi-3's special tokens, those that do not take white space along.
const PHI3_BARE: &[&str] = &["<unk>", "<s>", "<|endoftext|>"];

struct Finder<'a> {
    spec: &'a VocabSpec,
    index: &'a TextIndex,
    roles: Vec<Role>,
}

impl Finder<'_> {
    fn by_text(&self, text: &str) -> Option<TokenId> {
        self.index.get(&self.spec.tokens, text)
    }

    /// The file's own choice, or the first token with one of these texts, which then counts as hidden.
    fn find(&mut self, given: Option<TokenId>, texts: &[&str]) -> Option<TokenId> {
        given.or_else(|| {
            let id = texts.iter().find_map(|t| self.by_text(t))?;
            self.hide(id);
            Some(id)
        })
    }

    /// Do merges make this token out of plain text? Qwen and Llama 3 know `</s>` so, from HTML: it ends nothing.
    fn is_ordinary(&self, id: TokenId, text: &str) -> bool {
        let is_made = |merge: &str| {
            merge.len() == text.len() + 1
                && merge.split_once(' ').is_some_and(|(left, right)| text.strip_prefix(left) == Some(right))
        };
        self.spec.kinds[id as usize] == TokenKind::Normal && self.spec.merges.iter().any(is_made)
    }

    fn hide(&mut self, id: TokenId) {
        self.roles[id as usize].is_hidden = true;
    }

    fn show(&mut self, id: TokenId, kind: TokenKind) {
        self.roles[id as usize] = Role { kind, is_hidden: false, strips_right: false };
    }

    fn end_of_generation(&mut self, fim: FimTokens, others: &[Option<TokenId>]) -> Vec<TokenId> {
        let mut eog: Vec<TokenId> = [fim.pad, fim.repo, fim.file_sep].into_iter().flatten().collect();
        for text in END {
            if let Some(id) = self.by_text(text).filter(|id| !self.is_ordinary(*id, text)) {
                self.hide(id);
                eog.push(id);
            }
        }
        for id in SHOWN.iter().filter_map(|t| self.by_text(t)).collect::<Vec<_>>() {
            self.show(id, TokenKind::UserDefined);
        }
        eog.extend(others.iter().flatten());
        let has = |eog: &[TokenId], text: &str| self.by_text(text).is_some_and(|id| eog.contains(&id));
        // gpt-oss and Solar end messages, not answers, with <|end|>.
        let calls = has(&eog, "<|call|>") || has(&eog, "<|calls|>");
        let drop_end = calls && (has(&eog, "<|return|>") || has(&eog, "<|flush|>"));
        // Gemma 4 and PLaMo have an ordinary token with the text </s>.
        let drop_s = has(&eog, "<|tool_response>") || has(&eog, "<|plamo:eos|>");
        for (drop, text, kind) in [(drop_end, "<|end|>", TokenKind::UserDefined), (drop_s, "</s>", TokenKind::Normal)] {
            if let Some(id) = self.by_text(text).filter(|id| drop && eog.contains(id)) {
                eog.retain(|&e| e != id);
                self.show(id, kind);
            }
        }
        eog.sort_unstable();
        eog.dedup();
        eog
    }

    fn strip_right_as_phi3(&mut self) {
        if self.spec.model != VocabModel::Spm || self.by_text(PHI3_MARK).is_none() {
            return;
        }
        for (id, role) in self.roles.iter_mut().enumerate() {
            let text = self.spec.tokens.get(id).unwrap_or("");
            role.strips_right = (is_matched(role) || text == "</s>") && !PHI3_BARE.contains(&text);
        }
    }
}

/// Is the token looked for in texts as a whole?
fn is_matched(role: &Role) -> bool {
    role.is_hidden || role.kind == TokenKind::UserDefined
}

impl Specials {
    /// `index` finds `spec.tokens`.
    pub(crate) fn new(spec: &VocabSpec, index: &TextIndex) -> Specials {
        let role = |&kind: &TokenKind| {
            let is_hidden = matches!(kind, TokenKind::Control | TokenKind::Unknown);
            Role { kind, is_hidden, strips_right: false }
        };
        let mut finder = Finder { spec, index, roles: spec.kinds.iter().map(role).collect() };
        let eot = finder.find(spec.eot, EOT);
        let eom = finder.find(None, &[EOM]);
        let fim = FimTokens {
            prefix: finder.find(spec.fim.prefix, FIM_PREFIX),
            suffix: finder.find(spec.fim.suffix, FIM_SUFFIX),
            middle: finder.find(spec.fim.middle, FIM_MIDDLE),
            pad: finder.find(spec.fim.pad, FIM_PAD),
            repo: finder.find(spec.fim.repo, FIM_REPO),
            file_sep: finder.find(spec.fim.file_sep, FIM_FILE),
        };
        let eog = finder.end_of_generation(fim, &[spec.eos, eot, eom]);
        finder.strip_right_as_phi3();
        Specials { roles: finder.roles, eog, eot, fim }
    }
}

/// A tree of the special tokens' texts. At each byte of a text the longest one that begins there is found; a walk is at most
/// `SPECIAL_TOKEN_BYTES_MAX` long, and most bytes are passed over by a table of first bytes.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    nodes: Vec<Node>,
    /// (byte, node): the edges of a node stand together, sorted by byte.
    edges: Vec<(u8, u32)>,
    /// Does a token begin with this byte? Of the shown ones, of all.
    starts: [[bool; 2]; 256],
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    first_edge: u32,
    n_edges: u32,
    /// The token that ends here.
    token: Option<TokenId>,
    is_hidden: bool,
}

/// A special token in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) token: TokenId,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Matcher {
    pub(crate) fn new(spec: &VocabSpec, roles: &[Role]) -> Result<Matcher, TextError> {
        let mut texts: Vec<(&[u8], TokenId)> = Vec::new();
        for (id, (text, role)) in spec.tokens.iter().zip(roles).enumerate() {
            if !is_matched(role) || text.is_empty() {
                continue;
            }
            if text.len() > SPECIAL_TOKEN_BYTES_MAX {
                return Err(TextError::Limit {
                    what: "the text of a special token, in bytes,",
                    limit: "SPECIAL_TOKEN_BYTES_MAX",
                    max: SPECIAL_TOKEN_BYTES_MAX,
                    got: text.len(),
                });
            }
            texts.push((text.as_bytes(), id as TokenId));
        }
        texts.sort_unstable();
        texts.dedup_by_key(|(text, _)| *text);
        let mut matcher = Matcher { nodes: vec![Node::default()], edges: Vec::new(), starts: [[false; 2]; 256] };
        for (text, id) in &texts {
            let is_hidden = roles[*id as usize].is_hidden;
            let start = &mut matcher.starts[usize::from(text[0])];
            *start = [start[0] || !is_hidden, true];
        }
        matcher.grow(&texts, roles);
        Ok(matcher)
    }

    /// Makes the nodes level by level: a node stands for the sorted texts that share its path.
    fn grow(&mut self, texts: &[(&[u8], TokenId)], roles: &[Role]) {
        let mut level = vec![(0usize, texts)];
        let mut depth = 0;
        while !level.is_empty() {
            let mut below = Vec::new();
            for (node, mut rest) in level {
                if let Some(((_, id), longer)) = rest.split_first().filter(|((text, _), _)| text.len() == depth) {
                    self.nodes[node].token = Some(*id);
                    self.nodes[node].is_hidden = roles[*id as usize].is_hidden;
                    rest = longer;
                }
                self.nodes[node].first_edge = self.edges.len() as u32;
                for group in rest.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                    self.edges.push((group[0].0[depth], self.nodes.len() as u32));
                    below.push((self.nodes.len(), group));
                    self.nodes.push(Node::default());
                    self.nodes[node].n_edges += 1;
                }
            }
            level = below;
            depth += 1;
        }
    }

    fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let edges = self.edges.get(node.first_edge as usize..)?.get(..node.n_edges as usize)?;
        let edge = match edges {
            [only] => Some(only).filter(|e| e.0 == byte)?,
            _ => edges.get(edges.binary_search_by_key(&byte, |e| e.0).ok()?)?,
        };
        self.nodes.get(edge.1 as usize).copied()
    }

    /// The first special token at or after byte `from`; the longest, where several begin there. Hidden ones only if asked for.
    pub(crate) fn find(&self, text: &str, from: usize, with_hidden: bool) -> Option<Found> {
        let bytes = text.as_bytes();
        let column = usize::from(with_hidden);
        let mut start = from;
        while start < bytes.len() {
            start += bytes[start..].iter().position(|&b| self.starts[usize::from(b)][column])?;
            let mut node = self.nodes[0];
            let mut longest = None;
            for (i, &byte) in bytes[start..].iter().enumerate() {
                let Some(next) = self.child(node, byte) else { break };
                node = next;
                if let Some(token) = node.token.filter(|_| with_hidden || !node.is_hidden) {
                    longest = Some(Found { token, start, end: start + i + 1 });
                }
            }
            if longest.is_some() {
                return longest;
            }
            start += 1;
        }
        None
    }
}
