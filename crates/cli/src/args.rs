//! The command line: every command, option and help text in one place.

pub use crate::args_bench::*;
pub use crate::args_connect::{Catalog, CatalogOf, Connect};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A real-time coding model on the hardware you own.
#[derive(Parser)]
#[command(name = "vonk", version, about, after_help = "Start with: vonk up")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Subcommand)]
pub enum Command {
    /// Fetch the default model, serve it on this machine and show that it works
    Up(Up),
    /// Fetch a model: NAME, hf:OWNER/REPO[/FILE] or the PATH of a .gguf file
    Pull(Pull),
    /// List the models that can be fetched and those that are here
    Models(Json),
    /// Remove a model from this machine
    Rm(Rm),
    /// Say what a model file is: sizes, tensor types, bytes per token, special tokens, template
    Inspect(Inspect),
    /// Turn text into token ids
    Tokenize(Tokenize),
    /// Continue a prompt (or answer it, with --chat) and stream the text
    Run(Run),
    /// Fill in the code at a place in a file
    Fim(Fim),
    /// Change files as told: watch the change as it is written, then apply it or not
    Edit(Edit),
    /// Restore what `vonk edit` changed
    Undo(Undo),
    /// Talk with a model in this terminal
    Chat(Chat),
    /// Serve models over an OpenAI-compatible API
    Serve(Serve),
    /// Make, list, revoke and renew the keys of a shared server
    Keys(crate::args_keys::Keys),
    /// What each key has used, by model and day
    Usage(crate::args_keys::Usage),
    /// Write the logits of every position of a text: raw f32, [n_tokens, n_vocab]
    Logits(Logits),
    /// How well a model predicts a text
    Perplexity(Perplexity),
    /// Measure speed: in this process, or of servers with --url
    Bench(Bench),
    /// Measure quality
    Eval(Eval),
    /// Watch a server: speed, waits, drafts, pages
    Top(Top),
    /// Tell a client (codex, opencode, llama.vim, ...) to use a running server: prints its configuration, or installs it
    Connect(Connect),
    /// Print the model catalogue that a client takes
    Catalog(Catalog),
    /// Print the OpenAPI document of the server (it is also at GET /openapi.json)
    Openapi,
    /// Serve an editor: completions and edits over the language server protocol, on standard input and output
    Lsp(Lsp),
}

/// `vonk top`.
#[derive(Args)]
pub struct Top {
    /// The server [default: $VONK_URL, else this user's running server]; $VONK_API_KEY is sent as the key
    #[arg(long)]
    pub url: Option<String>,
    /// Look for one second, print once and end
    #[arg(long)]
    pub once: bool,
}

/// How to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// Dequantised weights and f32 activations: the yardstick, slow
    Exact,
    /// Plain scalar code that defines every bit, slow
    Portable,
    /// The fast one
    Cpu,
}

/// How keys and values can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvKind {
    /// 16 bits (32 where --backend is exact)
    F16,
    /// 8 bits: half the memory, nearly the same answers
    Q8,
}

/// Instruction sets that can be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsaKind {
    /// AVX2 with FMA
    Avx2,
    /// AVX2 with AVX-VNNI
    AvxVnni,
    /// AVX-512 with VNNI
    Avx512,
    /// NEON
    Neon,
    /// NEON with dot products
    NeonDot,
}

/// Options of everything that runs a model.
#[derive(Args, Clone)]
pub struct Engine {
    /// Worker threads [default: the cores of this machine]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// How to compute
    #[arg(long, value_enum, default_value = "cpu")]
    pub backend: BackendKind,
    /// Instruction set [default: the best of this machine]; answers are equal in every bit
    #[arg(long, value_enum)]
    pub isa: Option<IsaKind>,
    /// Context length in tokens [default: the model's, at most 32768]
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub ctx: Option<u32>,
    /// How to keep keys and values
    #[arg(long, value_enum, default_value = "f16")]
    pub kv: KvKind,
}

/// Options of everything that chooses tokens.
#[derive(Args, Clone)]
pub struct Sampling {
    /// Most tokens to generate
    #[arg(long, short = 'n', default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// 0 takes the most likely token every time
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub top_k: u32,
    /// Keep the most likely tokens up to this total probability
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Keep tokens at least this times as likely as the most likely
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// Push recent tokens away; 1 is off
    #[arg(long, default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop before this text (may be given several times)
    #[arg(long)]
    pub stop: Vec<String>,
}

