//! Who asks, as far as fairness and the prefix cache need to know: the API key if one is sent, else the address.

use axum::http::{HeaderMap, header};
use std::net::IpAddr;

use crate::app::App;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Requests of equal keys share what one key gets. A hash with a key of this process; the API key itself is not kept.
    pub(crate) key: u64,
}

/// What a hash is of, so that no text of one kind can stand for another.
const OF_API_KEY: u8 = 0;
const OF_ADDRESS: u8 = 1;
const OF_CACHE_KEY: u8 = 2;

impl Caller {
    /// Any bearer token counts as a key: there are no accounts yet. So fairness holds among honest callers only.
    pub(crate) fn of(app: &App, headers: &HeaderMap, ip: IpAddr) -> Self {
        let key = match bearer(headers) {
            Some(token) => app.keyed_hash((OF_API_KEY, token)),
            None => app.keyed_hash((OF_ADDRESS, ip.to_canonical())),
        };
        Self { key }
    }

    /// Whose cached prefixes a request may use: those of equal salt.
    pub(crate) fn salt(self, app: &App, prompt_cache_key: Option<&str>) -> u64 {
        match (app.config.shares_prefixes(), prompt_cache_key) {
            (true, None) => 0,
            (true, Some(name)) => app.keyed_hash((OF_CACHE_KEY, name)),
            (false, name) => app.keyed_hash((OF_CACHE_KEY, self.key, name)),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::Gate;

    fn app(bind: &str) -> App {
        let config = Config { bind: bind.parse().unwrap(), insecure_open: true, ..Config::default() };
        let gate = Gate::new(config.bind, &[], &[]);
        App::new(config, gate)
    }

    fn caller(app: &App, authorization: Option<&str>, ip: &str) -> Caller {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        Caller::of(app, &headers, ip.parse().unwrap())
    }

    #[test]
    fn a_key_is_the_bearer_token_or_else_the_address() {
        let app = app("127.0.0.1:1");
        let of = |authorization, ip| caller(&app, authorization, ip);
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
