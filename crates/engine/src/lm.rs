//! What the engine needs of a language model: rows in, scores of the picked rows out, and pages that can be copied, read and
//! written. `ModelLm` is a model on a backend; the simulator puts a toy in its place.

use crate::api::PageForm;
use base::TokenId;
use model::{Model, Picks, Scratch};
use ops::{Backend, Batch, OpsError};

/// A language model with a paged cache of keys and values.
pub trait Lm: Send {
    /// For people.
    fn name(&self) -> String;
    /// Size of the vocabulary it scores.
    fn n_vocab(&self) -> usize;
    /// One step.
    fn forward(&mut self, batch: Batch<'_>, picks: Picks<'_>);
    /// Logits of the last step's `full[i]`, `[n_vocab]`.
    fn logits(&mut self, i: usize) -> &[f32];
    /// Best token of the last step's `best[i]`; ties go to the lower id.
    fn best(&self, i: usize) -> TokenId;
    /// Copies one page.
    fn copy_page(&mut self, from: u32, to: u32);
    /// What a page's bytes are.
    fn page_form(&self) -> PageForm;
    /// Copies a page's bytes out.
    fn read_page(&self, page: u32, out: &mut [u8]);
    /// Puts such bytes into a page.
    fn write_page(&mut self, page: u32, bytes: &[u8]);
}

/// A model on a backend.
pub struct ModelLm<B: Backend> {
    backend: B,
    model: Model<B>,
    kv: B::Kv,
    scratch: Scratch<B>,
    host: Vec<f32>,
}

/// Sizes of a `ModelLm`.
#[derive(Clone, Copy, Debug)]
pub struct LmSizes {
    /// Positions of one sequence.
    pub n_ctx: usize,
    /// Pages of the cache.
    pub n_pages: usize,
    /// Most rows of a step.
    pub step_rows: usize,
    /// Most rows of a step with all logits.
    pub full_rows: usize,
}

impl<B: Backend> ModelLm<B> {
    /// Makes room.
    ///
    /// # Errors
    /// Memory.
    pub fn new(mut backend: B, model: Model<B>, sizes: LmSizes) -> Result<Self, OpsError> {
        let kv = backend.new_kv(model.kv_shape(sizes.n_pages))?;
        let scratch = Scratch::new(&mut backend, &model, sizes.step_rows, sizes.full_rows, sizes.n_ctx)?;
        Ok(Self { backend, model, kv, scratch, host: Vec::new() })
    }
}

impl<B: Backend> Lm for ModelLm<B>
where
    B::Kv: Send,
    B::Act: Send,
{
    fn name(&self) -> String {
        self.backend.name()
    }
    fn n_vocab(&self) -> usize {
        self.model.hp.n_vocab
    }
    fn forward(&mut self, batch: Batch<'_>, picks: Picks<'_>) {
        self.model.forward_picks(&mut self.backend, &mut self.kv, &mut self.scratch, batch, picks);
    }
    fn logits(&mut self, i: usize) -> &[f32] {
        self.backend.row(&self.scratch.logits, i, &mut self.host)
    }
    fn best(&self, i: usize) -> TokenId {
        self.scratch.best[i].1
    }
    fn copy_page(&mut self, from: u32, to: u32) {
        self.backend.kv_copy_page(&mut self.kv, from, to);
    }
    fn page_form(&self) -> PageForm {
        PageForm { bytes: self.backend.kv_page_bytes(&self.kv), layout: self.backend.kv_layout(&self.kv) }
    }
    fn read_page(&self, page: u32, out: &mut [u8]) {
        self.backend.kv_read_page(&self.kv, page, out);
    }
    fn write_page(&mut self, page: u32, bytes: &[u8]) {
        self.backend.kv_write_page(&mut self.kv, page, bytes);
    }
}