impl Sampling {
    /// The most likely token every time, up to `max_tokens` of them.
    pub fn greedy(max_tokens: u32) -> Self {
        let (temperature, top_k, top_p, min_p, repeat_penalty) = (0.0, 0, 1.0, 0.0, 1.0);
        Self { max_tokens, temperature, top_k, top_p, min_p, repeat_penalty, seed: 0, stop: vec![] }
    }
}

/// `--json`.
#[derive(Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vonk up`.
#[derive(Args)]
pub struct Up {
    /// Model to fetch and serve
    #[arg(long)]
    pub model: Option<String>,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Stop after the demonstration instead of serving until Ctrl-C
    #[arg(long)]
    pub once: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk pull`.
#[derive(Args)]
pub struct Pull {
    /// NAME, hf:OWNER/REPO[/FILE][@REVISION] or PATH
    pub spec: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Tell progress on stderr as JSON lines {"done":BYTES,"total":BYTES}, for programs
    #[arg(long)]
    pub progress: bool,
}

/// `vonk rm`.
#[derive(Args)]
pub struct Rm {
    /// The model's name (see `vonk models`)
    pub name: String,
}

/// `vonk inspect`.
#[derive(Args)]
pub struct Inspect {
    /// A model's name, or the path of a .gguf file or safetensors folder
    pub model: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
}

/// `vonk tokenize`.
#[derive(Args)]
pub struct Tokenize {
    /// Model whose tokenizer to use
    #[arg(long)]
    pub model: Option<String>,
    /// The text; read from standard input when absent
    pub text: Option<String>,
    /// Read special tokens such as <|im_end|> in the text as such
    #[arg(long)]
    pub special: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vonk run`.
#[derive(Args)]
pub struct Run {
    /// Model to run
    #[arg(long)]
    pub model: Option<String>,
    /// The prompt; read from standard input when absent
    pub prompt: Option<String>,
    /// Ask as a user in the model's chat template
    #[arg(long, conflicts_with = "fim_suffix")]
    pub chat: bool,
    /// System message, with --chat
    #[arg(long, requires = "chat")]
    pub system: Option<String>,
    /// Fill in between the prompt and this text
    #[arg(long)]
    pub fim_suffix: Option<String>,
    /// Print text and figures as one JSON object instead of streaming
    #[arg(long)]
    pub json: bool,
    /// Sampling options.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk fim`.
#[derive(Args)]
pub struct Fim {
    /// FILE:LINE[:COL], both counted from 1; without COL, the end of the line
    pub place: String,
    /// Model to run
    #[arg(long)]
    pub model: Option<String>,
    /// Print text and figures as one JSON object instead of streaming
    #[arg(long)]
    pub json: bool,
    /// Sampling options.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// Which server to ask.
#[derive(Args, Clone)]
pub struct Near {
    /// Model to ask for [default: what the server has]
    #[arg(long)]
    pub model: Option<String>,
    /// The server [default: $VONK_URL, else this user's running server, else one that is started and stops when idle]
    #[arg(long)]
    pub url: Option<String>,
}

/// The form of a model's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HowKind {
    /// By the length of the file
    Auto,
    /// The whole file
    Whole,
    /// Search-and-replace blocks
    Blocks,
}

/// `vonk edit`.
#[derive(Args)]
pub struct Edit {
    /// FILE... and, as the last argument, what to change
    #[arg(required = true, num_args = 1.., value_names = ["FILE... INSTRUCTION"])]
    pub what: Vec<String>,
    /// Apply without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Print figures as one JSON object instead of the diff
    #[arg(long)]
    pub json: bool,
    /// Apply, run this command, and keep the change only if it exits with 0
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    /// How long the command may take
    #[arg(long, value_parser = time, default_value = "2m", requires = "check")]
    pub check_time: std::time::Duration,
    /// Edit files that look like secrets or lie behind a link out of this folder; apply changes that look wrong
    #[arg(long)]
    pub force: bool,
    /// What the model answers with
    #[arg(long, value_enum, default_value = "auto")]
    pub how: HowKind,
    /// Seconds for one answer
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=base::limits::CLIENT_ANSWER_S_MAX))]
    pub timeout: u64,
    /// Which server.
    #[command(flatten)]
    pub near: Near,
}

