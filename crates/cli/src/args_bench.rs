//! Arguments of `vonk bench`.

use crate::args::Engine;
use crate::args_connect::Key;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `vonk bench`.
#[derive(Args)]
pub struct Bench {
    /// Something else than prefill and decode
    #[command(subcommand)]
    pub what: Option<BenchWhat>,
    /// Model to measure
    #[arg(long)]
    pub model: Option<String>,
    /// Tokens of context before the measured ones (may be given several times)
    #[arg(long, default_values_t = [0usize])]
    pub depth: Vec<usize>,
    /// Tokens to prefill; 0 leaves it out
    #[arg(long, default_value_t = 512)]
    pub prefill: usize,
    /// Tokens to decode; 0 leaves it out
    #[arg(long, default_value_t = 64)]
    pub decode: usize,
    /// Separate measurements
    #[arg(long, default_value_t = 5)]
    pub reps: usize,
    /// Measure this OpenAI-compatible server instead
    #[arg(long)]
    pub url: Option<String>,
    /// Alternate with this second server and print the ratio
    #[arg(long, requires = "url")]
    pub against: Option<String>,
    /// Most tokens of an answer, with --url
    #[arg(long, default_value_t = 64)]
    pub max_tokens: u32,
    /// Tokens of a prompt, about, with --url
    #[arg(long, default_value_t = 256)]
    pub prompt_tokens: usize,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// Other things to measure.
#[derive(Subcommand)]
pub enum BenchWhat {
    /// Time of one forward pass of several rows
    Rows(BenchRows),
    /// Each kernel alone, beside the ceilings
    Kernels(BenchKernels),
    /// What this machine can do at best: memory, int8, f32
    Ceiling(BenchCeiling),
    /// Kernels and whole passes of a model below the machine's roofs, drawn as SVG
    Roofline(BenchRoofline),
    /// Servers: the same chat, in turn; what `--url` without a command does
    Chat(BenchChat),
    /// Servers: rewrite whole files as real commits did, by chat; speed as the person who waits sees it
    #[command(after_help = EDITS_HELP)]
    Edits(BenchEdits),
    /// Servers: the same, but --url is told to write the reference answers, as if a perfect model had
    #[command(after_help = EDITS_HELP)]
    Replay(BenchEdits),
    /// Servers: many requests at once, by arrivals per second or by number of streams
    Load(BenchLoad),
    /// Replayed typing: from a key to a suggestion on screen, as editors get it from `vonk lsp`
    #[command(after_help = KEYSTROKES_HELP)]
    Keystrokes(BenchKeystrokes),
    /// What the completion's index finds in files, to be held against a parser (tests/symbols/compare.py)
    Symbols(BenchSymbols),
    /// How good completions are at recorded places, with our prompt and with a plain one
    Fill(BenchFill),
    /// What serving adds to the engine: per token, to the first one, over a WebSocket, beside idle connections
    #[command(after_help = SERVE_HELP)]
    Serve(BenchServe),
}

/// `vonk bench chat`.
#[derive(Args)]
pub struct BenchChat {
    /// The server
    #[arg(long)]
    pub url: String,
    /// Alternate with this second server and print the ratio
    #[arg(long)]
    pub against: Option<String>,
    /// Model to ask for
    #[arg(long, default_value = "default")]
    pub model: String,
    /// Repetitions
    #[arg(long, default_value_t = 5)]
    pub reps: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 64)]
    pub max_tokens: u32,
    /// Tokens of a prompt, about
    #[arg(long, default_value_t = 256)]
    pub prompt_tokens: usize,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vonk bench fill`.
#[derive(Args)]
pub struct BenchFill {
    /// Model to serve for the measurement, on a port of its own
    #[arg(long, conflicts_with = "url")]
    pub model: Option<String>,
    /// Use this server instead
    #[arg(long)]
    pub url: Option<String>,
    /// JSONL with `prefix`, `suffix` and `typed_next` or `middle`
    #[arg(long)]
    pub data: PathBuf,
    /// Places, from the first
    #[arg(long, default_value_t = 150)]
    pub n: usize,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const SERVE_HELP: &str = "\
A server in this process, on a free port of loopback, and the same engine driven directly, in turn. Answers go on to their full
length. A dialogue is the history of a SWE-agent run (a JSON list of messages, may be gzipped); its recorded answers are replayed,
over a WebSocket with only the new items and over HTTP with all of them, each with a cache of its own. `added` is the difference of
two runs that followed each other. Set a count to 0 to leave its part out.

  vonk bench serve --model smollm2-135m --json
  vonk bench serve --model qwen2.5-coder-0.5b --tokens 0 --prompt-tokens 0 --idle 0 --dialogue history.json.gz";

/// `vonk bench serve`.
#[derive(Args)]
pub struct BenchServe {
    /// Model to serve
    #[arg(long)]
    pub model: Option<String>,
    /// Tokens of the answer whose every token is timed
    #[arg(long, default_value_t = 256)]
    pub tokens: usize,
    /// Tokens of the prompt whose first token is timed, about
    #[arg(long, default_value_t = 512)]
    pub prompt_tokens: usize,
    /// Repetitions of these two, each way
    #[arg(long, default_value_t = 15)]
    pub reps: usize,
    /// Recorded dialogue of an agent (may be given several times)
    #[arg(long)]
    pub dialogue: Vec<PathBuf>,
    /// Turns of each dialogue
    #[arg(long, default_value_t = 20)]
    pub turns: usize,
    /// Idle connections of each kind
    #[arg(long, default_value_t = 500)]
    pub idle: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

const KEYSTROKES_HELP: &str = "\
The trace has the form of the editing-traces collection: {startContent, txns: [{patches: [[pos, deleted, text], ...]}]}, may be
gzipped. Runs of at least twelve single typed characters are replayed, from a seeded run on; what lies between them just happens.
After each key comes a gap drawn from --gaps (a JSON list of milliseconds; 20 to 3000 count). A key counts as shown if a
suggestion for exactly that text is known before the next key. With --against the same keys are then typed against a
llama.cpp server in llama.vim's way: 64 lines before, 16 after, one request at a time.

  vonk bench keystrokes --model qwen2.5-coder-0.5b --trace rustcode.json.gz --gaps gaps_ms.json --keys 300 --seed 3 --json";

/// `vonk bench keystrokes`.
#[derive(Args)]
pub struct BenchKeystrokes {
    /// Model to serve for the measurement, on a port of its own
    #[arg(long, conflicts_with = "url")]
    pub model: Option<String>,
    /// Use this server instead
    #[arg(long)]
    pub url: Option<String>,
    /// Then a llama.cpp server, in llama.vim's way
    #[arg(long)]
    pub against: Option<String>,
    /// Recorded editing
    #[arg(long)]
    pub trace: PathBuf,
    /// Recorded gaps between keys
    #[arg(long)]
    pub gaps: PathBuf,
    /// Keys to type
    #[arg(long, default_value_t = 300)]
    pub keys: usize,
    /// Chooses the place in the trace, and the gaps
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write a picture of the distribution of times here
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const EDITS_HELP: &str = "\
The data file is JSONL; a row has `path`, `subject`, `before` and `after`. Files of 1200 to 4000 characters count; --seed shuffles
them as Python's random.Random(seed).shuffle does, the first --n are used. Each is asked for at temperature 0, streamed.
With --against the two servers take turns (A B, then B A). Times run from before the connection to the end of the stream.
`similarity` is difflib's ratio of the answer's lines and those of the file after the commit.
Exit status: 0 all answered, 1 some failed (the report is printed all the same), 2 wrong input.

  vonk bench edits --url http://127.0.0.1:8080 --data edit.jsonl --against http://127.0.0.1:8081 --json";

/// Whether the server may draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpeculationKind {
    /// As it sees fit
    Auto,
    /// Nothing
    Off,
}

/// `vonk bench edits` and `vonk bench replay`.
#[derive(Args)]
pub struct BenchEdits {
    /// The OpenAI-compatible server, A
    #[arg(long)]
    pub url: String,
    /// JSONL file of commits
    #[arg(long)]
    pub data: PathBuf,
    /// Alternate with this second server, B
    #[arg(long)]
    pub against: Option<String>,
    /// Cases
    #[arg(long, default_value_t = 8)]
    pub n: usize,
    /// Chooses the cases
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Characters of a file before its change, at least
    #[arg(long, default_value_t = 1200)]
    pub min_chars: usize,
    /// Characters of a file before its change, at most
    #[arg(long, default_value_t = 4000)]
    pub max_chars: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 1600)]
    pub max_tokens: u32,
    /// Send the file before the change as OpenAI's `prediction`, to both
    #[arg(long)]
    pub prediction: bool,
    /// Send `speculation` to A, a field of vonk's own
    #[arg(long, value_enum)]
    pub speculation: Option<SpeculationKind>,
    /// Before each measured request ask for one token, so that the file is in the prefix cache: the editor has it open
    #[arg(long)]
    pub warm: bool,
    /// Model to ask for
    #[arg(long, default_value = "default")]
    pub model: String,
    /// Seconds for one answer
    #[arg(long, default_value_t = base::limits::CLIENT_ANSWER_S_MAX)]
    pub timeout: u64,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `vonk bench load`.
#[derive(Args)]
pub struct BenchLoad {
    /// The OpenAI-compatible server, A
    #[arg(long)]
    pub url: String,
    /// Take turns with this second server, B
    #[arg(long)]
    pub against: Option<String>,
    /// Open loop: arrivals per second, one measurement each
    #[arg(long, value_delimiter = ',')]
    pub rates: Vec<f64>,
    /// Closed loop: streams that ask again when they have their answer, one measurement each
    #[arg(long, value_delimiter = ',')]
    pub streams: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 64)]
    pub max_tokens: u32,
    /// Tokens of a prompt, about: one of these for each request
    #[arg(long, value_delimiter = ',', default_values_t = [32usize, 64, 128, 256])]
    pub prompt_tokens: Vec<usize>,
    /// Goodput: milliseconds to the first text, at most
    #[arg(long, default_value_t = 200.0)]
    pub slo_ttft_ms: f64,
    /// Goodput: mean milliseconds per token after it, at most
    #[arg(long, default_value_t = 40.0)]
    pub slo_itl_ms: f64,
    /// Same arrivals and prompts for the same seed [default: from the clock, so that no cache knows them]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Model to ask for
    #[arg(long, default_value = "default")]
    pub model: String,
    /// Seconds for one answer
    #[arg(long, default_value_t = 120)]
    pub timeout: u64,
    /// Its key, with --url.
    #[command(flatten)]
    pub key: Key,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `vonk bench symbols`.
#[derive(Args)]
pub struct BenchSymbols {
    /// Files; `-` reads their names from standard input, one a line
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a file
    #[arg(long)]
    pub json: bool,
}

/// `vonk bench roofline`.
#[derive(Args)]
pub struct BenchRoofline {
    /// Model to measure
    #[arg(long)]
    pub model: Option<String>,
    /// Repetitions
    #[arg(long, default_value_t = 5, value_parser = reps)]
    pub reps: usize,
    /// Where to write the picture; without it, only the figures are printed
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// A number of repetitions, within its bound.
fn reps(text: &str) -> Result<usize, String> {
    let most = base::limits::BENCH_REPS_MAX;
    let n = text.parse().ok().filter(|n| (1..=most).contains(n));
    n.ok_or_else(|| format!("it must be a number within 1..={most}"))
}

/// `vonk bench kernels`.
#[derive(Args)]
pub struct BenchKernels {
    /// Weight types [default: all]
    #[arg(long, value_delimiter = ',')]
    pub types: Vec<String>,
    /// Row counts
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 4, 16, 64, 512])]
    pub rows: Vec<usize>,
    /// Repetitions
    #[arg(long, default_value_t = 7)]
    pub reps: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk bench rows`.
#[derive(Args)]
pub struct BenchRows {
    /// Model to measure
    #[arg(long)]
    pub model: Option<String>,
    /// Row counts
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 4, 16, 64])]
    pub rows: Vec<usize>,
    /// Tokens of context before the rows
    #[arg(long, default_value_t = 512)]
    pub depth: usize,
    /// Repetitions
    #[arg(long, default_value_t = 5)]
    pub reps: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk bench ceiling`.
#[derive(Args)]
pub struct BenchCeiling {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
