//! From a model's name to something that runs: store, backend, weights, text side.

use crate::args::{BackendKind, Engine as EngineArgs, IsaKind, KvKind};
use crate::fault::Fault;
use cpu::{Cpu, Isa, Portable};
use engine::{Config, Engine, Lm, LmSizes, ModelLm, Probe, Stepper};
use indicatif::{ProgressBar, ProgressStyle};
use model::Model;
use ops::{Backend, KvType, Numeric};
use server::{About, TextKit};
use store::{DEFAULT_MODEL, Found, LoadedModel, Store};
use text::Tokenizer;

/// Longest context that is taken without being asked for.
const CTX_DEFAULT_MAX: usize = 32_768;
/// Rows of a prefill step.
const STEP_ROWS: usize = base::limits::STEP_ROWS_MAX;

/// A model's files, described.
pub struct Opened {
    /// Name, path and digest.
    pub found: Found,
    /// Description and bytes.
    pub loaded: LoadedModel,
}

/// Opens a model by name or path; the default model when none is named.
pub fn open(model: Option<&str>) -> Result<Opened, Fault> {
    let (found, loaded) = Store::open(None)?.load(model.unwrap_or(DEFAULT_MODEL))?;
    Ok(Opened { found, loaded })
}

/// Something to do with whichever backend was chosen; it is compiled once for each.
pub trait WithBackend {
    /// What it gives.
    type Out;
    /// Does it.
    fn run<B: Backend + 'static>(self, backend: B) -> Result<Self::Out, Fault>;
}

/// Makes the backend that the options name and hands it on.
pub fn with_backend<W: WithBackend>(args: &EngineArgs, work: W) -> Result<W::Out, Fault> {
    let (threads, kept) = (threads(args), kv_type(args));
    let portable = |numeric| Portable::new(numeric, threads).with_kv(kept);
    match args.backend {
        BackendKind::Exact => work.run(portable(Numeric::Exact)),
        BackendKind::Portable => work.run(portable(Numeric::Quantised)),
        BackendKind::Cpu => {
            let isa = args.isa.map(|isa| match isa {
                IsaKind::Avx2 => Isa::Avx2,
                IsaKind::AvxVnni => Isa::AvxVnni,
                IsaKind::Avx512 => Isa::Avx512,
                IsaKind::Neon => Isa::Neon,
                IsaKind::NeonDot => Isa::NeonDot,
            });
            match (Cpu::new(isa, threads), isa) {
                (Some(cpu), _) => work.run(cpu.with_kv(kept)),
                (None, Some(isa)) => Err(Fault::input(format!("this machine has no {isa:?}; leave --isa out"))),
                (None, None) => {
                    eprintln!("note: this CPU has neither AVX2 nor NEON; using the portable backend, which is slow");
                    work.run(portable(Numeric::Quantised))
                }
            }
        }
    }
}

/// How keys and values are kept.
pub fn kv_type(args: &EngineArgs) -> KvType {
    match args.kv {
        KvKind::F16 => KvType::F16,
        KvKind::Q8 => KvType::Q8,
    }
}

/// Worker threads to use.
pub fn threads(args: &EngineArgs) -> usize {
    args.threads.map_or_else(cpu::dispatch::threads, usize::from)
}

impl Opened {
    /// Tokenizer and templates.
    pub fn text(&self) -> Result<TextKit, Fault> {
        let vocab = self.loaded.desc.vocab.as_ref().map_err(Fault::input)?;
        let tokenizer = Tokenizer::new(vocab).map_err(Fault::input)?;
        let path = self.found.path.display();
        TextKit::new(tokenizer, vocab.chat_template.as_deref()).or_else(|e| {
            eprintln!("note: the chat template of {path} cannot be used ({e}); chat is off for this model");
            let tokenizer = Tokenizer::new(vocab).map_err(Fault::input)?;
            TextKit::new(tokenizer, None).map_err(Fault::input)
        })
    }

    /// What its files say about it, for clients.
    pub fn about(&self) -> About {
        let desc = &self.loaded.desc;
        About {
            family: desc.arch.clone(),
            n_params: desc.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum(),
            quantization: desc.file_type.clone(),
            file_bytes: self.loaded.files.iter().map(|f| f.bytes().len() as u64).sum(),
            sha256: self.found.sha256.as_ref().map(ToString::to_string),
        }
    }

    /// Context length: what was asked for, within what the model was made for.
    pub fn n_ctx(&self, args: &EngineArgs) -> Result<usize, Fault> {
        let most = self.loaded.desc.hp.n_ctx;
        match args.ctx {
            Some(ctx) if ctx as usize > most => {
                Err(Fault::input(format!("--ctx {ctx} is beyond what {} was made for ({most})", self.found.name)))
            }
            Some(ctx) => Ok(ctx as usize),
            None => Ok(most.min(CTX_DEFAULT_MAX)),
        }
    }

