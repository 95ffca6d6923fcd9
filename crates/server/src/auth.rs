//! Keys at the door: who must show one, what a refusal says, and what a key's tier allows. `wrap` asks for all paths, and the
//! one way of generation asks for quotas; nothing else needs to know.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use engine::api::Class;
use keys::{Estimate, Gauge, Grant, Permit, Refusal, Standing, Unknown};
use protocol::{ApiError, ServiceTier};
use std::future::Future;
use std::sync::Arc;

use crate::app::{App, Model};
use crate::caller::Caller;

/// Azure's way to send a key, which some clients use.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// All headers that can show a key.
pub(crate) const KEY_HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, API_KEY];

tokio::task_local! {
    /// Whose request is answered: what this key's tier does not have is not shown to it.
    static ASKING: Option<Arc<Grant>>;
}

/// Answers within this future are for this caller.
pub(crate) async fn answering<F: Future>(caller: &Caller, future: F) -> F::Output {
    ASKING.scope(caller.grant.clone(), future).await
}

/// A job for another thread, on behalf of the same caller.
pub(crate) fn on_behalf<T>(job: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let asking = ASKING.try_with(Clone::clone).unwrap_or_default();
    move || ASKING.sync_scope(asking, job)
}

/// The models that whoever asks may know of.
pub(crate) fn known_models(app: &App) -> impl Iterator<Item = &Arc<Model>> {
    let asking = ASKING.try_with(Clone::clone).unwrap_or_default();
    app.models().iter().filter(move |m| asking.as_ref().is_none_or(|grant| grant.may_use(m.names())))
}

/// The key that a request shows. A header that is there twice shows none.
pub(crate) fn shown_key(headers: &HeaderMap) -> Option<&[u8]> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(|v| v.as_bytes())
    };
    if !headers.contains_key(header::AUTHORIZATION) {
        return one(&API_KEY).map(<[u8]>::trim_ascii).filter(|k| !k.is_empty());
    }
    let (scheme, token) = one(&header::AUTHORIZATION)?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|t| !t.is_empty())
}

/// The same for a key that is missing, wrong, cut short, expired or revoked.
pub(crate) fn unauthorized() -> ApiError {
    let message = "A key is needed: send `Authorization: Bearer KEY` with a key that is good. \
                   Whoever runs this server makes one with `vonk keys create`.";
    ApiError::of(401, "invalid_api_key", message)
}

impl App {
    /// Nobody is served without a key.
    pub(crate) fn is_locked(&self) -> bool {
        self.config.is_locked()
    }

    /// Who asks for this path.
    ///
    /// # Errors
    /// 401, and 403 for a key whose tier is not there.
    pub(crate) fn caller(&self, path: &str, headers: &HeaderMap, ip: std::net::IpAddr) -> Result<Caller, ApiError> {
        let is_open = matches!(path, "/health" | "/ready") || path == "/metrics" && self.config.is_loopback();
        if is_open { Ok(Caller::of_address(self, ip)) } else { Caller::of(self, headers, ip) }
    }

    /// The grant of the key that these headers show.
    ///
    /// # Errors
    /// See `caller`.
    pub(crate) fn grant(&self, headers: &HeaderMap) -> Result<Arc<Grant>, ApiError> {
        let shown = shown_key(headers).and_then(|key| Some((self.config.meter.as_ref()?, key)));
        let (meter, key) = shown.ok_or_else(unauthorized)?;
        meter.authenticate(key).map_err(|why| match why {
            Unknown::Key => unauthorized(),
            Unknown::Tier(name) => {
                let message = format!("The key's tier {name:?} is not configured on this server. Ask whoever runs it.");
                ApiError::of(403, "unknown_tier", message)
            }
        })
    }

    /// Refuses early what would be refused anyway.
    ///
    /// # Errors
    /// See `admit`.
    pub(crate) fn check_quota(&self, caller: &Caller) -> Result<(), ApiError> {
        let (Some(meter), Some(grant)) = (&self.config.meter, &caller.grant) else { return Ok(()) };
        meter.check(grant, self.config.limits.queue).map_err(refused)
    }

    /// Takes what a request needs from its key's quotas; `None` where there are no keys. Dropping the permit gives back what
    /// was not used.
    ///
    /// # Errors
    /// 404 for a model that is not for this key, as if it were not there; 429 with `Retry-After`.
    pub(crate) fn admit(&self, caller: &Caller, model: &Model, estimate: Estimate) -> Result<Option<Permit>, ApiError> {
        let (Some(meter), Some(grant)) = (&self.config.meter, &caller.grant) else { return Ok(None) };
        let names: Vec<&str> = model.names().collect();
        meter.admit(grant, &names, self.config.limits.queue, estimate).map(Some).map_err(|why| match why {
            Refusal::Model => model_not_found(self, &model.name),
            why => refused(why),
        })
    }

