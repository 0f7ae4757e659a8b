//! Hostile input into everything that reads what others wrote. Plain functions, which a fuzzer can call as well.

use base::Rng;
use chat::{
    Message, Opening, OutputOptions, OutputParser, RenderOptions, Role, Template, Tokenizer, Tool, ToolCall, ToolFormat,
};
use serde_json::{Map, Value, json};

use crate::fixtures::{TEMPLATES, template};

const ROUNDS: u64 = 2_000;

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

const SCRAPS: [&str; 26] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "f>",
    "</function>",
    "<parameter=",
    "n>",
    "</parameter>",
    "{\"name\": \"f\", \"arguments\": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u00",
    ":",
    ",",
    "\n",
    " ",
    "é",
    "\u{0}",
    "1e999999",
    "\u{fdd0}",
];

fn scraps(rng: &mut Rng) -> String {
    (0..rng.below(40)).map(|_| pick(rng, &SCRAPS)).collect()
}

/// Any JSON, nested at most `depth` deep.
fn any_json(rng: &mut Rng, depth: u32) -> Value {
    match rng.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(rng.below(2) == 0),
        2 => json!(rng.next_u64()),
        3 => json!(f64::from_bits(rng.next_u64())),
        4 | 5 => Value::String(scraps(rng)),
        6 => (0..rng.below(4)).map(|_| any_json(rng, depth - 1)).collect(),
        _ => {
            let keys = ["type", "properties", "f", "n", "anyOf", "$ref", "name", "function", "parameters", "enum"];
            let fields = (0..rng.below(4)).map(|_| (pick(rng, &keys).to_owned(), any_json(rng, depth - 1)));
            Value::Object(fields.collect::<Map<String, Value>>())
        }
    }
}

fn any_tool(rng: &mut Rng) -> Tool {
    let definition = json!({"function": {"name": "f", "parameters": any_json(rng, 4)}});
    Tool { name: "f".to_owned(), definition }
}

fn fuzz_output(rng: &mut Rng) {
    let options = OutputOptions {
        opening: [Opening::Text, Opening::MayReason, Opening::Reasoning][rng.below(3) as usize],
        tool_format: [None, Some(ToolFormat::Json), Some(ToolFormat::Xml)][rng.below(3) as usize],
        tools: vec![any_tool(rng)],
        call_id_prefix: String::new(),
        stop_strings: vec![scraps(rng)],
    };
    let mut parser = OutputParser::new(options);
    for _ in 0..rng.below(20) {
        parser.push(&scraps(rng));
    }
    parser.finish();
}

#[test]
fn tool_call_parser() {
    for seed in 0..ROUNDS {
        fuzz_output(&mut Rng::seeded(seed));
    }
}

fn fuzz_template(template: &Template, rng: &mut Rng) {
    let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let messages: Vec<Message> = (0..rng.below(6))
        .map(|_| {
            let mut message = Message::text(roles[rng.below(4) as usize], scraps(rng));
            message.reasoning = (rng.below(3) == 0).then(|| scraps(rng));
            let calls = if rng.below(3) == 0 { rng.below(3) } else { 0 };
            for _ in 0..calls {
                let arguments = if rng.below(2) == 0 { scraps(rng) } else { any_json(rng, 5).to_string() };
                message.tool_calls.push(ToolCall { id: scraps(rng), name: scraps(rng), arguments });
            }
            message
        })
        .collect();
    let tools: Vec<Tool> = (0..rng.below(3)).map(|_| any_tool(rng)).collect();
    let mut options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    for name in ["reasoning_effort", "preserve_thinking", "enable_thinking", "add_vision_id", "messages", "loop"] {
        if rng.below(3) == 0 {
            options.variables.insert(name.to_owned(), any_json(rng, 3));
        }
    }
    if let Ok(rendered) = template.render(&messages, &tools, &options) {
        assert!(!rendered.control.iter().any(|range| rendered.text.get(range.clone()).is_none()));
    }
}

#[test]
fn templates() {
    for (index, name) in TEMPLATES.into_iter().enumerate() {
        let template = template(name);
        for round in 0..ROUNDS / TEMPLATES.len() as u64 {
            fuzz_template(&template, &mut Rng::seeded(round * 16 + index as u64));
        }
    }
}

/// A nesting that is as deep as JSON text may be.
#[test]
fn deep_values() {
    let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    let template = template("qwen3_8");
    for depth in [100, 126, 5_000, 500_000] {
        let mut message = Message::text(Role::Assistant, "");
        let arguments = deep(depth);
        message.tool_calls.push(ToolCall { id: String::new(), name: "f".to_owned(), arguments: arguments.clone() });
        let options = RenderOptions::default();
        let _may_refuse = template.render(&[Message::text(Role::User, "x"), message], &[], &options);
        let tool_format = Some(ToolFormat::Json);
        let mut parser = OutputParser::new(OutputOptions { tool_format, ..OutputOptions::default() });
        parser.push(&format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>"));
        assert_eq!(parser.finish(), []);
    }
}

/// A small tokenizer file with something changed anywhere in it.
fn fuzz_tokenizer(file: &[u8], rng: &mut Rng) {
    let mut file = file.to_vec();
    for _ in 0..=rng.below(3) {
        let at = rng.below(file.len() as u64) as usize;
        match rng.below(4) {
            0 => file.truncate(at),
            1 => file[at] = rng.below(256) as u8,
            2 => drop(file.splice(at..at, *b"99999999")),
            _ => drop(file.splice(at..(at + 7).min(file.len()), scraps(rng).into_bytes())),
        }
        if file.is_empty() {
            return;
        }
    }
    if let Ok(tokenizer) = Tokenizer::from_json(&file) {
        let ids = tokenizer.encode("hello <e> wörld", chat::Specials::Parse).unwrap();
        assert!(tokenizer.decode(&ids, false).starts_with("hello"));
    }
}

#[test]
fn tokenizer_files() {
    let mut vocabulary = Map::new();
    for (index, code) in (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).chain(256..324).enumerate() {
        vocabulary.insert(char::from_u32(code).unwrap().to_string(), json!(index));
    }
    vocabulary.insert("he".to_owned(), json!(256));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let file = json!({
        "added_tokens": [{"id": 257, "content": "<e>", "special": true}],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["h", "e"]]},
    });
    let file = file.to_string().into_bytes();
    Tokenizer::from_json(&file).unwrap();
    for seed in 0..ROUNDS {
        fuzz_tokenizer(&file, &mut Rng::seeded(seed));
    }
}
