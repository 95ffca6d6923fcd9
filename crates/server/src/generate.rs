//! The way of a generation request: read, check, tokenise (off the reactor), queue, wait for a slot, answer.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use base::{RequestId, TokenId, limits};
use engine::api::{Class, Finish, Request, Sampling};
use keys::Estimate;
use protocol::chunks::{Chunks, Envelope, Shape};
use protocol::num::Temperature;
use protocol::{ApiError, ChatRequest, CompletionRequest, Generate, InfillRequest, Prompt, ServiceTier};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use text::Grammar;

use crate::answer::{Answer, id_prefix, queue_full, refused};
use crate::app::{App, Model, Phase, Served};
use crate::auth;
use crate::body::{self, Received};
use crate::caller::Caller;
use crate::dialect::{self, Dialect, Told as Dialected};
use crate::grammar::{Cut, constraint};
use crate::infill::{Bounds, Infill, Told};
use crate::net::Peer;
use crate::notes::Notes;
use crate::runner::{News, NoRoom, Note};
use crate::stream::{OpenAi, SseBody, Whole, Writer, collect};
use crate::timing::{Arrival, Clock};
use crate::tools::ToolSet;
use crate::trace;

/// Which kind of answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    OpenAi(Shape),
    Infill,
    Dialect(Dialect),
}

/// A request that can be submitted.
pub(crate) struct Prepared {
    model: Arc<Model>,
    generate: Generate,
    logprobs: Option<u8>,
    prompts: Vec<Vec<TokenId>>,
    /// Where the request does not say.
    class: Class,
    prediction: Vec<TokenId>,
    replay: Vec<TokenId>,
    grammar: Option<Arc<Grammar>>,
    tools: Option<ToolSet>,
    pub(crate) infill: Option<Infill>,
    pub(crate) dialect: Option<Dialect>,
    /// How long it took to parse, render and tokenise it.
    took: Duration,
}

/// Who asked, and when.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) caller: Caller,
    pub(crate) arrival: Arrival,
}

/// Answers `POST /v1/chat/completions`, `POST /v1/completions` or `POST /infill`.
///
/// # Errors
/// Everything that can be said with a status, before the first byte of an answer.
pub(crate) async fn generate(
    app: Arc<App>,
    ask: Ask,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let arrival = Arrival::at(Instant::now(), &peer.1);
    let mut origin = Origin { caller: Caller::of(&app, &headers, peer.0)?, arrival };
    check_open(&app)?;
    app.check_quota(&origin.caller)?;
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    origin.arrival.whole();
    let prepared = prepare(&app, ask, received).await?;
    check_open(&app)?; // it may have begun to drain in the meantime
    let number = app.mint();
    if let Some(dialect) = prepared.dialect.filter(|_| prepared.prompts.is_empty()) {
        return Dialected::new(dialect, &prepared.model, app.random(number))
            .loaded(prepared.generate.max_tokens == Some(0));
    }
    let (mut answer, notes) = started(&app, &prepared, &origin).await?;
    let Prepared { model, generate, infill, dialect, .. } = prepared;

    if let Some(dialect) = dialect {
        let told = Dialected::new(dialect, &model, app.random(number));
        if generate.stream {
            let media_type = told.media_type();
            return stream_response(Body::new(SseBody::new(&app, answer, notes, Writer::Dialect(told))), media_type);
        }
        let choices = collect(&app, &mut answer, notes).await?;
        return Ok(json_response(StatusCode::OK, told.whole(&answer, choices)?));
    }
    let shape = match (ask, infill) {
        (Ask::OpenAi(shape), _) => shape,
        (_, Some(Infill { told, .. })) if generate.stream => {
            return sse_response(SseBody::new(&app, answer, notes, Writer::Infill(told)));
        }
        (_, Some(Infill { told, .. })) => {
            let choices = collect(&app, &mut answer, notes).await?;
            return Ok(json_response(StatusCode::OK, told.whole(&answer, choices)?));
        }
        (Ask::Infill | Ask::Dialect(_), None) => {
            return Err(ApiError::internal("An infill request was read as another."));
        }
    };
    let id = format!("{}-{:016x}", id_prefix(shape), app.random(number));
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let fingerprint = &model.runner.info.fingerprint;
    let service_tier = origin.caller.service_tier(generate.hints.service_tier);
    if generate.stream {
        let envelope = Envelope { shape, id: &id, created, model: &model.name, fingerprint, service_tier };
        let chunks = Chunks::new(&envelope, generate.include_usage);
        let include_usage = generate.include_usage;
        let writer = Writer::OpenAi(OpenAi { chunks, shape, include_usage, offsets: vec![0; answer.len()] });
        return sse_response(SseBody::new(&app, answer, notes, writer));
    }
    let (model, fingerprint) = (model.name.clone(), fingerprint.clone());
    let whole = Whole { id, created, model, fingerprint, service_tier, shape };
    let choices = collect(&app, &mut answer, notes).await?;
    Ok(json_response(StatusCode::OK, whole.render(&answer, choices)?))
}

