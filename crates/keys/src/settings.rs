//! Tiers and prices, from a TOML file. Every field is known and within its range, or the file is refused with its line.

use crate::Tokens;
use crate::error::KeysError;
use base::limits;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// How soon a tier's requests may be served, at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Completions while somebody types.
    Interactive,
    /// Somebody waits for an answer.
    Chat,
    /// Nobody waits.
    Batch,
}

/// What the keys of a tier may do. `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Requests at once.
    pub streams: Option<u64>,
    /// Part of the server's queue that one key's sequences may fill.
    pub queue_share: f64,
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens per minute.
    pub tokens_per_minute: Option<u64>,
    /// Input and output tokens per day (UTC).
    pub tokens_per_day: Option<u64>,
    /// Models by name; `None` is all.
    pub models: Option<Vec<String>>,
    /// The best class.
    pub class: Class,
    /// How many shares of the machine a key gets where there is not enough for all.
    pub weight: u32,
}

impl Tier {
    /// No limits: what a new tier starts from.
    const OPEN: Self = Self {
        streams: None,
        queue_share: 1.0,
        requests_per_minute: None,
        tokens_per_minute: None,
        tokens_per_day: None,
        models: None,
        class: Class::Interactive,
        weight: 1,
    };

    /// For a key whose tier is not there: nothing at all.
    pub(crate) fn nothing() -> Self {
        Self { streams: Some(0), models: Some(Vec::new()), class: Class::Batch, ..Self::OPEN }
    }

    /// The tiers that are always there.
    fn built_in() -> BTreeMap<String, Self> {
        let free = Self {
            streams: Some(2),
            queue_share: 0.05,
            requests_per_minute: Some(60),
            tokens_per_minute: Some(20_000),
            tokens_per_day: Some(500_000),
            class: Class::Chat,
            ..Self::OPEN
        };
        let pro = Self {
            streams: Some(8),
            queue_share: 0.25,
            requests_per_minute: Some(600),
            tokens_per_minute: Some(500_000),
            weight: 4,
            ..Self::OPEN
        };
        let partner = Self {
            streams: Some(32),
            queue_share: 0.5,
            requests_per_minute: Some(3000),
            tokens_per_minute: Some(2_000_000),
            weight: 8,
            ..Self::OPEN
        };
        [("free", free), ("pro", pro), ("partner", partner)].map(|(n, t)| (n.to_owned(), t)).into()
    }
}

/// What a model's tokens cost, in millionths of a millionth of the operator's currency for each token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Input tokens that were computed.
    pub input_pico: u64,
    /// Input tokens from the cache.
    pub cached_input_pico: u64,
    /// Output tokens.
    pub output_pico: u64,
}

impl Price {
    /// What these tokens cost.
    pub fn cost_pico(&self, t: &Tokens) -> u64 {
        let computed = t.input.saturating_sub(t.cached_input).saturating_mul(self.input_pico);
        let cached = t.cached_input.min(t.input).saturating_mul(self.cached_input_pico);
        computed.saturating_add(cached).saturating_add(t.output.saturating_mul(self.output_pico))
    }
}

/// Tiers by name, prices by model.
#[derive(Clone, Debug)]
pub struct Settings {
    tiers: BTreeMap<String, Arc<Tier>>,
    prices: BTreeMap<String, Price>,
}

