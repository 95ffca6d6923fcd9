//! The server that `vonk edit` and `vonk chat` ask: the one that was named, this user's running one, or a new one.

use crate::args;
use crate::fault::Fault;
use client::place;
use client::server::{Found, Start, Wanted, find_or_start};

/// Finds or starts it, and says on standard error if that takes a while.
pub fn server(near: &args::Near) -> Result<Found, Fault> {
    server_telling(near, &mut |line| eprintln!("{line}"))
}

/// The same; `progress` gets the lines.
pub fn server_telling(near: &args::Near, progress: &mut dyn FnMut(&str)) -> Result<Found, Fault> {
    let set = |name: &str| place::env(name).filter(|v| !v.is_empty());
    let wanted = Wanted {
        url: near.url.clone().or_else(|| set("VONK_URL")),
        model: near.model.clone(),
        key: set("VONK_API_KEY"),
        run_dir: place::run_dir(&place::env),
        start: Some(Start::own(near.model.as_deref())?),
    };
    Ok(find_or_start(&wanted, progress)?)
}