/// Queues a request and waits until it has a slot. Whoever drops this cancels it.
pub(crate) async fn started(app: &App, prepared: &Prepared, origin: &Origin) -> Result<(Answer, Notes), ApiError> {
    let permit = app.admit(&origin.caller, &prepared.model, prepared.estimate())?;
    let (requests, choices) = requests(app, prepared, origin);
    let Prepared { model, generate, prediction, tools, infill, took, .. } = prepared;
    if let Some(trace) = trace::current() {
        trace.asked(&model.name, generate);
    }
    let mailbox = &model.runner.mailbox;
    let (mut notes, ticket) = mailbox.submit(requests).map_err(|why| match why {
        NoRoom::QueueFull => queue_full(mailbox.retry_after_s()),
        NoRoom::EngineStopped => engine_stopped(),
    })?;
    let tells_drafts = !prediction.is_empty();
    let clock = Clock::new(origin.arrival.clone(), *took);
    let mut answer = Answer::new(&model.text, &generate.stop, &choices, tells_drafts, clock, ticket)?;
    answer.hold(permit);
    if let Some(infill) = infill {
        answer.bound(&infill.bounds);
    }
    if let Some(tools) = tools {
        answer.read_calls(|| tools.reader([app.random(app.mint()), app.random(app.mint())]));
    }
    let first = first_note(app, model, &mut notes).await?;
    answer.take(first)?;
    Ok((answer, notes))
}

pub(crate) fn sse_response<B>(body: B) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = axum::body::Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    stream_response(Body::new(body), "text/event-stream; charset=utf-8")
}

fn stream_response(body: Body, media_type: &'static str) -> Result<Response<Body>, ApiError> {
    let response = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CACHE_CONTROL, "no-cache")
        .header("x-accel-buffering", "no")
        .body(body);
    response.map_err(|e| ApiError::internal(e.to_string()))
}