impl Default for Settings {
    fn default() -> Self {
        let tiers = Tier::built_in().into_iter().map(|(n, t)| (n, Arc::new(t))).collect();
        Self { tiers, prices: BTreeMap::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tiers: BTreeMap<Name, TierFields>,
    #[serde(default)]
    prices: BTreeMap<String, PriceFields>,
}

/// What a file says about a tier: the rest is as built in, or open.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierFields {
    streams: Option<Quota>,
    queue_share: Option<Share>,
    requests_per_minute: Option<Quota>,
    tokens_per_minute: Option<Quota>,
    tokens_per_day: Option<Quota>,
    models: Option<Vec<String>>,
    class: Option<Class>,
    weight: Option<Weight>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFields {
    input_per_mtok: Money,
    /// As `input_per_mtok`, where it is not said.
    cached_input_per_mtok: Option<Money>,
    output_per_mtok: Money,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Name(String);
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Quota(u64);
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Share(f64);
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Weight(u32);
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Money(u64);

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_good = !name.is_empty() && name.len() <= limits::KEY_NAME_BYTES_MAX && name.chars().all(is_plain);
        if is_good { Ok(Self(name)) } else { Err("a tier's name has letters, digits, - and _ only".to_owned()) }
    }
}

impl TryFrom<i64> for Quota {
    type Error = String;
    fn try_from(n: i64) -> Result<Self, String> {
        let most = limits::QUOTA_MAX;
        let n = u64::try_from(n).ok().filter(|n| (1..=most).contains(n));
        n.map(Self).ok_or_else(|| {
            format!("it must be within 1..={most}; for no limit, leave the field out in a tier with a name of your own")
        })
    }
}

impl TryFrom<f64> for Share {
    type Error = &'static str;
    fn try_from(share: f64) -> Result<Self, Self::Error> {
        if share > 0.0 && share <= 1.0 { Ok(Self(share)) } else { Err("it must be above 0, and at most 1") }
    }
}

impl TryFrom<i64> for Weight {
    type Error = String;
    fn try_from(n: i64) -> Result<Self, String> {
        let most = limits::TIER_WEIGHT_MAX;
        let n = u32::try_from(n).ok().filter(|n| (1..=most).contains(n));
        n.map(Self).ok_or_else(|| format!("it must be within 1..={most}"))
    }
}

impl TryFrom<f64> for Money {
    type Error = String;
    fn try_from(per_mtok: f64) -> Result<Self, String> {
        let most = limits::PRICE_PER_MTOK_MAX;
        if !(0.0..=f64::from(most)).contains(&per_mtok) {
            return Err(format!("a price is from 0 to {most} for a million tokens"));
        }
        Ok(Self((per_mtok * 1e6).round() as u64)) // per token, in millionths of millionths; below 2^54, so exact
    }
}

impl TierFields {
    fn over(self, base: Tier) -> Tier {
        let quota = |said: Option<Quota>, base: Option<u64>| said.map(|q| q.0).or(base);
        Tier {
            streams: quota(self.streams, base.streams),
            queue_share: self.queue_share.map_or(base.queue_share, |s| s.0),
            requests_per_minute: quota(self.requests_per_minute, base.requests_per_minute),
            tokens_per_minute: quota(self.tokens_per_minute, base.tokens_per_minute),
            tokens_per_day: quota(self.tokens_per_day, base.tokens_per_day),
            models: self.models.or(base.models),
            class: self.class.unwrap_or(base.class),
            weight: self.weight.map_or(base.weight, |w| w.0),
        }
    }
}

impl PriceFields {
    fn price(self) -> Price {
        Price {
            input_pico: self.input_per_mtok.0,
            cached_input_pico: self.cached_input_per_mtok.unwrap_or(self.input_per_mtok).0,
            output_pico: self.output_per_mtok.0,
        }
    }
}

impl Settings {
    /// From a file's text.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        let mut tiers = Tier::built_in();
        for (name, fields) in file.tiers {
            let base = tiers.get(&name.0).cloned().unwrap_or(Tier::OPEN);
            tiers.insert(name.0, fields.over(base));
        }
        let tiers = tiers.into_iter().map(|(n, t)| (n, Arc::new(t))).collect();
        let prices = file.prices.into_iter().map(|(model, p)| (model, p.price())).collect();
        Ok(Self { tiers, prices })
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, is too long, or is wrong.
    pub fn load(path: &Path) -> Result<Option<Self>, KeysError> {
        let io = |source| KeysError::Io { doing: "read", path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let wrong = |why| KeysError::Settings { path: path.to_owned(), why };
        let most = limits::SETTINGS_BYTES_MAX;
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > most {
            return Err(wrong(format!("it has more than {most} bytes; shorten it")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|e| wrong(format!("bad UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
        Self::parse(&text).map(Some).map_err(wrong)
    }

    /// A tier by its name.
    pub fn tier(&self, name: &str) -> Option<&Arc<Tier>> {
        self.tiers.get(name)
    }

    /// Names of all tiers.
    pub fn tier_names(&self) -> impl Iterator<Item = &str> {
        self.tiers.keys().map(String::as_str)
    }

    /// What a model costs; nothing, where the file does not say.
    pub fn price(&self, model: &str) -> Price {
        self.prices.get(model).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_changes_what_it_says_and_nothing_else() {
        let s = Settings::parse(
            "[tiers.free]\nstreams = 1\nqueue_share = 0.1\nmodels = [\"a\"]\nclass = \"batch\"\n\
             [tiers.own]\ntokens_per_day = 5\nweight = 3\n\
             [prices.\"a-1.5b\"]\ninput_per_mtok = 0.15\noutput_per_mtok = 2\n",
        )
        .unwrap();
        let free = s.tier("free").unwrap();
        assert_eq!((free.streams, free.requests_per_minute), (Some(1), Some(60)));
        assert_eq!((free.class, free.models.as_deref()), (Class::Batch, Some(&["a".to_owned()][..])));
        let own = Tier { tokens_per_day: Some(5), weight: 3, ..Tier::OPEN };
        assert_eq!(**s.tier("own").unwrap(), own);
        assert_eq!(s.tier("pro"), Settings::default().tier("pro"));
        let price = s.price("a-1.5b");
        assert_eq!(price, Price { input_pico: 150_000, cached_input_pico: 150_000, output_pico: 2_000_000 });
        assert_eq!(s.price("b"), Price::default());
        let t = Tokens { input: 10, cached_input: 4, output: 3, accepted_prediction: 1 };
        let cost = Price { cached_input_pico: 1, ..price }.cost_pico(&t);
        assert_eq!(cost, 6 * 150_000 + 4 + 3 * 2_000_000);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, part) in [
            ("[tiers.free]\nstreams = 1\nstream = 2\n", 3, "stream"),
            ("\n[tier.free]\n", 2, "tier"),
            ("[tiers.x]\nstreams = 0\n", 2, "1..="),
            ("[tiers.x]\nstreams = -1\n", 2, "1..="),
            ("[tiers.x]\nqueue_share = 1.5\n", 2, "at most 1"),
            ("[tiers.x]\nqueue_share = nan\n", 2, "at most 1"),
            ("[tiers.x]\nclass = \"fast\"\n", 2, "interactive"),
            ("[tiers.x]\nweight = 99\n", 2, "within"),
            ("[tiers.x]\ntokens_per_day = \"many\"\n", 2, "string"),
            ("[tiers.\"a b\"]\n", 1, "letters"),
            ("[prices.m]\ninput_per_mtok = -1\noutput_per_mtok = 1\n", 2, "price"),
            ("[prices.m]\ninput_per_mtok = 1\n", 1, "output_per_mtok"),
            ("[prices.m\n", 1, ""),
        ] {
            let why = Settings::parse(text).unwrap_err();
            assert!(why.contains(&format!("line {line},")) && why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vonk.toml");
        assert!(Settings::load(&path).unwrap().is_none());
        std::fs::write(&path, "#".repeat(limits::SETTINGS_BYTES_MAX as usize + 1)).unwrap();
        assert!(Settings::load(&path).unwrap_err().to_string().contains("bytes"));
        std::fs::write(&path, b"# \xff").unwrap();
        assert!(Settings::load(&path).unwrap_err().to_string().contains("UTF-8 at byte 2"));
    }
}
