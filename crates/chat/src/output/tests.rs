use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Opening, OutputOptions, OutputParser};
use crate::{Event, Tool, ToolFormat};

/// What all events together say.
#[derive(Debug, PartialEq, Default, Clone)]
struct Said {
    reasoning: String,
    text: String,
    calls: Vec<(String, String)>,
    warnings: usize,
    stopped: Option<String>,
}

fn say(options: &OutputOptions, pieces: &[&str]) -> Said {
    let mut parser = OutputParser::new(options.clone());
    let mut events: Vec<Event> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish());
    let mut said = Said { stopped: parser.stopped().map(str::to_owned), ..Said::default() };
    for event in events {
        match event {
            Event::Reasoning(piece) => said.reasoning += &piece,
            Event::Text(piece) => said.text += &piece,
            Event::ToolCallStarted { index, id, name } => {
                assert_eq!((index as usize, id), (said.calls.len(), format!("call_{index}")));
                said.calls.push((name, String::new()));
            }
            Event::ToolCallArguments { index, fragment } => said.calls[index as usize].1 += &fragment,
            Event::Warning(_) => said.warnings += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(parser.calls() as usize, said.calls.len());
    said
}

fn tools() -> Vec<Tool> {
    golden()["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|definition| Tool {
            name: definition["function"]["name"].as_str().unwrap().to_owned(),
            definition: definition.clone(),
        })
        .collect()
}

fn options(format: ToolFormat) -> OutputOptions {
    OutputOptions {
        opening: Opening::MayReason,
        tool_format: Some(format),
        tools: tools(),
        call_id_prefix: "call_".to_owned(),
        stop_strings: Vec::new(),
    }
}

fn golden() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/golden_tool_outputs.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// The goldens' form of a message.
fn message(said: &Said) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    if !said.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(said.reasoning));
    }
    if !said.text.is_empty() {
        message.insert("content".to_owned(), json!(said.text));
    }
    let calls = said.calls.iter().map(|(name, arguments)| {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        json!({"type": "function", "function": {"name": name, "arguments": arguments}})
    });
    if !said.calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    Value::Object(message)
}

fn golden_options(case: &Value) -> OutputOptions {
    let format = if case["format"] == "json" { ToolFormat::Json } else { ToolFormat::Xml };
    let in_reasoning = case["prompt_end"].as_str().unwrap().ends_with("<think>\n");
    let opening = if in_reasoning { Opening::Reasoning } else { Opening::MayReason };
    OutputOptions { opening, ..options(format) }
}

/// The end-of-turn token never reaches the parser.
fn golden_output(case: &Value) -> String {
    let output = case["output"].as_str().unwrap();
    output.strip_suffix("<|im_end|>").unwrap_or(output).to_owned()
}

#[test]
fn goldens_however_they_are_cut() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let (options, output) = (golden_options(case), golden_output(case));
        let said = say(&options, &[&output]);
        assert_eq!(message(&said), case["expected"], "{output:?}");
        for (cut, _) in output.char_indices() {
            assert_eq!(say(&options, &[&output[..cut], &output[cut..]]), said, "{output:?} cut at {cut}");
        }
        let letters: Vec<String> = output.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(say(&options, &letters), said, "{output:?} by letters");
    }
}

#[track_caller]
fn check(format: ToolFormat, output: &str, expected: &Said) {
    assert_eq!(say(&options(format), &[output]), *expected);
    let letters: Vec<String> = output.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(say(&options(format), &letters), *expected, "by letters");
}

fn text(text: &str) -> Said {
    Said { text: text.to_owned(), ..Said::default() }
}

fn call(name: &str, arguments: &str) -> Said {
    Said { calls: vec![(name.to_owned(), arguments.to_owned())], ..Said::default() }
}

#[test]
fn whitespace_belongs_to_the_format_only_beside_tags() {
    let json = |output, expected: Said| check(ToolFormat::Json, output, &expected);
    json("  Hi \n", text("  Hi \n"));
    json(" \n", text(" \n"));
    json("", text(""));
    json("\n<think> a\n b \n</think>\n\n x\n", Said { reasoning: "a\n b".to_owned(), ..text("x\n") });
    let given = "one\n\n<tool_call>{\"name\": \"g\"}</tool_call>\n two \n<tool_call>{\"name\": \"g\"}</tool_call>\n";
    let call = ("g".to_owned(), "{}".to_owned());
    json(given, Said { calls: vec![call.clone(), call], ..text("one\n\ntwo") });
}

