//! `vonk run` and `vonk fim`.

use crate::args;
use crate::fault::{Fault, print_json, read_text, text_or_stdin};
use crate::generate::{generate, to_stdout};
use crate::open::{Opened, open};
use base::TokenId;
use serde_json::{Map, json};
use server::TextKit;
use text::Encode;

/// `vonk run`.
pub fn run(args: args::Run) -> Result<(), Fault> {
    let prompt = text_or_stdin(args.prompt)?;
    let opened = open(args.model.as_deref())?;
    let text = opened.text()?;
    let ids = if args.chat {
        chat_prompt(&text, args.system.as_deref(), &prompt)?
    } else if let Some(suffix) = &args.fim_suffix {
        fim_prompt(&text, &opened.found.name, &prompt, suffix)?
    } else {
        text.tokenizer.encode(&prompt, Encode { add_special: true, parse_special: true })
    };
    finish(&opened, &text, ids, &args.sampling, &args.engine, args.json)
}

/// A user's message through the model's chat template.
pub fn chat_prompt(text: &TextKit, system: Option<&str>, prompt: &str) -> Result<Vec<TokenId>, Fault> {
    let template =
        text.chat.as_ref().ok_or_else(|| Fault::input("this model has no chat template; leave --chat out"))?;
    let mut messages: Vec<_> = system.map(|s| json!({"role": "system", "content": s})).into_iter().collect();
    messages.push(json!({"role": "user", "content": prompt}));
    let rendered = template.render(&messages.into(), None, true, &Map::new()).map_err(Fault::input)?;
    Ok(text.tokenizer.encode(&rendered, Encode::TEMPLATE))
}

fn fim_prompt(text: &TextKit, name: &str, prefix: &str, suffix: &str) -> Result<Vec<TokenId>, Fault> {
    let fim = text
        .fim
        .as_ref()
        .ok_or_else(|| Fault::input(format!("{name} cannot fill in the middle (no tokens for it)")))?;
    Ok(fim.prompt(&text.tokenizer, prefix, suffix))
}

/// `vonk fim`.
pub fn fim(args: args::Fim) -> Result<(), Fault> {
    let (path, line, col) = place(&args.place)?;
    let code = read_text(std::path::Path::new(path))?;
    let at = offset(&code, line, col).map_err(|what| Fault::input(format!("{path}:{line}: {what}")))?;
    let opened = open(args.model.as_deref())?;
    let text = opened.text()?;
    let ids = fim_prompt(&text, &opened.found.name, &code[..at], &code[at..])?;
    finish(&opened, &text, ids, &args.sampling, &args.engine, args.json)
}

fn finish(
    opened: &Opened,
    text: &TextKit,
    ids: Vec<TokenId>,
    sampling: &args::Sampling,
    engine: &args::Engine,
    as_json: bool,
) -> Result<(), Fault> {
    crate::generate::sampling(sampling)?;
    let mut stepper = opened.engine(engine, 1, None)?;
    if as_json {
        return print_json(&generate(&mut *stepper, text, ids, sampling, &mut |_| Ok(()))?);
    }
    let outcome = generate(&mut *stepper, text, ids, sampling, &mut to_stdout)?;
    println!();
    eprintln!("{}", outcome.figures());
    Ok(())
}

/// FILE:LINE[:COL]; the file's name may hold colons.
fn place(place: &str) -> Result<(&str, usize, Option<usize>), Fault> {
    let usage = || Fault::input(format!("`{place}` is not FILE:LINE[:COL] with numbers from 1"));
    let number = |s: &str| s.parse::<usize>().ok().filter(|n| *n > 0);
    let (head, last) = place.rsplit_once(':').ok_or_else(usage)?;
    let last = number(last).ok_or_else(usage)?;
    if let Some((path, line)) = head.rsplit_once(':').and_then(|(path, line)| Some((path, number(line)?))) {
        return Ok((path, line, Some(last)));
    }
    Ok((head, last, None))
}

/// Byte offset of a line and column (characters, both from 1); the end of the line without a column.
fn offset(code: &str, line: usize, col: Option<usize>) -> Result<usize, String> {
    let n_lines = code.split('\n').count();
    let mut start = 0;
    for (i, text) in code.split('\n').enumerate() {
        if i + 1 == line {
            let text = text.strip_suffix('\r').unwrap_or(text);
            let Some(col) = col else { return Ok(start + text.len()) };
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            return ends.clone().nth(col - 1).map(|at| start + at).ok_or_else(|| {
                format!("column {col} is beyond the end of the line, which has {} columns", ends.count())
            });
        }
        start += text.len() + 1;
    }
    Err(format!("there is no line {line}; the file has {n_lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_line_and_column() {
        let code = "ab\né😀x\r\nend";
        assert_eq!(offset(code, 1, None), Ok(2));
        assert_eq!(offset(code, 2, Some(1)), Ok(3));
        assert_eq!(offset(code, 2, Some(3)), Ok(9));
        assert_eq!(offset(code, 2, None), Ok(10));
        assert_eq!(offset(code, 3, Some(4)), Ok(15));
        assert!(offset(code, 3, Some(5)).is_err());
        assert!(offset(code, 4, None).is_err());
    }

    #[test]
    fn a_place_needs_a_line() {
        assert_eq!(place("a.rs:3").unwrap(), ("a.rs", 3, None));
        assert_eq!(place("c:a.rs:3:9").unwrap(), ("c:a.rs", 3, Some(9)));
        assert!(place("a.rs").is_err());
        assert!(place("a.rs:0").is_err());
        assert_eq!(place("a.rs:x").unwrap_err().code, 2);
    }
}
