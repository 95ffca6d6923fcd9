//! HumanEval (Chen et al. 2021, arXiv 2107.03374): a model completes Python functions, their tests decide. pass@1, greedy,
//! one chat message per problem. Every model of today has seen this set: it shows regressions and what quantisation costs, not
//! skill.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use base::limits;
use client::{Client, Deadline, Target, message_of};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data;
use crate::error::BenchError;
use crate::extract;
use crate::python::{Confinement, ProgramLimits, Python, Verdict};

/// Tokens that an answer may have, at most. Whoever asks a model in this process uses it too.
pub const ANSWER_TOKENS_MAX: u32 = 512;

/// One row of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// `HumanEval/17`.
    pub task_id: String,
    /// Imports, signature and docstring.
    pub prompt: String,
    /// The function under test.
    pub entry_point: String,
    /// Defines `check(candidate)`.
    pub test: String,
}

impl Problem {
    /// What the model is asked, as one user message.
    pub fn message(&self) -> String {
        format!(
            "Complete this Python function. Answer with the whole function in one code block, no explanation.\n```python\n{}\n```",
            self.prompt
        )
    }

    /// The program that passes if `answer` does: the prompt first, for its imports, with an empty body that the answer's
    /// function replaces.
    fn program(&self, answer: &str) -> String {
        let code = extract::code(answer);
        format!("{}\n    pass\n\n{code}\n{}\ncheck({})\n", self.prompt, self.test, self.entry_point)
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut chars = self.entry_point.chars();
        let is_name = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_');
        match is_name && !self.task_id.is_empty() && !self.task_id.chars().any(char::is_control) {
            true => Ok(()),
            false => Err("task_id or entry_point is no name"),
        }
    }
}

/// Where the problems are if nobody says: `$VONK_DATA/humaneval/HumanEval.jsonl`, else under `../shared/data`.
pub fn default_path() -> PathBuf {
    let root = env::var_os("VONK_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    root.join("humaneval").join("HumanEval.jsonl")
}

/// Reads the first `limit` problems of a JSONL file (all if `None`).
///
/// # Errors
/// No such file, a file or line beyond its limit, a line that is no problem (with its number), no problem at all.
pub fn load(path: &Path, limit: Option<usize>) -> Result<Vec<Problem>, BenchError> {
    let hint = "Give the file with --data, or set VONK_DATA to the folder that holds humaneval/HumanEval.jsonl";
    data::jsonl(path, hint, limit.unwrap_or(usize::MAX), Problem::check)
}

/// One problem, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskResult {
    /// `HumanEval/17`.
    pub task_id: String,
    /// How its program ended.
    pub verdict: Verdict,
    /// The error's words, with the line of the program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What the model said, whole.
    pub answer: String,
}

/// The score.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `humaneval`.
    pub benchmark: &'static str,
    /// Share of problems solved at the first try, 0..=1.
    pub pass_at_1: f64,
    /// Problems solved.
    pub passed: usize,
    /// Problems asked.
    pub total: usize,
    /// How many failed, by kind.
    pub failures: BTreeMap<&'static str, usize>,
    /// What each program was allowed.
    pub limits: ProgramLimits,
    /// What kept the programs from the machine.
    pub confinement: Confinement,
    /// Problem by problem.
    pub tasks: Vec<TaskResult>,
}

/// Asks every problem once and runs what comes back. `ask` gets the user message (`Problem::message`) and returns the
/// answer's text; it must be greedy and stop at `ANSWER_TOKENS_MAX`. `progress` gets one line per problem.
///
/// # Errors
/// No Python; nobody to ask, or `EVAL_ASK_FAILURES_MAX` failed requests in a row. Single failed requests count as failures.
pub fn run(
    problems: &[Problem],
    ask: &mut dyn FnMut(&str) -> Result<String, BenchError>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let python = Python::find()?;
    let limits = ProgramLimits::default();
    let (mut tasks, mut walls, mut ask_failures, mut passed) = (Vec::new(), Vec::new(), 0, 0);
    for problem in problems {
        let (answer, judged) = match ask(&problem.message()) {
            Ok(answer) => {
                ask_failures = 0;
                let judged = judge(&python, &limits, problem, &answer, &mut walls)?;
                (answer, judged)
            }
            Err(e) => {
                ask_failures += 1;
                if e.is_connect() || ask_failures >= limits::EVAL_ASK_FAILURES_MAX {
                    return Err(e);
                }
                (String::new(), (Verdict::Ask, e.to_string()))
            }
        };
        let (verdict, detail) = judged;
        passed += usize::from(verdict == Verdict::Passed);
        let task = TaskResult { task_id: problem.task_id.clone(), verdict, detail, answer };
        progress(&format!("{} {} {}", task.task_id, verdict.word(), task.detail).trim_end().replace('\n', " "));
        tasks.push(task);
    }
    Ok(report(passed, tasks, limits, python.confinement(walls)))
}

