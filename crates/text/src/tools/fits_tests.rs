//! What fits a schema, what does not, and what nobody can say.

use serde_json::{Value, json};

use super::fits::fits;

fn check(schema: &Value, good: &[Value], bad: &[Value]) {
    good.iter().for_each(|v| assert!(fits(schema, v), "{schema} {v}"));
    bad.iter().for_each(|v| assert!(!fits(schema, v), "{schema} {v}"));
}

#[test]
fn keywords() {
    let object = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9},
        "b": {"type": ["string", "null"], "enum": ["x", null]}}, "required": ["a"], "additionalProperties": false,
        "description": "d"});
    let good = [json!({"a": 1}), json!({"b": null, "a": 9}), json!({"a": 2, "b": "x"})];
    let bad = [
        json!({}),
        json!({"a": 0}),
        json!({"a": 10}),
        json!({"a": 1.5}),
        json!({"a": "1"}),
        json!({"a": 1, "c": 1}),
        json!({"a": 1, "b": "y"}),
        json!([]),
        json!(null),
    ];
    check(&object, &good, &bad);
    let typed = json!({"properties": {"a": true}, "additionalProperties": {"type": "string"}});
    check(&typed, &[json!({"a": 1, "z": "s"}), json!(5)], &[json!({"z": 1})]);
    let items = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2});
    check(&items, &[json!([true]), json!([true, false])], &[json!([]), json!([1]), json!([true, true, true])]);
    let text = json!({"type": "string", "minLength": 1, "maxLength": 2});
    check(&text, &[json!("é"), json!("éé")], &[json!(""), json!("ééé"), json!(1)]);
    let number = json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1});
    check(&number, &[json!(0.5)], &[json!(0), json!(1), json!("0.5")]);
    check(&json!({"anyOf": [{"const": 1}, {"type": "string"}]}), &[json!(1), json!("")], &[json!(2)]);
    check(&json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), &[json!(1)], &[json!(0), json!(3)]);
    check(&json!(true), &[json!(1)], &[]);
    check(&json!(false), &[], &[json!(1)]);
    let big = json!({"maximum": 9_007_199_254_740_993_u64});
    check(&big, &[], &[json!(9_007_199_254_740_993_u64)]);
}

#[test]
fn references_and_loops() {
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties":
        {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"]}}});
    check(&tree, &[json!({"next": {"next": null}})], &[json!({"next": {}}), json!({"next": 1})]);
    check(&json!({"$ref": "#"}), &[], &[json!(1)]); // for ever
    check(&json!({"$ref": "#/nowhere"}), &[], &[json!(1)]);
    let wide = json!({"anyOf": vec![json!({"$ref": "#"}); 8]});
    check(&wide, &[], &[json!(1)]);
}

#[test]
fn what_is_not_known_does_not_fit() {
    for schema in [
        json!({"pattern": "a"}),
        json!({"not": {}}),
        json!({"patternProperties": {}}),
        json!({"oneOf": [true]}),
        json!({"multipleOf": 1}),
        json!({"format": "date"}),
        json!({"type": "thing"}),
        json!({"if": true}),
        json!(5),
        json!({"required": 5}),
        json!({"minItems": -1}),
        json!({"properties": 1}),
        json!({"enum": 1}),
    ] {
        assert!(!fits(&schema, &json!({"a": 1})), "{schema}");
    }
}