/// A response of JSON bytes.
pub(crate) fn json_response(status: StatusCode, json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// New requests are taken only while open and loaded.
pub(crate) fn check_open(app: &App) -> Result<(), ApiError> {
    if app.phase() != Phase::Open {
        return Err(shutting_down());
    }
    if app.models().is_empty() {
        return Err(ApiError::unavailable("loading", "The models are still loading. Try again soon.", 1));
    }
    Ok(())
}

pub(crate) fn shutting_down() -> ApiError {
    ApiError::unavailable("shutting_down", "The server is shutting down. Try again when it is back.", 10)
}

pub(crate) fn engine_stopped() -> ApiError {
    ApiError::unavailable("engine_stopped", "The engine of this model has failed and stopped. Restart the server.", 60)
}

/// Waits for the first sequence to get a slot (or to be refused one).
async fn first_note(app: &App, model: &Model, notes: &mut Notes) -> Result<Note, ApiError> {
    let retry_after_s = || model.runner.mailbox.retry_after_s();
    let mut phase = app.phase.subscribe();
    let cut = async { phase.wait_for(|p| *p >= Phase::Cut).await.map(|_| ()) };
    let first = tokio::select! {
        note = tokio::time::timeout(app.config.limits.queue_wait, notes.recv()) => note,
        _ = cut => return Err(shutting_down()),
    };
    match first {
        Ok(Some(Note { news: News::Refused(why), .. })) => Err(refused(why, retry_after_s())),
        Ok(Some(Note { news: News::Finished(Finish::Deadline, _), .. })) => Err(ApiError::unavailable(
            "deadline_exceeded",
            "No slot became free within `deadline_ms`. Try again later, or allow more time.",
            retry_after_s(),
        )),
        Ok(Some(note)) => Ok(note),
        Ok(None) => Err(engine_stopped()),
        Err(_) => {
            let s = app.config.limits.queue_wait.as_secs_f32();
            Err(ApiError::unavailable(
                "queue_timeout",
                format!("No slot became free within {s} s. Try again later."),
                retry_after_s(),
            ))
        }
    }
}

/// Parses, renders and tokenises.
async fn prepare(app: &Arc<App>, ask: Ask, received: Received) -> Result<Prepared, ApiError> {
    on_text_pool(app, move |app| {
        let began = Instant::now();
        let (prepared, param) = match ask {
            Ask::OpenAi(Shape::Chat) => (prepare_chat(app, protocol::parse_chat(&received.bytes)?)?, "messages"),
            Ask::OpenAi(Shape::Completion) => (prepare_completion_or_tabby(app, &received.bytes)?, "prompt"),
            Ask::Dialect(dialect) => (dialect::prepare(app, dialect, &received.bytes)?, "prompt"),
            Ask::Infill => (prepare_infill(app, protocol::parse_infill(&received.bytes)?)?, "input_prefix"),
        };
        check_tokens(&prepared, param)?;
        Ok(prepared.with_hints()?.since(began))
    })
    .await
}

/// Works on text on the blocking pool; a bounded number of jobs at once.
pub(crate) async fn on_text_pool<T: Send + 'static>(
    app: &Arc<App>,
    job: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = Arc::clone(&app.text_jobs).acquire_owned().await.map_err(|_| shutting_down())?;
    let begun = Instant::now();
    let app = Arc::clone(app);
    let job = auth::on_behalf(move || {
        let _permit = permit;
        job(&app)
    });
    let lost = |_| ApiError::internal("Reading the request failed by a bug in the server. Please report it.");
    let done = tokio::task::spawn_blocking(job).await.map_err(lost)?;
    if let Some(trace) = trace::current() {
        trace.part("tokenise", Some(begun), Some(Instant::now()));
    }
    done
}

/// Somebody is typing: what does not fit is left out instead of refused, and the likeliest text is wanted unless the
/// request says otherwise or wants several.
pub(crate) fn prepare_infill(app: &App, mut request: InfillRequest) -> Result<Prepared, ApiError> {
    let model = find_model(app, &request.generate.model)?;
    if request.generate.n == 1 {
        request.generate.temperature.get_or_insert(Temperature::GREEDY);
    }
    let n_ctx = model.runner.info.n_ctx;
    let (least, most) = (limits::INFILL_ANSWER_TOKENS.min(n_ctx / 4), n_ctx / 4);
    let answer = request.generate.max_tokens.map_or(most, |n| n as usize).clamp(least, most).max(1);
    let prompt = model.text.encode_infill(&request, n_ctx.saturating_sub(answer))?;
    let infill = Infill { bounds: Bounds::of(&request), told: Told::new(&model, &request, prompt.is_cut) };
    let prepared = Prepared::new(model, request.generate, None, vec![prompt.tokens], Class::Interactive);
    Ok(Prepared { infill: Some(infill), ..prepared })
}

