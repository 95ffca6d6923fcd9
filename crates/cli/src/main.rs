//! `vonk`: arguments to configuration, then one room is started. No logic longer than wiring.
#![forbid(unsafe_code)]

mod accounts;
mod args;
mod args_bench;
mod args_connect;
mod args_keys;
mod chat;
mod connect;
mod edit;
mod eval;
mod fault;
mod files;
mod generate;
mod interrupt;
mod keep;
mod keystrokes;
mod language_server;
mod near;
mod open;
mod roofline;
mod run;
mod score;
mod serve;
mod servers;
mod serving;
mod speed;
mod symbols;
mod top;
mod traces;

use args::{Cli, Command};
use clap::Parser;
use fault::Fault;
use std::process::ExitCode;

fn main() -> ExitCode {
    end_quietly_at_a_broken_pipe();
    match start(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault { message, .. }) if message.contains("Broken pipe") => ExitCode::SUCCESS,
        Err(Fault { code, message }) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

/// `vonk inspect ... | head` is no bug: whoever reads has seen enough. `println!` panics there, so the hook ends the program.
fn end_quietly_at_a_broken_pipe() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload().downcast_ref::<String>();
        if said.is_some_and(|s| s.starts_with("failed printing to stdout") && s.contains("roken pipe")) {
            std::process::exit(0);
        }
        usual(info);
    }));
}

fn start(command: Command) -> Result<(), Fault> {
    match command {
        Command::Up(a) => serve::up(a),
        Command::Pull(a) => files::pull(a),
        Command::Models(a) => files::models(a),
        Command::Rm(a) => files::rm(a),
        Command::Inspect(a) => files::inspect(a),
        Command::Tokenize(a) => files::tokenize(a),
        Command::Run(a) => run::run(a),
        Command::Fim(a) => run::fim(a),
        Command::Edit(a) => edit::edit(a),
        Command::Undo(a) => edit::undo(a),
        Command::Chat(a) => chat::chat(a),
        Command::Serve(a) => serve::serve(a),
        Command::Keys(a) => accounts::keys(a),
        Command::Usage(a) => accounts::usage(a),
        Command::Logits(a) => score::logits(a),
        Command::Perplexity(a) => score::perplexity(a),
        Command::Bench(a) => speed::bench(a),
        Command::Eval(a) => eval::eval(a),
        Command::Top(a) => top::top(a),
        Command::Connect(a) => connect::connect(a),
        Command::Catalog(a) => connect::catalog(a),
        Command::Openapi => connect::openapi(),
        Command::Lsp(a) => language_server::lsp(a),
    }
}
