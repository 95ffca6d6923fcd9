//! `cargo xtask`: the project's own chores. `test` is what CI runs; `tidy` checks what the compiler cannot; `golden` makes
//! the recorded answers of other engines again.
#![forbid(unsafe_code)]

mod arm;
mod doors;
mod editor;
mod fuzz;
mod golden;
mod limits;
mod run;
mod second;
mod serve;
mod source;
mod steps;
mod tidy;
mod tools;

use std::process::ExitCode;

use run::Outcome;

const HELP: &str = "\
usage: cargo xtask COMMAND

  test [--keep-going] [--clients] [--only STEP]... [--list]
                                                  install what the tests need, then run all of them; --clients runs the
                                                  second tier, too: real clients that take minutes
  test --editor                                   the VS Code extension in a real editor and browser
  test --arm                                      the kernels for aarch64 under QEMU: the reference's bits
  tidy [--bless]                                  check the rules of the house; --bless writes LIMITS.md again
  golden [NAME]...                                make the recorded answers in tests/golden again (all, or these scripts)

`test` stops at the first step that fails, unless --keep-going is given. Set VONK_OFFLINE=1 to leave out what needs
a model that is not on this machine yet.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["test", rest @ ..] => return steps::main(rest),
        ["tidy", rest @ ..] => tidy::main(rest),
        ["golden", rest @ ..] => golden::main(rest),
        ["help" | "--help" | "-h"] | [] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::LeftOut(why) => {
            println!("left out: {why}");
            ExitCode::SUCCESS
        }
        Outcome::Failed(why) => {
            eprintln!("failed: {why}");
            ExitCode::FAILURE
        }
    }
}
