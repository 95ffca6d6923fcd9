//! Any text as a chat template, rendered over a fixed conversation: it ends in time, in the memory that it is allowed,
//! twice with the same answer.

use base::limits::{TEMPLATE_OUTPUT_BYTES_EXTRA, TEMPLATE_OUTPUT_FACTOR_MAX};
use serde_json::{Map, Value, json};
use text::ChatTemplate;

/// Parses and renders, with and without tools.
pub fn run(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let template = match ChatTemplate::new(&source, "<s>", "</s>") {
        Ok(template) => template,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    let messages = json!([
        {"role": "system", "content": "You write code."},
        {"role": "user", "content": "h\u{e9}llo {{ x }} <|im_end|>"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"a": [1, 2.5, true, null]}}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "  42\n"},
        {"role": "user", "content": [{"type": "text", "text": "part"}]},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "array"}}}}}]);
    let extra: Map<String, Value> = [("enable_thinking".to_owned(), json!(false))].into_iter().collect();
    let max = 4096 * TEMPLATE_OUTPUT_FACTOR_MAX + TEMPLATE_OUTPUT_BYTES_EXTRA;
    let first = template.render(&messages, Some(&tools), true, &extra);
    match &first {
        Ok(text) => assert!(text.len() <= max, "{} bytes", text.len()),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    assert_eq!(first, template.render(&messages, Some(&tools), true, &extra));
    let _ = template.render_at(Some(1_700_000_000), &messages, None, false, &extra);
}

/// The turns of phrase that real templates are made of.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + (message.content or '')|string|trim \
         + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "{%- if tools is defined and tools %}{{- bos_token }}{%- for tool in tools %}{{ tool | tojson(indent=2) }}\
         {%- endfor %}{%- endif %}{# a comment #}{{ messages[0]['content'][1:-1] ~ eos_token }}",
        "{%- macro show(m, n=1) -%}{{ m.role.upper() }}{{ n }}{%- endmacro -%}{%- for m in messages if m.role != 'tool' \
         -%}{{ show(m, loop.index0 % 2) }}{%- if not loop.last -%},{%- endif -%}{%- else -%}none{%- endfor -%}",
        "{% set ns = namespace(n=0, found=false) %}{% for m in messages[::-1] %}{% if m.content is string and not ns.found \
         %}{% set ns.n = ns.n + loop.index %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}",
        "{{ messages | map(attribute='role') | unique | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') \
         | list | length }}{{ {'a': [1, 2]}.items() | list }}{{ range(3) | sum }}{{ 'x' * 3 }}{{ 7 // 2 ** 2 % 3 }}",
        "{% if messages[0].role == 'x' %}{{ raise_exception('no ' ~ messages[0].role) }}{% elif 1 in [1, 2] and not none \
         %}{{ strftime_now('%d %b %Y') if strftime_now is defined else 'today' }}{% endif %}{% raw %}{{ }}{% endraw %}",
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% set f = c.function %}{{ f.name }}({% for k, v in \
         f.arguments|items %}{{ k }}={{ v|tojson }}{% endfor %}){% endfor %}{% endfor %}{{ 'a b'.split(' ')|last }}\
         {{ '<think>x</think>y'.split('</think>')[-1].lstrip('\\n') }}{{ x|default('d') }}{{ 'Ab'|replace('b', 'c') }}",
    ]
    .map(|s| s.as_bytes().to_vec())
    .to_vec()
}
