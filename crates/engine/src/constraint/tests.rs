use std::path::PathBuf;
use std::sync::Arc;

use base::{RequestId, Rng};
use chat::{Format, GenerateRequest, Opening, OutputOptions, OutputParser, Prompt, Specials, Tokenizer, Tool};
use chat::{ToolChoice, ToolFormat};
use serde_json::{Value, json};

use super::{Constrainer, Next};

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

fn constrainer() -> Constrainer {
    constrainer_of("nano/tokenizer.json")
}

fn constrainer_of(tokenizer: &str) -> Constrainer {
    let json = std::fs::read(fixture(tokenizer)).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_json(&json).unwrap());
    let ends = [tokenizer.token_id("<|im_end|>").unwrap(), tokenizer.token_id("<|endoftext|>").unwrap()];
    Constrainer::new(Some(tokenizer), &ends)
}

fn request(format: Format) -> GenerateRequest {
    let mut request = GenerateRequest::new(RequestId::random(&mut Rng::seeded(1)), "m", Prompt::Text(String::new()));
    request.format = format;
    request
}

fn options(request: &GenerateRequest, opening: Opening, format: ToolFormat) -> OutputOptions {
    OutputOptions { opening, tool_format: Some(format), tools: request.tools.clone(), ..OutputOptions::default() }
}

/// How far a text gets.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// All of it may be said, and the answer is as it should be.
    Fits,
    /// The answer is as it should be, and over before the end of the text.
    FitsEarly,
    /// This was not allowed.
    Stops(String),
    /// All may be said, but the answer may not end there.
    Unfinished,
    /// The check at the end refuses it.
    Checked(String),
}

/// Lets a model say `text` token by token under the constraint of a request, and then end its turn.
fn say(constrainer: &Constrainer, request: &GenerateRequest, output: OutputOptions, text: &str) -> Outcome {
    let held = constrainer.held(request, &output).unwrap().expect("the request asks for a form");
    let mut constraint = constrainer.start(held, output.opening);
    let mut parser = OutputParser::new(output);
    let tokenizer = constrainer.tokenizer.as_ref().unwrap();
    let allows = |words: &[u32], token: u32| words[token as usize / 32] & 1 << (token % 32) != 0;
    let tokens = tokenizer.encode(text, Specials::Parse).unwrap();
    for (index, &token) in tokens.iter().enumerate() {
        let spelled = tokenizer.decode(&[token], false);
        let mask = match constraint.mask() {
            Ok(mask) => mask,
            Err(why) => return Outcome::Stops(format!("{spelled}: {why}")),
        };
        if mask.is_some_and(|mask| !allows(mask.words(), token)) {
            return Outcome::Stops(spelled);
        }
        for event in parser.push(&spelled) {
            constraint.hears(&event);
        }
        if constraint.accept(token, parser.in_reasoning()).unwrap() == Next::Over {
            return match finished(&mut constraint, &mut parser) {
                Outcome::Fits if index + 1 < tokens.len() => Outcome::FitsEarly,
                outcome => outcome,
            };
        }
    }
    match constraint.mask() {
        Ok(Some(mask)) if !allows(mask.words(), constrainer.ends[0]) => Outcome::Unfinished,
        Ok(_) => finished(&mut constraint, &mut parser),
        Err(why) => Outcome::Stops(why),
    }
}

fn finished(constraint: &mut super::Constraint, parser: &mut OutputParser) -> Outcome {
    for event in parser.finish() {
        constraint.hears(&event);
    }
    constraint.verdict().map_or_else(Outcome::Checked, |()| Outcome::Fits)
}

fn stops(token: &str) -> Outcome {
    Outcome::Stops(token.to_owned())
}

#[test]
fn a_schema_holds_the_whole_answer() {
    let constrainer = constrainer();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
        "additionalProperties": false});
    let request = request(Format::JsonSchema(schema));
    let check = |text: &str, expected: Outcome| {
        let output = options(&request, Opening::MayReason, ToolFormat::Json);
        assert_eq!(say(&constrainer, &request, output, text), expected, "{text}");
    };
    check("{\"n\": 7}", Outcome::Fits);
    check("{\"n\":\n 12}", Outcome::Fits);
    check("{\"n\": -0}", Outcome::Fits);
    check("{\"n\": 7", Outcome::Unfinished);
    check("Sure", stops("Sure"));
    check("{\"n\": \"", stops(" \""));
    check("<think>\nSure, {\n</think>\n\n{\"n\": 7}", Outcome::Fits);
    check("<think>\nSure<|im_end|>", stops("<|im_end|>"));
    check("<think>\nSure</think>\n\nno", stops("no"));
}

