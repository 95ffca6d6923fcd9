//! One sequence, fed by hand: for tools that want every position's logits or the time of one forward pass
//! (`vonk logits`, `vonk perplexity`, `vonk bench`). The same model, backend and order of sums as the engine.

use base::TokenId;
use model::{Model, Scratch};
use ops::{Backend, Batch, OpsError, PAGE_LEN, Row};

/// A model, a backend and one sequence.
pub struct Probe<B: Backend> {
    backend: B,
    model: Model<B>,
    kv: B::Kv,
    scratch: Scratch<B>,
    pages: Vec<u32>,
    rows: Vec<Row>,
    pick: Vec<u32>,
    host: Vec<f32>,
    len: usize,
    n_ctx: usize,
    step_rows: usize,
    picks_max: usize,
}

/// Which rows of a step get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// The last one.
    Last,
    /// Every one.
    All,
}

impl<B: Backend> Probe<B> {
    /// For sequences of `n_ctx` tokens, steps of at most `step_rows` rows, of which `picks` can have logits.
    ///
    /// # Errors
    /// Memory.
    pub fn new(
        mut backend: B,
        model: Model<B>,
        n_ctx: usize,
        step_rows: usize,
        picks: usize,
    ) -> Result<Self, OpsError> {
        let n_pages = n_ctx.div_ceil(PAGE_LEN).max(1);
        let kv = backend.new_kv(model.kv_shape(n_pages))?;
        let scratch = Scratch::new(&mut backend, &model, step_rows, picks, n_ctx)?;
        Ok(Self {
            kv,
            scratch,
            pages: (0..n_pages as u32).collect(),
            rows: Vec::with_capacity(step_rows),
            pick: Vec::with_capacity(picks),
            host: Vec::new(),
            len: 0,
            n_ctx,
            step_rows,
            picks_max: picks,
            backend,
            model,
        })
    }

    /// Tokens fed so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing fed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.model.hp.n_vocab
    }

    /// The backend's name for itself.
    pub fn backend_name(&self) -> String {
        self.backend.name()
    }

    /// Forgets everything after the first `len` tokens.
    pub fn rewind(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Runs one step over `tokens` (at most `step_rows`, as far as the context lasts), at the end of the sequence.
    /// Returns how many rows have logits now.
    pub fn step(&mut self, tokens: &[TokenId], want: Want) -> usize {
        let n = tokens.len().min(self.step_rows).min(self.n_ctx - self.len);
        self.rows.clear();
        let row = |(i, t): (usize, &TokenId)| Row { token: *t, pos: (self.len + i) as u32, table: 0 };
        self.rows.extend(tokens[..n].iter().enumerate().map(row));
        self.pick.clear();
        match want {
            Want::Nothing => {}
            Want::Last => self.pick.extend((n as u32).checked_sub(1)),
            Want::All => self.pick.extend(0..n.min(self.picks_max) as u32),
        }
        if n > 0 {
            let batch = Batch { rows: &self.rows, pages: &self.pages };
            self.model.forward(&mut self.backend, &mut self.kv, &mut self.scratch, batch, &self.pick);
        }
        self.len += n;
        self.pick.len()
    }

    /// Feeds any number of tokens in steps; only the last row of all has logits.
    pub fn feed(&mut self, tokens: &[TokenId]) {
        let last = tokens.len().div_ceil(self.step_rows).saturating_sub(1);
        for (i, chunk) in tokens.chunks(self.step_rows).enumerate() {
            self.step(chunk, if i == last { Want::Last } else { Want::Nothing });
        }
    }

    /// Logits number `i` of the last step, `[n_vocab]`.
    pub fn logits(&mut self, i: usize) -> &[f32] {
        self.backend.row(&self.scratch.logits, i, &mut self.host)
    }
}
