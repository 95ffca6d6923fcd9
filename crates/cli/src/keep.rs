//! The prefix cache on disk: `store::KvFile` and the engine's pages, put together. A restart then finds a warm project.

use engine::{SavedPage, Stepper};
use server::Keeper;
use std::ops::ControlFlow;
use store::{KvFile, KvLimits, KvRecord, Store, StoreError};

/// The only salt that outlives a process: the others are made from a key of their own for each start.
const SHARED: u64 = 0;

/// Where one model's pages are kept.
pub struct Disk {
    file: KvFile,
    model: String,
}

impl Disk {
    /// For the pages of this engine; `None` if it has none to save.
    pub fn open(store: &Store, model: &str, engine: &dyn Stepper) -> Result<Option<Self>, StoreError> {
        let Some(form) = engine.page_form() else { return Ok(None) };
        let fingerprint = format!("{} {}", engine.info().fingerprint, form.layout);
        let file = KvFile::open(&store.kv_dir(), &fingerprint, ops::PAGE_LEN, form.bytes, KvLimits::default())?;
        Ok(Some(Self { file, model: model.to_owned() }))
    }

    /// Puts what was saved into the engine's cache. How many pages it took.
    pub fn restore(&self, engine: &mut dyn Stepper) -> Result<usize, StoreError> {
        let mut taken = 0;
        let load = engine.load();
        self.file.read(|number, r| {
            let page = SavedPage { parent: r.parent, salt: r.salt, tokens: r.tokens, bytes: r.bytes };
            taken += usize::from(engine.restore_page(number, page));
            if taken < load.pages_total { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(taken)
    }

    /// Writes a new snapshot. `None` if it was given up.
    fn write(&self, engine: &mut dyn Stepper, is_wanted: &dyn Fn() -> bool) -> Result<Option<usize>, StoreError> {
        let mut writer = self.file.begin()?;
        // Number in the walk to number in the file: pages of other salts, and what hangs below pages left out, are not saved,
        // nor pages in part: behind their valid positions may be what somebody else wrote.
        let mut numbers: Vec<Option<u32>> = Vec::new();
        let (mut failure, mut is_given_up) = (None, false);
        engine.save_pages(&mut |page| {
            if is_wanted() {
                is_given_up = true;
                return ControlFlow::Break(());
            }
            let parent = page.parent.map(|p| numbers.get(p as usize).copied().flatten());
            let number = match parent {
                Some(None) => Ok(None),
                _ if page.salt != SHARED || page.tokens.len() < ops::PAGE_LEN => Ok(None),
                known => {
                    let parent = known.flatten();
                    writer.push(&KvRecord { parent, salt: page.salt, tokens: page.tokens, bytes: page.bytes })
                }
            };
            match number {
                Ok(number) => numbers.push(number),
                Err(e) => {
                    failure = Some(e);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        match failure {
            Some(e) => Err(e),
            None if is_given_up => Ok(None),
            None => writer.commit().map(|written| Some(written.records)),
        }
    }
}

impl Keeper for Disk {
    fn save(&mut self, engine: &mut dyn Stepper, is_wanted: &dyn Fn() -> bool) -> bool {
        match self.write(engine, is_wanted) {
            Ok(saved) => saved.is_some(),
            Err(StoreError::KvBusy { .. }) => true, // another process saves the same model's cache
            Err(e) => {
                eprintln!("note: the prefix cache of {} was not saved: {e}", self.model);
                true
            }
        }
    }
}