pub(crate) fn prepare_chat(app: &App, request: ChatRequest) -> Result<Prepared, ApiError> {
    let model = find_model(app, &request.generate.model)?;
    check_bytes(&model, request.text_bytes(), "messages")?;
    let prompt = model.text.encode_chat(&request, &|bytes| check_bytes(&model, bytes, "messages"))?;
    let tools = ToolSet::new(&model.text, &request.tools, &request.generate.response_format)?;
    let grammar = match &tools {
        Some(tools) => tools.grammar(&model.text, &request.tools)?,
        None => None,
    };
    let prepared = Prepared::new(model, request.generate, request.logprobs, vec![prompt], Class::Chat);
    Ok(Prepared { tools, grammar, ..prepared })
}

/// The chat that a request to `/v1/responses` stands for.
pub(crate) fn prepare_response(app: &App, request: ChatRequest) -> Result<Prepared, ApiError> {
    let prepared = prepare_chat(app, request)?;
    check_tokens(&prepared, "input")?;
    prepared.with_hints()
}

/// Tabby's clients ask at the same path.
fn prepare_completion_or_tabby(app: &App, bytes: &[u8]) -> Result<Prepared, ApiError> {
    match protocol::parse_completion(bytes) {
        Err(_) if protocol::tabby::is_tabby(bytes) => dialect::prepare(app, Dialect::Tabby, bytes),
        request => prepare_completion(app, request?),
    }
}

pub(crate) fn prepare_completion(app: &App, request: CompletionRequest) -> Result<Prepared, ApiError> {
    let model = find_model(app, &request.generate.model)?;
    let n_vocab = model.runner.info.n_vocab;
    let suffix_bytes = request.suffix.as_ref().map_or(0, String::len);
    let one = |(i, prompt): (usize, Prompt)| match (prompt, &request.suffix) {
        (Prompt::Text(text), suffix) => {
            check_bytes(&model, text.len().saturating_add(suffix_bytes), "prompt")?;
            match suffix {
                Some(suffix) => model.text.encode_fim(&text, suffix),
                None => Ok(model.text.encode_text(&text)),
            }
        }
        (Prompt::Tokens(ids), _) => match ids.iter().position(|id| *id as usize >= n_vocab) {
            None => Ok(ids),
            Some(at) => {
                let message = format!("Token {} of prompt {i} is not in the vocabulary of {n_vocab} tokens.", ids[at]);
                Err(ApiError::field("prompt", "invalid_value", message))
            }
        },
    };
    let prompts = request.prompts.into_iter().enumerate().map(one).collect::<Result<_, _>>()?;
    // A gap is filled where somebody is typing.
    let class = if request.suffix.is_some() { Class::Interactive } else { Class::Chat };
    Ok(Prepared::new(model, request.generate, request.logprobs, prompts, class))
}

impl Prepared {
    fn new(
        model: Arc<Model>,
        generate: Generate,
        logprobs: Option<u8>,
        prompts: Vec<Vec<TokenId>>,
        class: Class,
    ) -> Self {
        Self {
            model,
            generate,
            logprobs,
            prompts,
            class,
            prediction: Vec::new(),
            replay: Vec::new(),
            grammar: None,
            tools: None,
            infill: None,
            dialect: None,
            took: Duration::ZERO,
        }
    }

    /// Its preparation began then and has ended.
    pub(crate) fn since(self, began: Instant) -> Self {
        Self { took: began.elapsed(), ..self }
    }

    /// A request with nothing to compute.
    pub(crate) fn nothing(model: Arc<Model>, generate: Generate) -> Self {
        Self::new(model, generate, None, Vec::new(), Class::Chat)
    }