    fn weights<B: Backend>(&self, backend: &mut B) -> Result<Model<B>, Fault> {
        let total: u64 = self.loaded.desc.weight_bytes();
        let bar = progress_bar(total, "loading");
        let model = Model::load(backend, &self.loaded.desc, &self.loaded.bytes(), |t, range| {
            bar.inc(range.len() as u64);
            self.loaded.release(t, range);
        })?;
        bar.finish_and_clear();
        Ok(model)
    }

    /// What equal logit bits are promised for: digest, version, numeric mode, keys and values.
    fn fingerprint<B: Backend>(&self, backend: &B) -> String {
        let model = self.found.sha256.as_ref().map_or_else(|| self.sample_hash(), ToString::to_string);
        let numeric = if backend.numeric() == Numeric::Exact { "exact" } else { "q8" };
        let kv = if backend.kv_type() == KvType::Q8 { "-kv8" } else { "" };
        let short: String = model.chars().take(12).collect();
        format!("vonk-{}-{short}-{numeric}{kv}", env!("CARGO_PKG_VERSION"))
    }

    /// For files outside the store, whose digest nobody computed: a hash of their lengths and of 64 bytes in every 64 KiB,
    /// enough to tell two models apart without reading them whole.
    fn sample_hash(&self) -> String {
        let mut hash = 0;
        for file in &self.loaded.files {
            hash = base::rng::bits(hash, file.bytes().len() as u64, 1);
            // Each sample maps its neighbours too: without letting go, the whole file would count as our memory.
            for (i, part) in file.bytes().chunks(1 << 24).enumerate() {
                for sample in part.chunks(1 << 16) {
                    let words = sample[..sample.len().min(64)].chunks(8);
                    hash = words.fold(hash, |h, w| w.iter().fold(h, |h, b| base::rng::bits(h, u64::from(*b), 2)));
                }
                file.release((i << 24) as u64, part.len() as u64);
            }
        }
        format!("{hash:016x}")
    }

    /// An engine for this model, with a smaller one that drafts for it, if given.
    pub fn engine(&self, args: &EngineArgs, n_slots: usize, draft: Option<&Opened>) -> Result<Box<dyn Stepper>, Fault> {
        struct Make<'a>(&'a Opened, Config, Option<(Box<dyn Lm>, f32)>);
        impl WithBackend for Make<'_> {
            type Out = Box<dyn Stepper>;
            fn run<B: Backend + 'static>(mut self, mut backend: B) -> Result<Self::Out, Fault> {
                let model = self.0.weights(&mut backend)?;
                self.1.fingerprint = self.0.fingerprint(&backend);
                let engine = Engine::of_model(backend, model, &self.1)?;
                Ok(match self.2 {
                    Some((lm, cost)) => Box::new(engine.with_draft_model(lm, cost)),
                    None => Box::new(engine),
                })
            }
        }
        let config = Config { n_ctx: self.n_ctx(args)?, n_slots, step_rows: STEP_ROWS, ..Config::default() };
        let draft = draft.map(|d| d.draft_model(self, args, &config)).transpose()?;
        with_backend(args, Make(self, config, draft))
    }

    /// This model as the draft model of `large`, and what a token of it costs in tokens of that: both read their weights.
    fn draft_model(&self, large: &Self, args: &EngineArgs, config: &Config) -> Result<(Box<dyn Lm>, f32), Fault> {
        struct Make<'a>(&'a Opened, LmSizes);
        impl WithBackend for Make<'_> {
            type Out = Box<dyn Lm>;
            fn run<B: Backend + 'static>(self, mut backend: B) -> Result<Self::Out, Fault> {
                let model = self.0.weights(&mut backend)?;
                Ok(Box::new(ModelLm::new(backend, model, self.1)?))
            }
        }
        let same_size = self.loaded.desc.hp.n_vocab == large.loaded.desc.hp.n_vocab;
        if !same_size || tokens(self)? != tokens(large)? {
            let (draft, large) = (&self.found.name, &large.found.name);
            let what = "a draft model must have the same vocabulary; leave --draft-model out or name a smaller model";
            return Err(Fault::input(format!("{draft} cannot draft for {large}: {what} of the same family")));
        }
        let bytes = |o: &Self| model::traffic(&o.loaded.desc, KvType::F16).weight_bytes as f32;
        let lm = with_backend(args, Make(self, config.draft_sizes()))?;
        Ok((lm, bytes(self) / bytes(large)))
    }

    /// One sequence to be fed by hand.
    pub fn probe<B: Backend>(
        &self,
        mut backend: B,
        n_ctx: usize,
        rows: usize,
        picks: usize,
    ) -> Result<Probe<B>, Fault> {
        let model = self.weights(&mut backend)?;
        Ok(Probe::new(backend, model, n_ctx, rows, picks)?)
    }
}

fn tokens(of: &Opened) -> Result<&base::vocab::StrTable, Fault> {
    of.loaded.desc.vocab.as_ref().map(|v| &v.tokens).map_err(Fault::input)
}

/// A bar over bytes, on a terminal only.
pub fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    let style = "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
    );
    bar
}