#[test]
fn reasoning_that_the_prompt_opened_is_free_and_a_completion_has_none() {
    let constrainer = constrainer();
    let request = request(Format::Regex("[ab]+c".to_owned()));
    let say = |opening, text: &str| say(&constrainer, &request, options(&request, opening, ToolFormat::Json), text);
    assert_eq!(say(Opening::Reasoning, "whatever\n</think>\n\nabc"), Outcome::Fits);
    assert_eq!(say(Opening::Text, "abac"), Outcome::Fits);
    assert_eq!(say(Opening::Text, "<think>"), stops("<think>"));
    assert_eq!(say(Opening::Text, "aba"), Outcome::Unfinished);
}

#[test]
fn json_objects_and_lark_grammars() {
    let constrainer = constrainer();
    let say = |format: Format, text: &str| {
        let request = request(format);
        say(&constrainer, &request, options(&request, Opening::Text, ToolFormat::Json), text)
    };
    assert_eq!(say(Format::JsonObject, "{\"a\": [1, {}]}"), Outcome::Fits);
    assert_eq!(say(Format::JsonObject, "[1]"), stops("["));
    let lark = "start: \"yes\" | \"no\" \" \"? REASON?\nREASON: /[a-z]{1,9}/";
    assert_eq!(say(Format::Lark(lark.to_owned()), "no because"), Outcome::Fits);
    assert_eq!(say(Format::Lark(lark.to_owned()), "maybe"), stops("m"));
}

fn tool(name: &str, parameters: &Value, strict: bool) -> Tool {
    let definition = json!({"type": "function",
        "function": {"name": name, "strict": strict, "parameters": parameters}});
    Tool { name: name.to_owned(), definition }
}

fn with_tools(choice: ToolChoice, strict: bool) -> GenerateRequest {
    let mut request = request(Format::Text);
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"], "additionalProperties": false});
    let pair = json!({"type": "object", "properties": {"numbers": {"$ref": "#/$defs/pair"}}, "required": ["numbers"],
        "$defs": {"pair": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}});
    request.tools = vec![tool("weather", &city, strict), tool("sum", &pair, strict)];
    request.tool_choice = choice;
    request
}

const WEATHER: &str = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
const SUM: &str = "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"numbers\": [1, 2.5]}}\n</tool_call>";

#[test]
fn a_required_call_is_made() {
    let constrainer = constrainer();
    let say = |request: &GenerateRequest, text: &str| {
        say(&constrainer, request, options(request, Opening::MayReason, ToolFormat::Json), text)
    };
    let required = with_tools(ToolChoice::Required, false);
    assert_eq!(say(&required, WEATHER), Outcome::Fits);
    assert_eq!(say(&required, &format!("<think>\nhm</think>\n\n{SUM}\n{WEATHER}")), Outcome::Fits);
    assert_eq!(say(&required, "I will not"), stops("I"));
    let wrong = "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"numbers\": [1]";
    assert_eq!(say(&required, wrong), stops("]"));
    let named = with_tools(ToolChoice::Named("sum".to_owned()), false);
    assert_eq!(say(&named, SUM), Outcome::Fits);
    assert!(matches!(say(&named, WEATHER), Outcome::Stops(_)));
    assert_eq!(say(&named, &format!("{SUM}\n{SUM}")), Outcome::FitsEarly, "the second is never begun");
}