    /// Compiles what the answer must look like, and reads the answers that the request brings along. A prediction is a hint and is cut to what can be used of it; a
    /// replay is a measurement and must fit.
    fn with_hints(mut self) -> Result<Self, ApiError> {
        if self.grammar.is_none() {
            self.grammar = self.model.text.grammar(&self.generate.response_format)?;
        }
        let (kit, n_ctx) = (&self.model.text, self.model.runner.info.n_ctx);
        if let Some(text) = self.generate.hints.prediction.take() {
            let mut end = text.len().min(n_ctx.saturating_mul(limits::PROMPT_BYTES_PER_CTX_TOKEN_MAX));
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            self.prediction = kit.encode_answer(&text[..end]);
            self.prediction.truncate(n_ctx);
        }
        if let Some(text) = self.generate.hints.replay.take() {
            if self.grammar.is_some() {
                let message = "`replay` gives the whole answer; `response_format` or `tool_choice` asks for another. Leave one out.";
                return Err(ApiError::field("replay", "unsupported_value", message));
            }
            check_bytes(&self.model, text.len(), "replay")?;
            self.replay = kit.encode_answer(&text);
            let room = n_ctx - self.prompts.iter().map(Vec::len).max().unwrap_or(0).min(n_ctx);
            if self.replay.len() > room {
                let n = self.replay.len();
                let message =
                    format!("`replay` has {n} tokens; the prompt leaves room for {room}. Shorten one of them.");
                return Err(ApiError::field("replay", "context_length_exceeded", message));
            }
        }
        Ok(self)
    }

    /// What it will take, at most, or as is usual where it sets no bound.
    fn estimate(&self) -> Estimate {
        let (n_ctx, n) = (self.model.runner.info.n_ctx, u64::from(self.generate.n));
        let bound = self.generate.max_tokens.map_or(limits::QUOTA_ANSWER_TOKENS, |n| n as usize);
        let answer = |prompt: &Vec<TokenId>| bound.min(n_ctx.saturating_sub(prompt.len())) as u64;
        Estimate {
            prompt: self.prompts.iter().map(|p| p.len() as u64).sum(),
            answer: self.prompts.iter().map(answer).sum::<u64>() * n,
            sequences: self.prompts.len() as u64 * n,
        }
    }

    fn class(&self) -> Class {
        match self.generate.hints.service_tier {
            None | Some(ServiceTier::Auto) => self.class,
            Some(ServiceTier::Default) => Class::Chat,
            Some(ServiceTier::Flex) => Class::Batch,
            Some(ServiceTier::Priority) => Class::Interactive,
        }
    }
}

/// `default` is the first model served; any other unknown name is an error, never a silent substitute.
pub(crate) fn find_model(app: &App, name: &str) -> Result<Arc<Model>, ApiError> {
    let found = auth::known_models(app).find(|m| m.is_called(name));
    let found = found.or_else(|| auth::known_models(app).next().filter(|_| name == "default"));
    let model = found.cloned().ok_or_else(|| auth::model_not_found(app, name))?;
    if model.runner.mailbox.is_alive() { Ok(model) } else { Err(engine_stopped()) }
}

pub(crate) fn check_bytes(model: &Model, bytes: usize, param: &'static str) -> Result<(), ApiError> {
    let n_ctx = model.runner.info.n_ctx;
    let max = n_ctx.saturating_mul(limits::PROMPT_BYTES_PER_CTX_TOKEN_MAX);
    if bytes <= max {
        return Ok(());
    }
    let message = format!(
        "The prompt has {bytes} bytes; the context of {n_ctx} tokens takes at most {max} bytes. Shorten it by {}.",
        bytes - max
    );
    Err(ApiError::field(param, "context_length_exceeded", message))
}

