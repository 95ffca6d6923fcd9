//! Templates that attack the interpreter: each ends in an error or in little output, soon, on an ordinary thread's stack.
#![allow(clippy::unwrap_used, clippy::panic)]
use base::limits::{
    TEMPLATE_BYTES_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_EVAL_DEPTH_MAX, TEMPLATE_FUEL, TEMPLATE_OUTPUT_BYTES_EXTRA,
};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use text::{ChatTemplate, TextError};

fn run(source: &str) -> Result<String, TextError> {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let start = Instant::now();
    let result = ChatTemplate::new(source, "", "").and_then(|t| t.render(&messages, None, true, &Map::new()));
    let short: String = source.chars().take(80).collect();
    // A second is the promise for a release build; slower builds and machines get more.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?} for {short}", start.elapsed());
    if let Ok(text) = &result {
        assert!(text.len() <= TEMPLATE_OUTPUT_BYTES_EXTRA + 4096, "{} bytes from {short}", text.len());
    }
    println!("{:>9.1?} {short:80} {:.90}", start.elapsed(), format!("{result:?}"));
    result
}

fn limit(source: &str) -> &'static str {
    match run(source) {
        Err(TextError::TemplateLimit { limit, max }) => {
            let known = [
                ("TEMPLATE_FUEL", TEMPLATE_FUEL),
                ("TEMPLATE_DEPTH_MAX", TEMPLATE_DEPTH_MAX as u64),
                ("TEMPLATE_EVAL_DEPTH_MAX", TEMPLATE_EVAL_DEPTH_MAX as u64),
            ];
            assert!(known.contains(&(limit, max)) || limit == "TEMPLATE_OUTPUT_BYTES", "{limit} = {max}");
            limit
        }
        other => panic!("no limit but {other:?}"),
    }
}

