//! `vonk lsp`: an editor on standard input and output, and the server that it asks.

use std::io::{BufReader, stdin, stdout};
use std::process::exit;
use std::sync::Arc;

use crate::args;
use crate::fault::Fault;
use client::place;
use client::server::{Start, Wanted};
use lsp::backend::Server;
use lsp::session::{End, serve};

/// Bytes read from the editor at once.
const READ_BYTES: usize = 256 * 1024;

/// `vonk lsp`. Ends with 1 if the editor left without `shutdown`, as the protocol has it.
pub fn lsp(args: args::Lsp) -> Result<(), Fault> {
    let set = |name: &str| place::env(name).filter(|v| !v.is_empty());
    let wanted = Wanted {
        url: args.url.or_else(|| set("VONK_URL")),
        start: if args.no_start { None } else { Some(Start::own(args.model.as_deref())?) },
        model: args.model,
        key: set("VONK_API_KEY"),
        run_dir: place::run_dir(&place::env),
    };
    let server = Arc::new(Server::new(wanted));
    let input = BufReader::with_capacity(READ_BYTES, stdin());
    match serve(input, stdout(), server.clone(), Some(server)) {
        Ok(End::Orderly) => Ok(()),
        Ok(End::Abrupt) => exit(1),
        Err(e) => Err(Fault::failed(e)),
    }
}