fn judge(
    python: &Python,
    limits: &ProgramLimits,
    problem: &Problem,
    answer: &str,
    walls: &mut Vec<String>,
) -> Result<(Verdict, String), BenchError> {
    if answer.len() > limits::EVAL_ANSWER_BYTES_MAX {
        return Ok((Verdict::Ask, format!("the answer is longer than {} bytes", limits::EVAL_ANSWER_BYTES_MAX)));
    }
    let outcome = python.run(&problem.program(answer), limits)?;
    // A program killed at once may not have told of its walls; the fullest account counts, for all start alike.
    if outcome.walls.len() > walls.len() {
        *walls = outcome.walls;
    }
    Ok((outcome.kind, outcome.detail))
}

fn report(passed: usize, tasks: Vec<TaskResult>, limits: ProgramLimits, confinement: Confinement) -> Report {
    let mut failures = BTreeMap::new();
    for task in tasks.iter().filter(|t| t.verdict != Verdict::Passed) {
        *failures.entry(task.verdict.word()).or_insert(0) += 1;
    }
    let total = tasks.len();
    let pass_at_1 = passed as f64 / total.max(1) as f64;
    Report { benchmark: "humaneval", pass_at_1, passed, total, failures, limits, confinement, tasks }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.tasks.iter().map(|t| t.task_id.chars().count()).max().unwrap_or(0);
        for t in self.tasks.iter().filter(|t| t.verdict != Verdict::Passed) {
            let detail = client::printable(&t.detail, 100);
            writeln!(f, "{:<width$}  {:<9}  {detail}", t.task_id, t.verdict.word())?;
        }
        let kinds: Vec<String> = self.failures.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        if !kinds.is_empty() {
            writeln!(f, "failures: {}", kinds.join(", "))?;
        }
        writeln!(f, "python {}, behind: {}", self.confinement.python, self.confinement.walls.join(", "))?;
        write!(f, "pass@1 {}/{} = {:.1} %", self.passed, self.total, 100.0 * self.pass_at_1)
    }
}

/// Asks a server's `/v1/chat/completions`, greedy and without streaming, and returns the answer's text.
///
/// # Errors
/// No connection, no whole answer in `CLIENT_ANSWER_S_MAX`, a refusal, an answer that is not a chat completion.
pub fn ask_url(url: &str, model: &str, prompt: &str, key: Option<&str>) -> Result<String, BenchError> {
    let target = Target::parse(url)?;
    let body = json!({
        "model": model, "temperature": 0, "max_tokens": ANSWER_TOKENS_MAX,
        "messages": [{"role": "user", "content": prompt}],
    });
    let deadline = Deadline::after_s(limits::CLIENT_ANSWER_S_MAX);
    let path = "/v1/chat/completions";
    let answer = Client::once(target.clone(), key)?.post(path, body.to_string().as_bytes(), deadline, None)?;
    let value = answer.json(limits::BODY_BYTES_MAX)?;
    let wrong = |why: String| BenchError::protocol(target.shown(), why);
    match value.pointer("/choices/0/message/content").and_then(Value::as_str) {
        Some(content) => Ok(content.to_owned()),
        None => Err(wrong(message_of(&value).unwrap_or_else(|| "its answer has no message with text".to_owned()))),
    }
}

#[cfg(test)]
#[path = "humaneval_tests.rs"]
mod tests;
