//! What never goes into a prompt: files that hold keys, and within other files the values that look like keys. By names
//! and shapes, so it errs in both directions; a server of one's own is the first defence, this is the second.

use std::borrow::Cow;

/// What stands in a prompt instead.
const MASK: &str = "REDACTED";
/// Beginnings of keys as their makers issue them, and how many characters have to follow.
const ISSUED: &[(&str, usize)] = &[
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("ghu_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("sk-", 20),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("hf_", 24),
    ("AIza", 30),
    ("npm_", 30),
    ("pypi-", 30),
    ("eyJ", 40),
];
/// Names of things whose quoted value is a secret.
const NAMED: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "private_key",
    "credential",
];
/// Shorter values are examples, names or empty.
const VALUE_CHARS_MIN: usize = 8;

/// Whether a file is there to hold secrets.
pub fn is_secret_file(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_ascii_lowercase();
    let whole = [
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        ".netrc",
        "_netrc",
        ".npmrc",
        ".pypirc",
        ".git-credentials",
        ".htpasswd",
        ".pgpass",
    ];
    let ends = [".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".asc", ".gpg"];
    let begins = ["credentials", "secrets.", "secret."];
    let is_env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    let is_example = name.ends_with(".example") || name.ends_with(".sample") || name.ends_with(".template");
    (is_env && !is_example)
        || whole.contains(&name.as_str())
        || ends.iter().any(|e| name.ends_with(e))
        || begins.iter().any(|b| name.starts_with(b)) && !name.ends_with(".rs") && !name.ends_with(".py")
}

/// The text without its secrets. Line by line, so that the same line becomes the same prompt whatever stands around it.
pub fn redact(text: &str) -> Cow<'_, str> {
    if !text.lines().any(is_suspicious) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut within_key) = (String::with_capacity(text.len()), false);
    for line in text.split_inclusive('\n') {
        let (begins, ends) = (is_pem(line, "BEGIN"), is_pem(line, "END"));
        match within_key || begins {
            true => out.push_str(if line.ends_with('\n') { "REDACTED\n" } else { MASK }),
            false => out.push_str(&redact_line(line)),
        }
        within_key = (within_key || begins) && !ends;
    }
    Cow::Owned(out)
}

/// Whether a line holds a secret.
pub fn is_suspicious(line: &str) -> bool {
    is_pem(line, "BEGIN") || redact_line(line) != line
}

fn is_pem(line: &str, word: &str) -> bool {
    line.contains("PRIVATE KEY-----") && line.contains(word)
}

fn redact_line(line: &str) -> Cow<'_, str> {
    let mut spans: Vec<(usize, usize)> = ISSUED.iter().flat_map(|(head, n)| issued(line, head, *n)).collect();
    spans.extend(named(line));
    if spans.is_empty() {
        return Cow::Borrowed(line);
    }
    spans.sort_unstable();
    let (mut out, mut at) = (String::new(), 0);
    for (from, to) in spans {
        if from >= at {
            out.push_str(&line[at..from]);
            out.push_str(MASK);
            at = to;
        }
    }
    out.push_str(&line[at..]);
    Cow::Owned(out)
}

fn issued<'a>(line: &'a str, head: &'a str, n: usize) -> impl Iterator<Item = (usize, usize)> + 'a {
    line.match_indices(head).filter_map(move |(at, _)| {
        let is_inside = line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let body = &line[at + head.len()..];
        let len =
            body.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(body.len());
        let has_digit = body[..len].bytes().any(|b| b.is_ascii_digit());
        (!is_inside && len >= n && has_digit).then_some((at, at + head.len() + len))
    })
}

/// The quoted values of `password = "..."` and the like. Those with spaces or brackets are words or code.
fn named(line: &str) -> Vec<(usize, usize)> {
    let lower = line.to_ascii_lowercase();
    let mut spans = Vec::new();
    for (at, name) in NAMED.iter().flat_map(|name| lower.match_indices(name)) {
        let from = at + name.len();
        let Some(quote) = lower[from..].find(['"', '\'']).map(|q| from + q) else { continue };
        let between = lower[from..quote]
            .trim_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '"' | '\''));
        // After `"password": "x"` the first quote is the name's own.
        let (quote, between) = match (between, lower[quote + 1..].trim_start().strip_prefix(':')) {
            ("", Some(more)) => {
                let Some(q) = more.find(['"', '\'']) else { continue };
                (lower.len() - more.len() + q, ":")
            }
            _ => (quote, between),
        };
        if !matches!(between, ":" | "=" | ":=" | "=>") {
            continue;
        }
        let value = &line[quote + 1..];
        let Some(len) = value.find(['"', '\'']) else { continue };
        let is_plain =
            value[..len].chars().all(|c| c.is_ascii_graphic() && !matches!(c, '(' | ')' | '{' | '}' | '$' | '<' | '>'));
        if value[..len].chars().count() >= VALUE_CHARS_MIN && is_plain {
            spans.push((quote + 1, quote + 1 + len));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_secrets() {
        for path in [
            "/a/.env",
            ".env.local",
            "prod.env",
            "x/id_rsa",
            "C:\\k\\server.PEM",
            "credentials.json",
            "a/.npmrc",
            "secrets.yaml",
        ] {
            assert!(is_secret_file(path), "{path}");
        }
        for path in ["src/env.rs", "src/main.rs", ".env.example", "keys.py", "secret.rs", "monkey.ts", "environment"] {
            assert!(!is_secret_file(path), "{path}");
        }
    }

    #[test]
    fn values_are_masked_and_code_is_not() {
        let aws = format!("let k = \"AKIA{}\";", "ABCDEFGH12345678");
        assert_eq!(redact(&aws), "let k = \"REDACTED\";");
        let git = format!("token: ghp_{}", "a1".repeat(18));
        assert_eq!(redact(&git), "token: REDACTED");
        assert_eq!(redact("password = \"hunter2hunter2\"\n"), "password = \"REDACTED\"\n");
        assert_eq!(redact("{\"api_key\": \"0123456789abcdef\"}"), "{\"api_key\": \"REDACTED\"}");
        assert_eq!(redact("DB_PASSWORD: 'correct-horse'"), "DB_PASSWORD: 'REDACTED'");
        for code in [
            "let token = lexer.next_token(\"identifier\");",
            "password = \"\"",
            "secret: &str = \"two words\"",
            "fn sk_sort(x: u8) {}",
            "let task-manager = 1",
            "token = getenv(\"API_TOKEN\")",
            "// the token's kind: see \"lexer\"",
        ] {
            assert_eq!(redact(code), code);
            assert!(!is_suspicious(code));
        }
    }

    #[test]
    fn private_keys_go_whole() {
        let dashes = "-----";
        let key =
            format!("a\n{dashes}BEGIN RSA PRIVATE KEY{dashes}\nMIIE\nabcd\n{dashes}END RSA PRIVATE KEY{dashes}\nb\n");
        assert_eq!(redact(&key), "a\nREDACTED\nREDACTED\nREDACTED\nREDACTED\nb\n");
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_redacted(text in "(?s).{0,200}") {
            let _ = redact(&text);
        }

        #[test]
        fn a_line_is_redacted_alike_wherever_it_stands(lines in proptest::collection::vec("(token|password)?[ =:\"'a-z0-9]{0,24}", 0..6)) {
            let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
            let alone: String = lines.iter().map(|l| redact(&format!("{l}\n")).into_owned()).collect();
            proptest::prop_assert_eq!(redact(&text), alone);
        }
    }
}