#[test]
fn strict_tools_hold_the_calls_and_leave_the_text() {
    let constrainer = constrainer();
    let request = with_tools(ToolChoice::Auto, true);
    let say = |request: &GenerateRequest, text: &str| {
        say(&constrainer, request, options(request, Opening::MayReason, ToolFormat::Json), text)
    };
    assert_eq!(say(&request, "It is sunny."), Outcome::Fits);
    assert_eq!(say(&request, &format!("Let me see.\n{WEATHER}\n{SUM}")), Outcome::Fits);
    let wrong = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town";
    assert!(matches!(say(&request, wrong), Outcome::Stops(_)));
    let mut single = request;
    single.parallel_tool_calls = false;
    assert_eq!(say(&single, &format!("{WEATHER} and more")), Outcome::FitsEarly, "it is over after one");
    let free = with_tools(ToolChoice::Auto, false);
    let output = options(&free, Opening::MayReason, ToolFormat::Json);
    assert!(constrainer.held(&free, &output).unwrap().is_none(), "tools that are not strict hold nothing");
}

#[test]
fn calls_in_the_xml_form() {
    let constrainer = constrainer();
    let request = with_tools(ToolChoice::Required, true);
    let say = |text: &str| say(&constrainer, &request, options(&request, Opening::MayReason, ToolFormat::Xml), text);
    let call = |inside: &str| format!("<tool_call>\n<function={inside}</function>\n</tool_call>");
    let days = "<parameter=days>\n3\n</parameter>\n";
    let city = "<parameter=city>\nRome, \"the\" <city>\n</parameter>\n";
    assert_eq!(say(&call(&format!("weather>\n{city}{days}"))), Outcome::Fits);
    assert_eq!(say(&call(&format!("weather>\n{city}"))), Outcome::Fits);
    assert!(matches!(say(&call(&format!("weather>\n{days}"))), Outcome::Stops(_)), "city is required");
    assert_eq!(say(&call("sum>\n<parameter=numbers>\n[1, 2]\n</parameter>\n")), Outcome::Fits);
    assert!(matches!(say(&call("sum>\n<parameter=numbers>\n[1]\n</parameter>\n")), Outcome::Stops(_)));
}

#[test]
fn what_a_grammar_cannot_say_is_checked() {
    let constrainer = constrainer();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "not": {"properties": {"a": {"const": 3}}}});
    let request = request(Format::JsonSchema(schema));
    let output = options(&request, Opening::Text, ToolFormat::Json);
    assert!(!constrainer.held(&request, &output).unwrap().unwrap().is_exact());
    assert_eq!(say(&constrainer, &request, output.clone(), "{\"a\": 4}"), Outcome::Fits);
    assert!(matches!(say(&constrainer, &request, output, "{\"a\": 3}"), Outcome::Checked(_)));
}

#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let constrainer = constrainer();
    let refused = |request: &GenerateRequest| {
        let output = options(request, Opening::Text, ToolFormat::Json);
        constrainer.held(request, &output).err().expect("it is refused").to_string()
    };
    let check = |error: String, words: &str| assert!(error.contains(words), "{error}");
    check(refused(&request(Format::JsonSchema(json!({"type": "no such"})))), "this JSON schema");
    check(refused(&request(Format::JsonSchema(json!({"$ref": "http://example.com/x"})))), "this JSON schema");
    check(refused(&request(Format::Regex("(".to_owned()))), "this regular expression");
    check(refused(&request(Format::Lark("start: x".to_owned()))), "this Lark grammar");
    check(refused(&with_tools(ToolChoice::Named("none".to_owned()), false)), "tool_choice");
    let mut strict = with_tools(ToolChoice::Auto, false);
    strict.tools = vec![tool("odd", &json!({"type": 7}), true)];
    check(refused(&strict), "\"odd\"");
    strict.tools.clear();
    strict.tool_choice = ToolChoice::Required;
    check(refused(&strict), "tool_choice");
    let none = Constrainer::new(None, &[]);
    let error = none.held(&request(Format::JsonObject), &OutputOptions::default()).err().unwrap().to_string();
    check(error, "no tokenizer");
}

