//! Time as an argument: rooms that need it take a `Clock`, so that tests and simulators can hold it still.

/// Monotonic microseconds since an arbitrary start.
pub trait Clock {
    /// Microseconds since this clock's own start.
    fn now_us(&self) -> u64;
}