#[test]
fn tags_count_only_where_they_belong() {
    let json = |output, expected: Said| check(ToolFormat::Json, output, &expected);
    json("a <think>b</think>", text("a <think>b</think>"));
    json("<thin", text("<thin"));
    json("<tool", text("<tool"));
    json("</think>", text("</think>"));
    json("<think>a</thi", Said { reasoning: "a</thi".to_owned(), ..Said::default() });
    json("<think>a<think>b</think>c</think>", Said { reasoning: "a<think>b".to_owned(), ..text("c</think>") });
    let off = OutputOptions { tool_format: None, ..options(ToolFormat::Json) };
    assert_eq!(
        say(&off, &["<tool_call>{\"name\": \"g\"}</tool_call> "]),
        text("<tool_call>{\"name\": \"g\"}</tool_call> ")
    );
    assert_eq!(say(&OutputOptions::default(), &["<think>a</think>"]), text("<think>a</think>"));
}

#[test]
fn malformed_json_calls_stay_text() {
    for body in [
        "",
        "{",
        "[]",
        "x",
        "{}",
        "{\"name\": \"\"}",
        "{\"name\": 1}",
        "{\"name\": \"f\", \"arguments\": []}",
        "{\"name\": \"f\", \"arguments\": \"{}\"}",
        "{\"name\": \"f\", \"name\": \"g\"}",
        "{\"name\": \"f\"}}",
        "{\"name\": \"f\"]",
        "{\"name\": \"f\", \"arguments\": {\"s\": \"a\nb\"}}",
        "{\"name\": \"f\", \"arguments\": {'s': 1}}",
        "{\"name\": \"f\"} {\"name\": \"g\"}",
        "{\"name\": \"f\"}<",
        "{\"name\": \"é\"é}",
    ] {
        let output = format!("a\n<tool_call>{body}</tool_call>");
        check(ToolFormat::Json, &output, &Said { warnings: 1, ..text(&output) });
    }
    let unclosed = "<tool_call>\n{\"name\": \"g\"}\n";
    check(ToolFormat::Json, unclosed, &Said { warnings: 1, ..text(unclosed) });
}

#[test]
fn a_good_call_after_a_malformed_one_is_a_call() {
    let good = "<tool_call>{\"name\": \"g\"}</tool_call>";
    for bad in ["<tool_call>", "<tool_call>{\"name\":", "<tool_call>{\"name\": \"f\"}", "<tool_call>\n{}</tool_call>"] {
        let expected = Said { warnings: 1, text: bad.to_owned(), ..call("g", "{}") };
        check(ToolFormat::Json, &format!("{bad}{good}"), &expected);
    }
    let good = "<tool_call><function=g></function></tool_call>";
    for bad in ["<tool_call>", "<tool_call><function=>", "<tool_call><function=f></function>"] {
        let expected = Said { warnings: 1, text: bad.to_owned(), ..call("g", "{}") };
        check(ToolFormat::Xml, &format!("{bad}{good}"), &expected);
    }
}

#[test]
fn json_arguments_are_handed_on_as_written() {
    let output =
        "<tool_call>{\"id\":1,\"arguments\":{ \"s\":\"\\u00e9</tool_call>\" , \"n\":1e2},\"name\":\"f\"}</tool_call>";
    check(ToolFormat::Json, output, &call("f", "{ \"s\":\"\\u00e9</tool_call>\" , \"n\":1e2}"));
}

#[test]
fn an_xml_value_may_spell_tags() {
    let value = "</parameter>\n<function=x>\n</tool_call> </parameter></tool_call>";
    let parameters = format!("<parameter=s>\n{value}\n</parameter>\n<parameter=n>7</parameter>");
    let output = format!("<tool_call>\n<function=f>\n{parameters}</function></tool_call>");
    let arguments = json!({"s": value}).to_string();
    let arguments = format!("{{\"s\": {}, \"n\": 7}}", &arguments[5..arguments.len() - 1]);
    check(ToolFormat::Xml, &output, &call("f", &arguments));
}

#[test]
fn malformed_xml_calls_stay_text() {
    for body in [
        "",
        "x",
        "{\"name\": \"f\"}",
        "<function=f>",
        "<function=f\n></function>",
        "<function=f>x</function>",
        "<function=f><parameter=></parameter></function>",
        "<function=f></function>x",
    ] {
        let output = format!("<tool_call>{body}</tool_call>");
        check(ToolFormat::Xml, &output, &Said { warnings: 1, ..text(&output) });
    }
}

