//! Grammars that want to hang or kill a server: each is refused with a reason, or compiles; none panics, overflows a stack or
//! costs unbounded time. The limits are what is tested, not the speed of the machine: times are printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Instant;

use base::rng;
use base::vocab::{FimTokens, TokenKind, VocabModel, VocabSpec};
use text::{Grammar, GrammarEngine, GrammarSpec, TextError, Tokenizer};

/// Bytes alone, and one token that ends an answer.
fn engine() -> GrammarEngine {
    let bytes: Vec<String> = (0..=255u8).map(|b| format!("<0x{b:02X}>")).collect();
    let spec = VocabSpec {
        model: VocabModel::Spm,
        pre: String::new(),
        tokens: bytes.iter().map(String::as_str).chain(["</s>", "<unk>"]).collect(),
        kinds: [vec![TokenKind::Byte; 256], vec![TokenKind::Control, TokenKind::Unknown]].concat(),
        scores: vec![0.0; 258],
        merges: [].into_iter().collect(),
        bos: None,
        eos: Some(256),
        eot: None,
        unk: Some(257),
        pad: None,
        fim: FimTokens::default(),
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
        chat_template: None,
    };
    GrammarEngine::new(Arc::new(Tokenizer::new(&spec).unwrap())).unwrap()
}

/// What became of it: the error, if it was refused; else one mask was asked for.
fn fate(engine: &GrammarEngine, name: &str, spec: GrammarSpec<'_>) -> Option<TextError> {
    let start = Instant::now();
    let compiled = engine.compile(&spec);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    match compiled {
        Err(e) => {
            println!("{name}: {ms:.1} ms: {e}");
            Some(e)
        }
        Ok(grammar) => {
            println!("{name}: {ms:.1} ms: compiles; {}", walk(&grammar));
            None
        }
    }
}

/// Three hundred bytes by chance: the worst mask.
fn walk(grammar: &Grammar) -> String {
    let (mut matcher, mut worst, mut n) = (grammar.matcher(), 0.0f64, 0);
    while n < 300 {
        let mut mask = [0u32; 9];
        let start = Instant::now();
        let any = matcher.allow(&mut mask);
        worst = worst.max(start.elapsed().as_secs_f64() * 1e3);
        let allowed: Vec<u32> = (0..256).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
        if !any || allowed.is_empty() {
            break;
        }
        matcher.accept(allowed[(rng::bits(1, n, 1) % allowed.len() as u64) as usize]);
        matcher.force(&mut Vec::new());
        n += 1;
    }
    format!("worst mask of {n}: {worst:.1} ms{}", if matcher.is_failed() { "; a limit ended it" } else { "" })
}

fn chain(n: usize, keyword: &str) -> String {
    let defs: Vec<String> = (0..n)
        .map(|i| match keyword {
            "$ref" => format!("\"d{i}\":{{\"$ref\":\"#/$defs/d{}\"}}", (i + 1) % n),
            "properties" => format!(
                "\"d{i}\":{{\"type\":\"object\",\"properties\":{{\"x\":{{\"$ref\":\"#/$defs/d{}\"}}}}}}",
                (i + 1) % n
            ),
            _ => format!("\"d{i}\":{{\"{keyword}\":[{{\"$ref\":\"#/$defs/d{}\"}}]}}", (i + 1) % n),
        })
        .collect();
    format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{}}}}}", defs.join(","))
}

fn rules(n: usize) -> String {
    let mut text = String::from("start: r0\n");
    for i in 0..n {
        text += &format!("r{i}: \"x\" r{} | \"y\"\n", (i + 1) % n);
    }
    text
}