/// Feeds the instances of schemas to the constraint. Returns how many schemas are served, and the mistakes.
fn judge(lines: &str) -> (usize, usize, Vec<String>) {
    let constrainer = constrainer();
    let (mut served, mut all, mut mistakes) = (0, 0, Vec::new());
    for line in lines.lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        all += 1;
        let mut schema = group["schema"].clone();
        // The draft that a case belongs to counts where the schema names none.
        if let (Some(object), Some(draft)) = (schema.as_object_mut(), group["draft"].as_str())
            && !object.contains_key("$schema")
        {
            object.insert("$schema".to_owned(), draft_uri(draft).into());
        }
        let request = request(Format::JsonSchema(schema));
        let output = options(&request, Opening::Text, ToolFormat::Json);
        if constrainer.held(&request, &output).is_err() {
            continue;
        }
        let mut is_served = true;
        for test in group["tests"].as_array().unwrap() {
            let outcome = say(&constrainer, &request, output.clone(), &test["data"].to_string());
            let name = format!("{} {}: {}", group["id"], group["description"], test["description"]);
            match (test["valid"].as_bool().unwrap(), outcome) {
                (true, Outcome::Fits)
                | (false, Outcome::FitsEarly | Outcome::Stops(_) | Outcome::Unfinished | Outcome::Checked(_)) => {}
                (true, _) => is_served = false,
                (false, Outcome::Fits) => mistakes.push(name),
            }
        }
        served += usize::from(is_served);
    }
    (served, all, mistakes)
}

fn draft_uri(draft: &str) -> &'static str {
    match draft {
        "draft7" => "http://json-schema.org/draft-07/schema#",
        "draft2019-09" => "https://json-schema.org/draft/2019-09/schema",
        _ => "https://json-schema.org/draft/2020-12/schema",
    }
}

#[test]
fn no_answer_that_a_schema_forbids_gets_through() {
    let (served, all, mistakes) = judge(&std::fs::read_to_string(fixture("jsonschema/sample.jsonl")).unwrap());
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(served * 100 >= all * 80, "{served} of {all} served with every valid instance");
}

/// `SCHEMAS=FILE cargo test -p engine --lib -- --ignored schemas_of_a_file --nocapture`: lines of `{schema, tests}`.
#[test]
#[ignore = "slow: reads a large collection from a file that is not part of the repository"]
fn schemas_of_a_file() {
    #[expect(clippy::disallowed_methods, reason = "a tool for whoever has the collection")]
    let path = std::env::var("SCHEMAS").unwrap();
    let (served, all, mistakes) = judge(&std::fs::read_to_string(path).unwrap());
    eprintln!("{served} of {all} schemas take every valid instance, {} mistakes: {mistakes:#?}", mistakes.len());
    assert!(mistakes.is_empty());
}

/// `SCHEMAS=FILE cargo test -p engine --lib -- --ignored masks_of_a_file --nocapture`: what the masks cost with the
/// tokens of the published models, over the valid instances of every schema.
#[test]
#[ignore = "slow: measures with a large collection from a file that is not part of the repository"]
#[expect(clippy::disallowed_methods, reason = "a tool for whoever has the collection")]
fn masks_of_a_file() {
    let lines = std::fs::read_to_string(std::env::var("SCHEMAS").unwrap()).unwrap();
    let constrainer = constrainer_of("tokenizer/tokenizer.json");
    let tokenizer = Arc::clone(constrainer.tokenizer.as_ref().unwrap());
    let mut took_us = Vec::new();
    for line in lines.lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        let request = request(Format::JsonSchema(group["schema"].clone()));
        let output = options(&request, Opening::Text, ToolFormat::Json);
        let Ok(Some(held)) = constrainer.held(&request, &output) else { continue };
        for test in group["tests"].as_array().unwrap().iter().filter(|test| test["valid"] == true) {
            let mut constraint = constrainer.start(Arc::clone(&held), Opening::Text);
            for token in tokenizer.encode(&test["data"].to_string(), Specials::AsText).unwrap() {
                let began = std::time::Instant::now();
                let mask = constraint.mask();
                took_us.push(began.elapsed().as_secs_f64() * 1e6);
                if mask.is_err() || constraint.accept(token, false).is_err() {
                    break;
                }
            }
        }
    }
    took_us.sort_by(f64::total_cmp);
    let at = |share: f64| took_us[(took_us.len() as f64 * share) as usize];
    let mean = took_us.iter().sum::<f64>() / took_us.len() as f64;
    let count = took_us.len();
    eprintln!("{count} masks: mean {mean:.1} us, p50 {:.1}, p99 {:.1}, p99.9 {:.1}", at(0.5), at(0.99), at(0.999));
}
