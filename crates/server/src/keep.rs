//! Keeping a model's prefix cache over restarts. The server knows when there is time for it; whoever starts the server knows
//! where the pages go.

use engine::api::Stepper;
use std::time::Duration;

/// After this long without work the cache is saved.
pub(crate) const IDLE: Duration = Duration::from_secs(15);

/// Saves a model's prefix cache. The engine's thread calls it when it has nothing else to do, and before it ends.
pub trait Keeper: Send {
    /// Saves the whole cache. Gives up, and leaves what was saved before, as soon as `is_wanted` says that there is work:
    /// true if it did not give up (a failure is told to people, and is no reason to try again at once).
    fn save(&mut self, engine: &mut dyn Stepper, is_wanted: &dyn Fn() -> bool) -> bool;
}
