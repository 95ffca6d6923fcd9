//! Who asks, as far as fairness and the prefix cache need to know: the API key if one is sent, else the address.

use axum::http::HeaderMap;
use keys::Grant;
use protocol::ApiError;
use std::net::IpAddr;
use std::sync::Arc;

use crate::app::App;
use crate::auth::shown_key;

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who shares prefixes with whom. A hash with a key of this process; the API key itself is not kept.
    pub(crate) key: u64,
    /// What its key may, where keys are needed.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// What a hash is of, so that no text of one kind can stand for another.
const OF_API_KEY: u8 = 0;
const OF_ADDRESS: u8 = 1;
const OF_CACHE_KEY: u8 = 2;
const OF_KEY_ID: u8 = 3;

impl Caller {
    /// Where keys are needed, the key decides. Elsewhere any bearer token counts as one, so fairness holds among honest callers.
    ///
    /// # Errors
    /// A key is needed, and none that is good was sent.
    pub(crate) fn of(app: &App, headers: &HeaderMap, ip: IpAddr) -> Result<Self, ApiError> {
        if app.is_locked() {
            let grant = app.grant(headers)?;
            return Ok(Self { key: app.keyed_hash((OF_KEY_ID, grant.id())), grant: Some(grant) });
        }
        Ok(match shown_key(headers) {
            Some(token) => Self { key: app.keyed_hash((OF_API_KEY, token)), grant: None },
            None => Self::of_address(app, ip),
        })
    }

    /// Somebody whose key does not matter.
    pub(crate) fn of_address(app: &App, ip: IpAddr) -> Self {
        Self { key: app.keyed_hash((OF_ADDRESS, ip.to_canonical())), grant: None }
    }

    /// Under which key the engine counts the next request: it gives keys equal shares, so a key of weight w counts as w keys
    /// that take turns.
    pub(crate) fn share_key(&self, app: &App) -> u64 {
        match self.grant.as_ref().map_or(0, |grant| grant.next_turn()) {
            0 => self.key,
            turn => app.keyed_hash((OF_KEY_ID, self.key, turn)),
        }
    }

    /// Whose cached prefixes a request may use: those of equal salt. Keys are different people, even on loopback.
    pub(crate) fn salt(&self, app: &App, prompt_cache_key: Option<&str>) -> u64 {
        let shares = app.config.share_prefixes.unwrap_or(self.grant.is_none() && app.config.is_loopback());
        match (shares, prompt_cache_key) {
            (true, None) => 0,
            (true, Some(name)) => app.keyed_hash((OF_CACHE_KEY, name)),
            (false, name) => app.keyed_hash((OF_CACHE_KEY, self.key, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::config::Config;
    use crate::gate::Gate;
    use axum::http::header;

    fn app(bind: &str) -> App {
        let config = Config { bind: bind.parse().unwrap(), insecure_open: true, ..Config::default() };
        let gate = Gate::new(config.bind, &[], &[]);
        App::new(config, gate, None)
    }

    fn caller(app: &App, authorization: Option<&str>, ip: &str) -> Caller {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        Caller::of(app, &headers, ip.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_the_bearer_token_or_else_the_address() {
        let app = app("127.0.0.1:1");
        let of = |authorization, ip| caller(&app, authorization, ip).key;
        assert_eq!(of(Some("Bearer a"), "10.0.0.1"), of(Some("bearer  a "), "10.0.0.2"));
        assert_ne!(of(Some("Bearer a"), "10.0.0.1"), of(Some("Bearer b"), "10.0.0.1"));
        assert_eq!(of(None, "10.0.0.1"), of(None, "::ffff:10.0.0.1"));
        assert_ne!(of(None, "10.0.0.1"), of(None, "10.0.0.2"));
        for no_key in ["Bearer", "Bearer ", "Basic YTpi", "é"] {
            assert_eq!(of(Some(no_key), "10.0.0.1"), of(None, "10.0.0.1"), "{no_key}");
        }
        assert_ne!(of(Some("Bearer 10.0.0.1"), "10.0.0.1"), of(None, "10.0.0.1"));
    }

    #[test]
    fn salts_keep_apart_what_must_not_share() {
        let (near, far) = (app("127.0.0.1:1"), app("0.0.0.0:1"));
        let salt = |app: &App, who: &str, name: Option<&str>| caller(app, Some(who), "10.0.0.1").salt(app, name);
        assert_eq!(salt(&near, "Bearer a", None), 0);
        assert_eq!(salt(&near, "Bearer a", Some("p")), salt(&near, "Bearer b", Some("p")));
        assert_ne!(salt(&near, "Bearer a", Some("p")), salt(&near, "Bearer a", Some("q")));
        assert_ne!(salt(&near, "Bearer a", Some("p")), 0);
        for name in [None, Some("p")] {
            assert_eq!(salt(&far, "Bearer a", name), salt(&far, "Bearer a", name));
            assert_ne!(salt(&far, "Bearer a", name), salt(&far, "Bearer b", name));
            assert_ne!(salt(&far, "Bearer a", name), 0);
        }
        assert_ne!(salt(&far, "Bearer a", None), salt(&far, "Bearer a", Some("p")));
        assert_ne!(salt(&near, "Bearer a", Some("p")), salt(&app("127.0.0.1:1"), "Bearer a", Some("p")), "keyed");
    }
}