    /// `x-ratelimit-*`, as they stand.
    pub(crate) fn tell_quota(&self, caller: &Caller, headers: &mut HeaderMap) {
        let (Some(meter), Some(grant)) = (&self.config.meter, &caller.grant) else { return };
        let Standing { requests, tokens } = meter.standing(grant);
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(Gauge { limit, remaining, reset_ms }) = requests {
            set("x-ratelimit-limit-requests", limit.to_string());
            set("x-ratelimit-remaining-requests", remaining.to_string());
            set("x-ratelimit-reset-requests", span_text(reset_ms));
        }
        if let Some(Gauge { limit, remaining, reset_ms }) = tokens {
            set("x-ratelimit-limit-tokens", limit.to_string());
            set("x-ratelimit-remaining-tokens", remaining.to_string());
            set("x-ratelimit-reset-tokens", span_text(reset_ms));
        }
    }
}

/// What a name that is not served gets, and one that is not for whoever asks.
pub(crate) fn model_not_found(app: &App, name: &str) -> ApiError {
    let known: Vec<&str> = known_models(app).map(|m| m.name.as_str()).collect();
    let message = format!("The model {name:?} is not served here. Served are: {}.", known.join(", "));
    ApiError { param: Some("model".to_owned()), ..ApiError::of(404, "model_not_found", message) }
}

fn refused(why: Refusal) -> ApiError {
    let seconds = |ms: u64| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    let busy = |message: String, s| ApiError::too_many("rate_limit_exceeded", message, s);
    match why {
        Refusal::Model => ApiError::of(404, "model_not_found", "This model is not served here."),
        // When a running request will end is not known.
        Refusal::Streams { limit } => {
            busy(format!("This key may have {limit} requests at once. Wait for one to end, or end one."), 1)
        }
        Refusal::Queue { limit } => {
            busy(format!("This key may have {limit} sequences running and waiting. Wait for some to end."), 1)
        }
        Refusal::Requests { limit, wait_ms } => {
            let s = seconds(wait_ms);
            busy(format!("This key may send {limit} requests a minute. Try again in {s} s."), s)
        }
        Refusal::Tokens { limit, asked, left, wait_ms } => {
            let s = seconds(wait_ms);
            let message = format!(
                "This key may use {limit} tokens a minute; {left} are left, and the request needs up to {asked}. Try again in {s} s, or lower `max_tokens`."
            );
            busy(message, s)
        }
        Refusal::Day { limit, asked, left, wait_ms } => {
            let s = seconds(wait_ms);
            let message = format!(
                "This key may use {limit} tokens a day; {left} are left, and the request needs up to {asked}. The next day begins in {s} s (UTC)."
            );
            ApiError { kind: "insufficient_quota", ..ApiError::too_many("insufficient_quota", message, s) }
        }
    }
}

impl Caller {
    /// The class that the request gets: what it asked for, or the best that the key's tier has.
    pub(crate) fn class(&self, asked: Class) -> Class {
        let best = match self.grant.as_ref().map(|g| g.tier().class) {
            None | Some(keys::Class::Interactive) => Class::Interactive,
            Some(keys::Class::Chat) => Class::Chat,
            Some(keys::Class::Batch) => Class::Batch,
        };
        asked.max(best)
    }

    /// The `service_tier` that the request got.
    pub(crate) fn service_tier(&self, asked: Option<ServiceTier>) -> Option<ServiceTier> {
        let class = match asked? {
            ServiceTier::Auto => return asked,
            ServiceTier::Priority => Class::Interactive,
            ServiceTier::Default => Class::Chat,
            ServiceTier::Flex => Class::Batch,
        };
        Some(match self.class(class) {
            Class::Interactive => ServiceTier::Priority,
            Class::Chat => ServiceTier::Default,
            Class::Batch => ServiceTier::Flex,
        })
    }
}

/// As OpenAI writes a span of time, which is Go's way: `0s`, `120ms`, `8.64s`, `6m0s`, `1h0m0s`.
fn span_text(ms: u64) -> String {
    if (1..1000).contains(&ms) {
        return format!("{ms}ms");
    }
    let (s, part) = (ms / 1000, ms % 1000);
    let fraction = if part == 0 { String::new() } else { format!(".{part:03}").trim_end_matches('0').to_owned() };
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}{fraction}s"),
        (0, m, s) => format!("{m}m{s}{fraction}s"),
        (h, m, s) => format!("{h}h{m}m{s}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn spans_are_written_as_openai_does() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (120, "120ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (59_999, "59.999s"),
            (360_000, "6m0s"),
            (61_500, "1m1.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(span_text(ms), text);
        }
    }

    #[test]
    fn keys_are_shown_in_two_headers_and_nowhere_else() {
        let shown = |list: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(*name, value.parse().unwrap());
            }
            shown_key(&headers).map(<[u8]>::to_vec)
        };
        for good in [
            &[("authorization", "Bearer k")][..],
            &[("authorization", "bEARER  k ")],
            &[("api-key", "k")],
            &[("authorization", "Bearer k"), ("api-key", "other")],
        ] {
            assert_eq!(shown(good).as_deref(), Some(&b"k"[..]), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("authorization", "k")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic k")],
            &[("authorization", "Basic k"), ("api-key", "k")],
            &[("authorization", "Bearer k"), ("authorization", "Bearer k")],
            &[("api-key", "k"), ("api-key", "k")],
            &[("api-key", "")],
            &[("x-api-key", "k")],
            &[("cookie", "k")],
        ] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
    }
}