/// `vonk undo`.
#[derive(Args)]
pub struct Undo {
    /// Number of the edit [default: the last one]
    pub id: Option<u64>,
    /// List the edits that are known
    #[arg(long, conflicts_with = "id")]
    pub list: bool,
    /// Also restore files that were changed since; a copy of what is in them is kept
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vonk chat`.
#[derive(Args)]
pub struct Chat {
    /// Files to talk about
    pub files: Vec<PathBuf>,
    /// System message
    #[arg(long)]
    pub system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, short = 'n', default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// 0 takes the most likely token every time
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Which server.
    #[command(flatten)]
    pub near: Near,
}

/// `vonk serve`.
#[derive(Args)]
pub struct Serve {
    /// Model to serve (may be given several times); the first also answers to `default`
    #[arg(long)]
    pub model: Vec<String>,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Requests that run at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub slots: u16,
    /// A smaller model of the same vocabulary that drafts for the first one where nothing can be copied
    #[arg(long)]
    pub draft_model: Option<String>,
    /// Do not keep the prefix cache on disk (it holds what was asked and answered, readable by this user only)
    #[arg(long)]
    pub no_kept_cache: bool,
    /// Host name that clients may use, beside localhost (may be given several times)
    #[arg(long)]
    pub host: Vec<String>,
    /// Web origin (https://app.example) whose pages may use the server (may be given several times)
    #[arg(long)]
    pub origin: Vec<String>,
    /// File of tiers and prices [default: vonk.toml in $VONK_HOME, or in the user's configuration folder]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Serve nobody without a key, even while there is none (see `vonk keys`)
    #[arg(long)]
    pub require_key: bool,
    /// Let different callers share cached prefixes: faster, but they can learn by timing what others ask [default: only on
    /// loopback without keys]
    #[arg(long)]
    pub share_prefixes: Option<bool>,
    /// Listen beyond this machine while there are no keys: anybody who reaches the port can use the model
    #[arg(long)]
    pub insecure_open: bool,
    /// End when no request came for this long, such as 15m or 90s
    #[arg(long, value_parser = time)]
    pub stop_when_idle: Option<std::time::Duration>,
    /// Send traces of requests (times and token counts, no text) to this OpenTelemetry collector, http://HOST:4318
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Do not leave the file by which `vonk edit`, `vonk chat` and editors find this server
    #[arg(long)]
    pub no_runtime_file: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk logits`.
#[derive(Args)]
pub struct Logits {
    /// Model to run
    #[arg(long)]
    pub model: String,
    /// Text to score
    #[arg(long)]
    pub text_file: PathBuf,
    /// Where to write: little-endian f32, [n_tokens, n_vocab]
    #[arg(long)]
    pub out: PathBuf,
    /// Rows of a forward pass; answers are equal in every bit
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub chunk: u32,
    /// Print the shape as JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk perplexity`.
#[derive(Args)]
pub struct Perplexity {
    /// Model to run
    #[arg(long)]
    pub model: String,
    /// Text to score
    pub file: PathBuf,
    /// Tokens of one context; each window starts afresh, its first token is not scored
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub window: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// A time with its unit: 90s, 15m, 2h.
pub fn time(text: &str) -> Result<std::time::Duration, String> {
    let wrong =
        || format!("`{text}` is no time such as 90s, 15m or 2h, of at most {} days", base::limits::TIME_DAYS_MAX);
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1u64,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let time = number.checked_mul(seconds).filter(|s| (1..=base::limits::TIME_DAYS_MAX * 86_400).contains(s));
    Ok(std::time::Duration::from_secs(time.ok_or_else(wrong)?))
}

/// `vonk eval`.
#[derive(Args)]
pub struct Eval {
    /// What to evaluate
    #[command(subcommand)]
    pub what: EvalWhat,
}

/// Evaluations.
#[derive(Subcommand)]
pub enum EvalWhat {
    /// HumanEval: Python functions with tests, pass@1, greedy. Runs what the model writes, in a limited process
    Humaneval(Humaneval),
}

/// `vonk eval humaneval`.
#[derive(Args)]
pub struct Humaneval {
    /// Model to evaluate
    #[arg(long)]
    pub model: Option<String>,
    /// Problems to run, from the first
    #[arg(long)]
    pub limit: Option<usize>,
    /// HumanEval.jsonl [default: $VONK_DATA/humaneval, then ../shared/data/humaneval]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Ask this OpenAI-compatible server instead of running the model here
    #[arg(long)]
    pub url: Option<String>,
    /// Its key.
    #[command(flatten)]
    pub key: crate::args_connect::Key,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Engine options.
    #[command(flatten)]
    pub engine: Engine,
}

/// `vonk lsp`.
#[derive(Args)]
pub struct Lsp {
    /// This server and no other [default: one that runs on this machine, else one is started]
    #[arg(long)]
    pub url: Option<String>,
    /// Model to ask for [default: what the server has]
    #[arg(long)]
    pub model: Option<String>,
    /// Do not start a server
    #[arg(long)]
    pub no_start: bool,
    /// Accepted and not used: the transport is always standard input and output
    #[arg(long, hide = true)]
    pub stdio: bool,
}
