//! What a command can end with: 2 for bad input or usage, 1 for anything else.

/// An error with its exit code.
#[derive(Debug)]
pub struct Fault {
    /// 1 or 2.
    pub code: u8,
    /// For the person.
    pub message: String,
}

impl Fault {
    /// The input is wrong (2).
    pub fn input(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }
    /// Something else went wrong (1).
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }
}

impl From<store::StoreError> for Fault {
    fn from(e: store::StoreError) -> Self {
        let wants_pull = matches!(e, store::StoreError::NotPulled { .. });
        if e.is_bad_input() || wants_pull { Self::input(e) } else { Self::failed(e) }
    }
}

impl From<model::ModelError> for Fault {
    fn from(e: model::ModelError) -> Self {
        if matches!(e, model::ModelError::Ops(ops::OpsError::Memory { .. })) { Self::failed(e) } else { Self::input(e) }
    }
}

impl From<ops::OpsError> for Fault {
    fn from(e: ops::OpsError) -> Self {
        Self::failed(e)
    }
}

impl From<bench::BenchError> for Fault {
    fn from(e: bench::BenchError) -> Self {
        if e.is_bad_input() { Self::input(e) } else { Self::failed(e) }
    }
}

impl From<client::ClientError> for Fault {
    fn from(e: client::ClientError) -> Self {
        if e.is_bad_input() { Self::input(e) } else { Self::failed(e) }
    }
}

impl From<edit::EditError> for Fault {
    fn from(e: edit::EditError) -> Self {
        if e.is_bad_input() { Self::input(e) } else { Self::failed(e) }
    }
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Self {
        Self::failed(e)
    }
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Fault> {
    println!("{}", serde_json::to_string(value).map_err(Fault::failed)?);
    Ok(())
}

/// Reads a text file, naming it when that fails.
pub fn read_text(path: &std::path::Path) -> Result<String, Fault> {
    let bytes = std::fs::read(path).map_err(|e| Fault::input(format!("cannot read {}: {e}", path.display())))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Fault::input(format!("{} is not UTF-8 text: bad byte at {at}; convert it first", path.display()))
    })
}

/// The argument, or standard input when there is none.
pub fn text_or_stdin(text: Option<String>) -> Result<String, Fault> {
    match text {
        Some(text) => Ok(text),
        None => std::io::read_to_string(std::io::stdin())
            .map_err(|e| Fault::input(format!("cannot read the text from standard input: {e}"))),
    }
}