fn check_tokens(prepared: &Prepared, param: &'static str) -> Result<(), ApiError> {
    let info = &prepared.model.runner.info;
    for prompt in &prepared.prompts {
        if prompt.is_empty() {
            return Err(ApiError::field(param, "empty_prompt", "The prompt has no tokens. Send some text."));
        }
        if prompt.len() >= info.n_ctx {
            let (n, n_ctx) = (prompt.len(), info.n_ctx);
            let message = format!(
                "The prompt has {n} tokens; the context has {n_ctx}, and at least one is for the answer. Shorten the prompt by {}.",
                n - n_ctx + 1
            );
            return Err(ApiError::field(param, "context_length_exceeded", message));
        }
    }
    match prepared.generate.logit_bias.iter().find(|(id, _)| *id as usize >= info.n_vocab) {
        None => Ok(()),
        Some((id, _)) => {
            let message = format!("Token {id} is not in the vocabulary of {} tokens. Send valid ids.", info.n_vocab);
            Err(ApiError::field("logit_bias", "invalid_value", message))
        }
    }
}

/// Prompts times choices, and for each the place of its prompt, and whether a grammar cut it.
fn requests(app: &App, prepared: &Prepared, origin: &Origin) -> (Vec<Request>, Vec<(usize, Cut)>) {
    let (g, info) = (&prepared.generate, &prepared.model.runner.info);
    let seed = g.seed.unwrap_or_else(|| app.random(app.mint()));
    let salt = origin.caller.salt(app, g.hints.prompt_cache_key.as_deref());
    let end = g.hints.deadline_ms.map(|ms| origin.arrival.at + Duration::from_millis(ms.into()));
    let deadline_us = end.map_or(u64::MAX, |end| prepared.model.runner.mailbox.clock_us(end));
    let (mut requests, mut choices) = (Vec::new(), Vec::new());
    for (p, prompt) in prepared.prompts.iter().enumerate() {
        let room = info.n_ctx.saturating_sub(prompt.len());
        for i in 0..g.n {
            let cut = Cut::default();
            choices.push((p, cut.clone()));
            let max_tokens = g.max_tokens.map_or(room, |n| room.min(n as usize));
            requests.push(Request {
                sampling: sampling(g, &prepared.model.defaults, seed.wrapping_add(u64::from(i))),
                stop_tokens: prepared.model.text.stop_tokens().to_vec(),
                logprobs: prepared.logprobs,
                logit_bias: g.logit_bias.iter().map(|(id, bias)| (*id, bias.get())).collect(),
                class: origin.caller.class(prepared.class()),
                key: origin.caller.share_key(app),
                salt,
                deadline_us,
                speculate: g.hints.speculate,
                prediction: prepared.prediction.clone(),
                replay: prepared.replay.clone(),
                constraint: prepared.grammar.as_ref().map(|g| constraint(g, &cut)),
                ..Request::new(RequestId(app.mint()), prompt.clone(), max_tokens)
            });
        }
    }
    (requests, choices)
}

/// What the request says; the model's defaults where it says nothing at all of how to draw, else OpenAI's: who asks for temperature 1
/// means all of the vocabulary.
pub(crate) fn sampling(g: &Generate, d: &Sampling, seed: u64) -> Sampling {
    let says_nothing = g.temperature.is_none() && g.top_p.is_none() && g.top_k.is_none() && g.min_p.is_none();
    let d = if says_nothing { d } else { &Served::openai_defaults() };
    Sampling {
        temperature: g.temperature.map_or(d.temperature, |x| x.get()),
        top_k: g.top_k.unwrap_or(d.top_k),
        top_p: g.top_p.map_or(d.top_p, |x| x.get()),
        min_p: g.min_p.map_or(d.min_p, |x| x.get()),
        repeat_penalty: g.repeat_penalty.map_or(d.repeat_penalty, |x| x.get()),
        repeat_last_n: g.repeat_last_n.unwrap_or(d.repeat_last_n),
        presence_penalty: g.presence_penalty.map_or(d.presence_penalty, |x| x.get()),
        frequency_penalty: g.frequency_penalty.map_or(d.frequency_penalty, |x| x.get()),
        seed,
    }
}
