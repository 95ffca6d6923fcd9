//! A draft model (Leviathan et al. 2023): a small model of the same vocabulary writes what the large one then verifies. It is
//! asked where nothing can be copied and one sequence decodes alone: with company a step's rows are better spent on that.
//! It reads only the last tokens before the place where it begins: drafts need not be perfect, and a long prompt read twice
//! would cost more than they bring.

use crate::lm::Lm;
use base::TokenId;
use model::Picks;
use ops::{Batch, PAGE_LEN, Row};

/// Most tokens of one draft.
pub(crate) const DRAFT_MODEL_MAX: usize = 8;
/// What each further row of a step costs, in steps of one row.
const ROW_SHARE: f32 = 0.1;
/// Tokens it reads of a sequence when it begins, and again when it has fallen behind.
pub(crate) const WINDOW: usize = 128;
/// Answers shorter than this are over before it would pay.
pub(crate) const ANSWER_MIN: usize = 16;

/// A draft model and what it has seen of each slot.
pub(crate) struct Small {
    lm: Box<dyn Lm>,
    /// What one of its steps costs, in steps of one row of the large model.
    pub(crate) cost: f32,
    /// Tokens of each slot whose keys and values it has, and where in the sequence they begin.
    seen: Vec<Vec<TokenId>>,
    begin: Vec<usize>,
    tables: Vec<u32>,
    per_slot: usize,
    rows: Vec<Row>,
    pub(crate) draft: Vec<TokenId>,
    /// Cost of what it did in the present step.
    pub(crate) spent: f32,
}

impl Small {
    /// For as many slots of `n_ctx` tokens as the large model has; `lm` was made with pages for all of them.
    pub(crate) fn new(lm: Box<dyn Lm>, cost: f32, n_slots: usize, n_ctx: usize) -> Self {
        let per_slot = n_ctx.div_ceil(PAGE_LEN);
        Self {
            lm,
            cost,
            seen: (0..n_slots).map(|_| Vec::with_capacity(n_ctx + 1)).collect(),
            begin: vec![0; n_slots],
            tables: (0..(n_slots * per_slot) as u32).collect(),
            per_slot,
            rows: Vec::with_capacity(WINDOW),
            draft: Vec::with_capacity(DRAFT_MODEL_MAX),
            spent: 0.0,
        }
    }

    /// Writes up to `n` tokens that may follow `tokens` of slot `i`. Ends after a token for which `is_end`.
    pub(crate) fn write(&mut self, i: usize, tokens: &[TokenId], n: usize, is_end: impl Fn(TokenId) -> bool) {
        self.draft.clear();
        let own = tokens.get(self.begin[i]..).unwrap_or_default();
        let n_same = self.seen[i].iter().zip(own).take_while(|(a, b)| a == b).count();
        // The last token's scores are wanted, so it is read again if need be.
        self.seen[i].truncate(n_same.min(own.len().saturating_sub(1)));
        let behind = own.len() - self.seen[i].len();
        if n_same == 0 || behind > WINDOW || own.len() + n > self.limit() {
            self.begin[i] = tokens.len().saturating_sub(WINDOW);
            self.seen[i].clear();
        }
        let from = self.begin[i] + self.seen[i].len();
        let mut next = self.read(i, &tokens[from..]);
        while self.draft.len() < n {
            self.draft.push(next);
            if is_end(next) || self.draft.len() == n {
                break;
            }
            next = self.read(i, &[next]);
        }
    }

    fn limit(&self) -> usize {
        self.per_slot * PAGE_LEN
    }

    /// Computes tokens behind those seen; the best token after them.
    fn read(&mut self, i: usize, tokens: &[TokenId]) -> TokenId {
        let (start, table) = (self.seen[i].len(), (i * self.per_slot) as u32);
        self.rows.clear();
        let row = |(k, t): (usize, &TokenId)| Row { token: *t, pos: (start + k) as u32, table };
        self.rows.extend(tokens.iter().enumerate().map(row));
        self.seen[i].extend_from_slice(tokens);
        let last = [self.rows.len() as u32 - 1];
        self.lm.forward(Batch { rows: &self.rows, pages: &self.tables }, Picks { full: &[], best: &last });
        self.spent += self.cost * (1.0 + (tokens.len() - 1) as f32 * ROW_SHARE);
        self.lm.best(0)
    }
}