const NEST: &str =
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}";
const SHARE: &str = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}\
                     {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";

#[test]
fn values_cannot_nest_without_end() {
    assert_eq!(limit(NEST), "TEMPLATE_DEPTH_MAX");
    for deeper in
        ["{'a': ns.x}", "(ns.x,)", "ns.x|batch(1)|list", "[ns.x]|map('list')|list", "dict(a=ns.x).items()|list"]
    {
        assert_eq!(limit(&NEST.replace("[ns.x]", deeper)), "TEMPLATE_DEPTH_MAX", "{deeper}");
    }
    let _ = run(&NEST.replace("[ns.x]", "ns.x[0:]"));
    let _ = run(&NEST.replace("[ns.x]", "ns.x|reverse"));
    let _ = run("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a.a.a }}{{ ns == ns.a }}");
    let in_loop = "{% set ns = namespace(x=1) %}{% for i in range(9000) %}{% for a in [ns.x] %}{% set ns.x = loop %}{% endfor %}{% endfor %}";
    assert_eq!(limit(in_loop), "TEMPLATE_DEPTH_MAX");
    let _ = run(
        "{% set ns = namespace(f=1) %}{% for i in range(9000) %}{% macro f() %}{{ g }}{% endmacro %}{% set ns.f = f %}{% endfor %}",
    );
}

#[test]
fn small_values_that_are_large_when_walked_cost_their_size() {
    for use_it in [
        "{{ ns.x }}",
        "{{ ns.x == ns.y }}",
        "{{ ns.x|tojson }}",
        "{{ (ns.x ~ 'a')|length }}",
        "{{ ns.x|string|length }}",
        "{{ [ns.x]|join|length }}",
        "{{ ns.x < ns.y }}",
        "{{ ns.x in [ns.y] }}",
        "{{ [ns.x, ns.y]|unique|list|length }}",
        "{{ [ns.x, ns.y]|sort|length }}",
        "{{ '%s' % (ns.x,) }}",
        "{{ '%r' % (ns.x,) }}",
        "{{ '{}'.format(ns.x) }}",
        "{{ [ns.x].index(ns.y) }}",
    ] {
        assert_eq!(limit(&format!("{SHARE}{use_it}")), "TEMPLATE_FUEL", "{use_it}");
    }
    assert!(run(&format!("{SHARE}{{{{ {{(ns.x, 1): 1}} }}}}")).is_err());
    assert_eq!(run(&format!("{SHARE}{{{{ ns.x|length }}}}")).unwrap(), "2");
}

#[test]
fn memory_is_paid_for_before_it_is_taken() {
    for source in [
        "{{ 'a' * 1000000000 }}",
        "{{ 'a' * 1000000000000000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{{ s|replace('a', s)|length }}",
        "{% set s = 'a' * 1000000 %}{{ s.replace('', s)|length }}",
        "{% set s = 'a' * 1000000 %}{{ range(9999)|list|join(s)|length }}",
        "{% set s = 'a\n' * 1000000 %}{{ s|indent(60000)|length }}",
        "{{ 'a\nb'|indent(1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ '1'.zfill(1000000000) }}",
        "{{ [1]|batch(1000000000, 0)|list|length }}",
        "{{ [1]|slice(1000000000)|list|length }}",
        "{{ range(1000000000)|length }}",
        "{{ range(-9223372036854775808, 9223372036854775807) }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% set s = 'ab ' * 1000000 %}{% for i in range(99999) %}{% set t = s.upper() %}{% endfor %}",
        "{% set s = 'ab ' * 100000 %}{% for i in range(99999) %}{% set t = s.split() %}{% endfor %}",
        "{% set s = 'ab ' * 100000 %}{% for i in range(99999) %}{{ 'x' in s }}{% endfor %}",
        "{% set x = range(9999)|list %}{% for i in range(9999) %}{{ 'x' in x }}{% endfor %}",
        "{% set x = range(999)|map('string')|list %}{% for i in x %}{% set y = x|unique|sort|list %}{% endfor %}",
    ] {
        assert_eq!(limit(source), "TEMPLATE_FUEL");
    }
    assert_eq!(limit("{% for i in range(9999) %}{{ 'abcdefgh' * 99 }}{% endfor %}"), "TEMPLATE_OUTPUT_BYTES");
}

#[test]
fn calls_cannot_recurse_without_end() {
    assert_eq!(limit("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "TEMPLATE_EVAL_DEPTH_MAX");
    assert_eq!(
        limit("{% macro f(n) %}{% if 1 %}{{ [f(n + 1)] }}{% endif %}{% endmacro %}{{ f(0) }}"),
        "TEMPLATE_EVAL_DEPTH_MAX"
    );
    assert_eq!(limit("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}"), "TEMPLATE_EVAL_DEPTH_MAX");
    assert_eq!(
        limit("{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{% call f() %}x{% endcall %}"),
        "TEMPLATE_EVAL_DEPTH_MAX"
    );
    assert!(run("{{ [1]|map('map', 'map', 'map')|list }}").is_err());
    assert!(run("{% macro f(a=f()) %}{% endmacro %}{{ f() }}").is_err());
}

#[test]
fn syntax_cannot_nest_without_end() {
    let in_tag = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(9000), close.repeat(9000));
    let nested = [
        "{% if 1 %}".repeat(6000),
        "{% for a in b %}".repeat(6000),
        "{% macro a() %}".repeat(6000),
        "{% generation %}".repeat(6000),
        in_tag("(", ")"),
        in_tag("[", "]"),
        in_tag("{1:", "}"),
        in_tag("not ", ""),
        in_tag("-", ""),
        in_tag("+", ""),
        in_tag("a(", ")"),
        in_tag("a[", "]"),
        in_tag("a|b(", ")"),
        in_tag("a is b(", ")"),
        in_tag("a is b [", "]"),
        in_tag("a if b else (", ")"),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(9000), ")".repeat(9000)),
    ];
    for source in &nested {
        match run(source) {
            Err(TextError::TemplateSyntax { line: 1, reason }) => {
                assert!(reason.contains("TEMPLATE_DEPTH_MAX"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn long_chains_are_not_deep() {
    let chains = [
        format!("{{{{ messages{} }}}}", ".b".repeat(300_000)),
        format!("{{{{ messages{} }}}}", "[0]".repeat(100_000)),
        format!("{{{{ messages{} }}}}", "[:]".repeat(100_000)),
        format!("{{{{ messages{} }}}}", "()".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(300_000)),
        format!("{{{{ 1{} }}}}", "**1".repeat(300_000)),
        format!("{{{{ 1{} }}}}", "~1".repeat(300_000)),
        format!("{{{{ 1{} }}}}", "|string".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " and 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "<1".repeat(300_000)),
        format!("{{{{ a{} }}}}", " is defined".repeat(90_000)),
        format!("{{{{ {} 2 }}}}", "1 if 0 else ".repeat(50_000)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}a".repeat(50_000)),
        format!("{{{{ {} }}}}", "'a' ".repeat(200_000)),
        format!("{{{{ [{}] }}}}", "1,".repeat(300_000)),
        "{% set a = 1 %}".repeat(60_000),
        "{#".repeat(300_000),
        "{%".repeat(300_000),
        "{{".repeat(300_000),
        "{% raw %}".repeat(100_000),
        "{".repeat(1_000_000),
        " \n".repeat(500_000),
    ];
    for source in &chains {
        let _ = run(source);
    }
}

#[test]
fn arithmetic_at_the_edges_is_an_error_or_a_value() {
    for expression in [
        "170141183460469231731687303715884105727 + 1",
        "-170141183460469231731687303715884105727 - 2",
        "(0 - 170141183460469231731687303715884105727 - 1) // -1",
        "(0 - 170141183460469231731687303715884105727 - 1) % -1",
        "(0 - 170141183460469231731687303715884105727 - 1)|abs",
        "1 // 0",
        "1 % 0",
        "1.5 // 0",
        "2 ** 100000",
        "2 ** -100000",
        "9e999 - 9e999",
        "(9e999)|int",
        "'%1000000000d' % 1",
        "'%.1000000000f' % 1",
        "'{:1000000000}'.format(1)",
        "'abc'[::-170141183460469231731687303715884105727]",
        "'abc'[-170141183460469231731687303715884105727:170141183460469231731687303715884105727]",
        "[1, 2, 3][170141183460469231731687303715884105727]",
        "[1, 2, 3][::170141183460469231731687303715884105727]",
        "range(9223372036854775807, -9223372036854775807, -9223372036854775807)|list",
        "1.5|round(100000000)",
        "[1, [2]]|tojson(indent=1000000000)",
        "'a'|center(-1)",
        "[]|batch(0)",
        "'' * -5",
        "'é'.split('')",
        "'x'|int(base=99)",
        "messages|sort",
        "[1, 'a']|sort",
        "[none, 1]|max",
        "cycler().next()",
        "'%'",
        "'%' % 1",
        "'%(a' % {}",
        "'{' .format()",
        "'{0!r:>5}'.format('a')",
        "strftime_now('%Y')",
        "999999999999999999999999999999999999999999999999",
    ] {
        let _ = run(&format!("{{{{ {expression} }}}}"));
    }
}

#[test]
fn messages_that_nest_too_deep_are_refused() {
    let mut deep = json!("x");
    for _ in 0..80 {
        deep = json!([deep]);
    }
    let template = ChatTemplate::new("{{ messages }}", "", "").unwrap();
    let error = template.render(&deep, None, true, &Map::new()).unwrap_err();
    assert!(matches!(error, TextError::Limit { limit: "JSON_DEPTH_MAX", .. }), "{error}");
}

#[test]
fn a_source_above_the_limit_is_refused() {
    let error = ChatTemplate::new(&"a".repeat(TEMPLATE_BYTES_MAX + 1), "", "").unwrap_err();
    assert!(matches!(error, TextError::Limit { limit: "TEMPLATE_BYTES_MAX", .. }), "{error}");
}

#[test]
fn errors_name_their_line() {
    let line = |source: &str| match run(source) {
        Err(TextError::TemplateSyntax { line, .. } | TextError::TemplateRender { line, .. }) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(line("a\nb\n{% if %}"), 3);
    assert_eq!(line("a\n{% if x %}\nb"), 3);
    assert_eq!(line("a\n\n{{ 'abc }}"), 3);
    assert_eq!(line("a\n{{ x.y }}"), 2);
    assert_eq!(line("{% if true %}\n\n  {{ 1 + 'a' }}{% endif %}"), 3);
    assert_eq!(line("{% frobnicate %}"), 1);
    assert_eq!(line("{{ 1|frobnicate }}"), 1);
}

#[test]
fn a_template_can_refuse() {
    let error = run("{{ raise_exception('roles must ' ~ 'alternate') }}").unwrap_err();
    assert_eq!(error, TextError::TemplateRaised { message: "roles must alternate".to_string() });
}

#[test]
fn large_conversations_render() {
    let content = "fn main() { println!(\"hello\"); }\n".repeat(32 * 1024); // 1 MiB
    let messages: Vec<Value> = (0..4).map(|_| json!({"role": "user", "content": content})).collect();
    let source = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) + '<|im_end|>\n' }}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let out = template.render(&Value::Array(messages), None, true, &Map::new()).unwrap();
    assert!(out.len() > 4 * 1024 * 1024);
}
