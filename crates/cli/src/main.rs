//! `vonk`: arguments to configuration, then one room is started.
fn main() {}