#[test]
fn text_comes_as_early_as_it_is_safe() {
    let mut parser = OutputParser::new(options(ToolFormat::Json));
    let mut shown = |piece: &str| match parser.push(piece).as_slice() {
        [] => String::new(),
        [Event::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown("Hel"), "Hel");
    assert_eq!(shown("lo "), "lo");
    assert_eq!(shown("a <"), " a");
    assert_eq!(shown("b"), " <b");
    assert_eq!(shown("<tool_"), "");
    assert_eq!(shown("x"), "<tool_x");
}

#[test]
fn reasoning_comes_as_early_as_it_is_safe() {
    let mut parser = OutputParser::new(OutputOptions { opening: Opening::Reasoning, ..options(ToolFormat::Json) });
    assert_eq!(parser.push("\nhm"), [Event::Reasoning("hm".to_owned())]);
    assert!(parser.in_reasoning());
    assert_eq!(parser.push(" a </th"), [Event::Reasoning(" a".to_owned())]);
    assert_eq!(parser.push("ink>\n\nx"), [Event::Text("x".to_owned())]);
    assert!(!parser.in_reasoning());
}

#[track_caller]
fn check_stop(stop: &[&str], output: &str, expected: &Said) {
    let stop_strings = stop.iter().map(|&string| string.to_owned()).collect();
    let options = OutputOptions { stop_strings, ..options(ToolFormat::Json) };
    assert_eq!(say(&options, &[output]), *expected);
    let letters: Vec<String> = output.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(say(&options, &letters), *expected, "by letters");
}

#[test]
fn stop_strings_end_the_visible_answer() {
    let stopped = |shown: &str, by: &str| Said { stopped: Some(by.to_owned()), ..text(shown) };
    let good = "<tool_call>{\"name\": \"STOP\"}</tool_call>";
    check_stop(&["STOP"], "a STOP b", &stopped("a ", "STOP"));
    check_stop(&["STOP"], "a STO", &text("a STO"));
    check_stop(&["\n\n"], "a\n\nb", &stopped("a", "\n\n"));
    check_stop(&["\n"], "a\n", &stopped("a", "\n"));
    check_stop(
        &["STOP"],
        &format!("<think>STOP</think>{good}"),
        &Said { reasoning: "STOP".to_owned(), ..call("STOP", "{}") },
    );
    check_stop(&["ab"], &format!("a{good}b"), &Said { text: "ab".to_owned(), ..call("STOP", "{}") });
    check_stop(&["x"], &format!("x{good}"), &stopped("", "x"));
    check_stop(&["<tool_call>STOP"], "<tool_call>STOP", &Said { warnings: 1, ..stopped("", "<tool_call>STOP") });
}

/// Would take many seconds if it were quadratic.
#[test]
fn large_pieces_take_linear_time() {
    let pieces = ["<tool_call>", "<tool_call>{", "<tool_call>{}", "<tool_call><function=f>", "</parameter>", " ", "é<"];
    for format in [ToolFormat::Json, ToolFormat::Xml] {
        for piece in pieces {
            let output = piece.repeat((1 << 15) / piece.len());
            let said = say(&options(format), &[&output]);
            assert_eq!(said.text, output);
            let value = format!("<tool_call><function=f><parameter=s>{output}");
            assert_eq!(say(&options(format), &[&value]).text, value);
        }
    }
}

/// Text made of what the parser looks for.
fn outputs() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<function=f>",
        "</function>",
        "<parameter=s>",
        "<parameter=n>",
        "</parameter>",
        "{\"name\": \"f\"",
        ", \"arguments\": {\"s\": \"",
        "\"",
        "{",
        "}",
        "[",
        "\\",
        "{\"name\": \"g\"}",
        "\n",
        " ",
        "a",
        "é",
        "7",
        "<",
        "</",
        "<tool",
        "STOP",
        "ST",
        "<|im_end|>",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_cut_says_the_same(
        output in outputs(),
        xml: bool,
        in_reasoning: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let options = OutputOptions {
            opening: if in_reasoning { Opening::Reasoning } else { Opening::MayReason },
            stop_strings: vec!["STOP".to_owned(), "7a".to_owned()],
            ..options(if xml { ToolFormat::Xml } else { ToolFormat::Json })
        };
        let boundaries: Vec<usize> = output.char_indices().map(|(at, _)| at).chain([output.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.get(&boundaries)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut done = 0;
        for cut in cuts.into_iter().chain([output.len()]) {
            pieces.push(&output[done..cut]);
            done = cut;
        }
        let whole = say(&options, &[&output]);
        prop_assert_eq!(&say(&options, &pieces), &whole);
        for (_, arguments) in &whole.calls {
            prop_assert!(serde_json::from_str::<Map<String, Value>>(arguments).is_ok(), "{}", arguments);
        }
    }

    #[test]
    fn without_tags_nothing_is_lost(output in "[^<]{0,40}") {
        prop_assert_eq!(say(&options(ToolFormat::Json), &[&output]), text(&output));
    }
}
