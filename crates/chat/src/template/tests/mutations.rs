//! The mistakes that are made with conversations, made on purpose: the goldens must see every one.

use serde_json::Value;

use super::{control_tokens, fixture, golden_cases, options_of, without_nulls};
use crate::Template;

/// How many of a template's goldens come out otherwise when its source is changed so.
fn off(name: &str, from: &str, to: &str) -> usize {
    let source = fixture(&format!("templates/{name}.jinja"));
    assert!(source.contains(from), "{name} has no {from:?}");
    let template = Template::new(&source.replace(from, to), &control_tokens(), &[]).unwrap();
    let differs = |case: &Value| {
        let tools = (!case["tools"].is_null()).then(|| case["tools"].clone());
        let found = template.render_values(without_nulls(&case["messages"]), tools, &options_of(case));
        found.ok().map(|prompt| prompt.text) != case["rendered"].as_str().map(str::to_owned)
    };
    golden_cases().iter().filter(|case| case["template"] == *name).filter(|case| differs(case)).count()
}

fn seen(what: &str, name: &str, from: &str, to: &str) {
    assert_eq!(off(name, from, from), 0, "{name} as it is");
    assert!(off(name, from, to) > 0, "{name}: {what} is not seen");
}

#[test]
fn reasoning_in_the_history() {
    for name in ["qwen3", "qwen3_5_think"] {
        let after = "loop.index0 > ns.last_query_index";
        seen("reasoning kept in every turn", name, after, "true");
        seen("reasoning dropped inside a tool loop", name, after, "loop.last");
        seen(
            "a tool's answer taken for a question",
            name,
            "content.startswith('<tool_response>')",
            "content.startswith('<nothing>')",
        );
        seen("thinking off without an empty thought", name, r"{{- '<think>\n\n</think>\n\n' }}", "");
    }
}

#[test]
fn how_an_answer_begins() {
    seen("an answer that does not begin inside the reasoning", "qwen3_5_think", r"{{- '<think>\n' }}", "");
    seen(
        "an answer that begins inside the reasoning",
        "qwen3",
        r"{{- '<|im_start|>assistant\n' }}",
        r"{{- '<|im_start|>assistant\n<think>\n' }}",
    );
}

#[test]
fn how_values_are_written() {
    for name in ["qwen3", "qwen3_5_think"] {
        let plain = "tool | tojson";
        seen("JSON without spaces", name, plain, "tool | tojson | replace(', ', ',') | replace(': ', ':')");
        seen("JSON with what HTML escapes", name, plain, r#"tool | tojson | replace('<', '\\u003c')"#);
        seen("keys sorted", name, plain, "tool | dictsort | tojson");
    }
    seen("Python's True for JSON's true", "qwen3_6", "args_value | tojson | safe", "args_value | string");
    seen("tools of XML as JSON", "qwen3_coder", "tojson | safe", "string");
}

#[test]
fn turns() {
    seen(
        "a system prompt that nobody gave",
        "qwen3",
        "{%- set ns",
        "{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- set ns",
    );
    seen(
        "results of tools in turns of their own",
        "qwen3",
        "loop.first or (messages[loop.index0 - 1].role != \"tool\")",
        "true",
    );
}