#[test]
fn hostile_grammars_are_refused_or_compile() {
    let engine = engine();
    let refused = |name: &str, spec: GrammarSpec<'_>| {
        let error = fate(&engine, name, spec).unwrap_or_else(|| panic!("{name} was not refused")).to_string();
        assert!(error.len() < 500 && !error.contains("backtrace") && !error.contains("panic"), "{name}: {error}");
    };
    use GrammarSpec::{JsonSchema, Lark, Native, Regex};
    let nested = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    refused("60k groups, lark", Lark(&format!("start: {}", nested("(", ")", 60_000).replace('a', "\"a\""))));
    refused("60k groups, regex", Regex(&nested("(", ")", 60_000)));
    refused("60k open groups, regex", Regex(&"(".repeat(60_000)));
    refused(
        "60k groups in a pattern",
        JsonSchema(&format!("{{\"type\":\"string\",\"pattern\":\"{}\"}}", nested("(", ")", 60_000))),
    );
    refused("60k optional groups, lark", Lark(&format!("start: {}", nested("[", "]", 60_000).replace('a', "\"a\""))));
    refused("nested lark", Lark(&format!("start: {}", nested("%lark { start: ", "}", 1000))));
    refused("10k rules in a ring", Lark(&rules(10_000)));
    fate(&engine, "a{1,65535}{1,65535}", Regex("a{1,65535}{1,65535}"));
    fate(&engine, "(a{1,1000}){1,1000}{1,1000}", Regex("((a{1,1000}){1,1000}){1,1000}"));
    refused("1 MiB enum", JsonSchema(&format!("{{\"enum\":[\"{}\"]}}", vec!["x"; 1 << 18].join("\",\""))));
    refused("100k nested arrays", JsonSchema(&nested("[", "]", 100_000)));
    refused("nested items", JsonSchema(&nested("{\"items\":", "}", 100).replace('a', "{}")));
    refused("unterminated", JsonSchema("{\"type\":"));
    refused("no schema", JsonSchema("3"));
    refused("ref to nothing", JsonSchema("{\"$ref\":\"#/$defs/none\"}"));
    refused("remote ref", JsonSchema("{\"$ref\":\"https://example.com/x.json\"}"));
    refused("false", JsonSchema("false"));
    refused("empty range", JsonSchema("{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}"));
    refused("bad type", JsonSchema("{\"type\":\"colour\"}"));
    refused("cut in a character", JsonSchema(&format!("{{\"$ref\":{{\"x\":\"{}\"}}}}", "é".repeat(100))));
    refused("empty lark", Lark(""));
    refused("empty native", Native("  "));
    refused("native of nothing", Native("{\"grammars\":[]}"));
    refused("special token by name", Lark("start: \"a\" <|im_end|>"));
    refused("3k properties", JsonSchema(&format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", properties(3000))));
    refused("ring of $ref, 10k", JsonSchema(&chain(10_000, "$ref")));
    refused("ref to itself", JsonSchema("{\"$ref\":\"#\"}"));
    refused("exponential anyOf", JsonSchema(&exponential()));
    refused("24k levels through $ref", JsonSchema(&deep()));
    for keyword in ["$ref", "allOf", "anyOf", "oneOf"] {
        refused(&format!("ring of {keyword}, 2000"), JsonSchema(&chain(2000, keyword)));
    }
    fate(&engine, "ring of 1000 properties", JsonSchema(&chain(1000, "properties")));
    fate(&engine, "ring of 2000 rules", Lark(&rules(2000)));
    fate(&engine, "(a+)+", Regex("(a+)+"));
    fate(&engine, "allOf itself", JsonSchema("{\"allOf\":[{\"$ref\":\"#\"}],\"type\":\"object\"}"));
    fate(&engine, "special token by number", Lark("start: \"a\" <[256]>"));
    fate(&engine, "minItems", JsonSchema("{\"type\":\"array\",\"minItems\":4000000000,\"items\":{}}"));
    fate(&engine, "maxLength", JsonSchema("{\"type\":\"string\",\"minLength\":1000000,\"maxLength\":2000000}"));
    fate(&engine, "60k-way regex", Regex(&(0..30_000).map(|i| format!("{i:x}")).collect::<Vec<_>>().join("|")));
    fate(
        &engine,
        "20k enum",
        JsonSchema(&format!("{{\"enum\":{:?}}}", (0..20_000).map(|i| format!("v{i}")).collect::<Vec<_>>())),
    );
    fate(&engine, "4 times 255 properties", JsonSchema(&wide()));
    fate(&engine, "left recursion", Lark("start: start \"a\" | start start | \"b\""));
    fate(&engine, "empty cycles", Lark("start: a*\na: b?\nb: a?"));
    fate(&engine, "dotted", Regex("(.*a.*){20}(x|xx|xxx)*y"));
    fate(&engine, "blow-up of derivatives", Regex("(a|b)*a(a|b){200}"));
}

/// Twenty levels of `anyOf` with two references each, met with a sibling: 2^20 alternatives if they are multiplied out.
fn exponential() -> String {
    let defs: Vec<String> = (0..20)
        .map(|i| format!("\"d{i}\":{{\"type\":\"object\",\"anyOf\":[{{\"$ref\":\"#/$defs/d{0}\"}},{{\"$ref\":\"#/$defs/d{0}\"}}]}}", i + 1))
        .collect();
    format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d20\":{{\"type\":\"object\"}}}}}}", defs.join(","))
}

fn properties(n: usize) -> String {
    (0..n).map(|i| format!("\"p{i}\":{{\"type\":\"string\"}}")).collect::<Vec<_>>().join(",")
}

fn wide() -> String {
    let object =
        |i: usize| format!("\"o{i}\":{{\"type\":\"object\",\"properties\":{{\"x{i}\":{{}},{}}}}}", properties(253));
    format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", (0..4).map(object).collect::<Vec<_>>().join(","))
}

/// As deep as the limits let references go: four hundred definitions of sixty levels, each at the bottom of the one before.
fn deep() -> String {
    let def = |i: usize| {
        let bottom = format!("{{\"$ref\":\"#/$defs/{}\"}}", i + 1);
        format!("\"{i}\":{}{bottom}{}", "{\"items\":".repeat(58), "}".repeat(58))
    };
    let defs: Vec<String> = (0..400).map(def).collect();
    format!("{{\"$ref\":\"#/$defs/0\",\"$defs\":{{{},\"400\":{{}}}}}}", defs.join(","))
}
