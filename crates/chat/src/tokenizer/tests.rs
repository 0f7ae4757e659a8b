use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::{GgufLists, GgufVocabulary, Segment, Specials, TEXT_BYTES_MAX, Tokenizer, bytes, gguf};
use crate::{Detokenizer, Error};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizer").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parsed(name: &str) -> Value {
    serde_json::from_slice(&fixture(name)).unwrap()
}

fn qwen() -> &'static Tokenizer {
    static QWEN: OnceLock<Tokenizer> = OnceLock::new();
    QWEN.get_or_init(|| Tokenizer::from_json(&fixture("tokenizer.json")).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn check_goldens(tokenizer: &Tokenizer) {
    let golden = parsed("golden_encodings.json");
    for case in golden["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), expected, "{text:?}");
        let as_text = if case["ids_special_as_text"].is_null() { &case["ids"] } else { &case["ids_special_as_text"] };
        assert_eq!(tokenizer.encode(text, Specials::AsText).unwrap(), ids(as_text), "{text:?} as text");
        assert_eq!(tokenizer.decode(&expected, false), case["decoded"].as_str().unwrap());
        assert_eq!(tokenizer.decode(&expected, true), case["decoded_skip_special"].as_str().unwrap());
    }
    for case in golden["llama_cpp_cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), ids(&case["ids"]), "{text:?}");
    }
    for case in golden["decode"].as_array().unwrap() {
        check_decoding(tokenizer, case);
    }
}

fn check_decoding(tokenizer: &Tokenizer, case: &Value) {
    let ids = ids(&case["ids"]);
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, case["bytes_hex"].as_str().unwrap());
    for (skip_special, field) in [(false, "text"), (true, "text_skip_special")] {
        let expected = case[field].as_str().unwrap();
        assert_eq!(tokenizer.decode(&ids, skip_special), expected);
        let mut detokenizer = Detokenizer::new(skip_special);
        let mut streamed: String = ids.iter().map(|&id| detokenizer.push(tokenizer, id)).collect();
        streamed.push_str(&detokenizer.finish());
        assert_eq!(streamed, expected);
    }
}

#[test]
fn goldens() {
    check_goldens(qwen());
}

#[test]
fn llama_cpp_cases() {
    for case in parsed("llama_cpp_qwen2_cases.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(qwen().encode(text, Specials::Parse).unwrap(), ids(&case["ids"]), "{text:?}");
    }
}

/// The same vocabulary in the shape of a GGUF file's metadata.
fn as_gguf(pre: &str) -> GgufVocabulary<'_> {
    let file = parsed("tokenizer.json");
    let mut tokens = vec![("[PAD]".to_owned(), 5); 151_936];
    for (spelling, id) in file["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = (spelling.clone(), 1);
    }
    for token in file["added_tokens"].as_array().unwrap() {
        let kind = if token["special"].as_bool().unwrap() { 3 } else { 4 };
        tokens[token["id"].as_u64().unwrap() as usize] = (token["content"].as_str().unwrap().to_owned(), kind);
    }
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    let (tokens, kinds) = tokens.into_iter().unzip();
    GgufVocabulary { model: "gpt2", pre, tokens, kinds, merges }
}

#[test]
fn the_same_vocabulary_from_gguf() {
    let tokenizer = Tokenizer::from_gguf(as_gguf("qwen2")).unwrap();
    check_goldens(&tokenizer);
    assert_eq!(tokenizer.vocabulary_size(), 151_669, "unused ids at the end do not exist");
}

#[test]
fn the_pattern_of_qwen35_keeps_marks_with_their_letters() {
    let pieces = |pre: &str| {
        let mut text = PreTokenizedString::from("नमस्ते, q\u{307}!");
        gguf::pre_tokenizer(pre).unwrap().pre_tokenize(&mut text).unwrap();
        text.get_splits(OffsetReferential::Original, OffsetType::Byte).len()
    };
    assert_eq!(pieces("qwen2"), 5);
    assert_eq!(pieces("qwen35"), 4);
}

#[test]
fn names_and_bytes() {
    let tokenizer = qwen();
    assert_eq!(tokenizer.vocabulary_size(), 151_669);
    assert_eq!(tokenizer.token_id("<|im_end|>"), Some(151_645));
    assert_eq!(tokenizer.token_id("</tool_call>"), Some(151_658));
    assert_eq!(tokenizer.token_id(" the"), Some(279));
    assert_eq!(tokenizer.token_id("no such token"), None);
    assert_eq!(tokenizer.token_bytes(279), Some(&b" the"[..]));
    assert_eq!(tokenizer.token_bytes(151_645), Some(&b"<|im_end|>"[..]));
    assert_eq!(tokenizer.token_bytes(151_669), None);
    assert!(tokenizer.is_special(151_645));
    assert!(!tokenizer.is_special(151_667), "<think> is kept in text");
}

#[test]
fn segments_are_encoded_one_by_one() {
    let text = "hi <|im_end|>";
    let segments =
        [Segment { text, specials: Specials::AsText }, Segment { text: "<|im_end|>", specials: Specials::Parse }];
    let mut expected = qwen().encode(text, Specials::AsText).unwrap();
    expected.push(151_645);
    assert_eq!(qwen().encode_segments(&segments).unwrap(), expected);
}

/// A quarter of a megabyte of each would take minutes if anything were quadratic.
#[test]
fn long_runs_take_linear_time() {
    check_long_runs(1 << 18);
}

#[test]
#[ignore = "slow: megabytes, in a build without optimisation"]
fn longer_runs_too() {
    check_long_runs(1 << 22);
}

fn check_long_runs(count: usize) {
    let runs = [
        "a".repeat(count),
        " ".repeat(count),
        format!("{}x", " ".repeat(count)),
        format!("{}\n", " ".repeat(count)),
        "\n".repeat(count),
        "ab".repeat(count / 2),
        "=".repeat(count),
        "é".repeat(count / 2),
        "e\u{301}".repeat(count / 4),
        "7".repeat(count / 4),
    ];
    for text in runs {
        let ids = qwen().encode(&text, Specials::Parse).unwrap();
        if !text.starts_with("e\u{301}") {
            assert_eq!(qwen().decode(&ids, false), text);
        }
    }
}

#[test]
fn a_text_has_a_limit() {
    let text = "a".repeat(TEXT_BYTES_MAX + 1);
    assert!(matches!(qwen().encode(&text, Specials::AsText), Err(Error::TooMany { limit: TEXT_BYTES_MAX, .. })));
}

/// A small file of the same kind: all bytes, one merge, one added token.
fn small() -> Value {
    let mut vocabulary: serde_json::Map<String, Value> =
        (0..=u8::MAX).map(|byte| (bytes::spell(&[byte]), json!(byte))).collect();
    vocabulary.insert("ab".to_owned(), json!(256));
    json!({
        "added_tokens": [{"id": 257, "content": "<e>", "special": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["a b"]},
    })
}

fn check_refused(change: impl FnOnce(&mut Value), expected: &str) {
    let mut file = small();
    change(&mut file);
    let error = Tokenizer::from_json(file.to_string().as_bytes()).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_small_file_works() {
    let tokenizer = Tokenizer::from_json(small().to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("ab<e>a", Specials::Parse).unwrap(), [256, 257, 97]);
    assert_eq!(tokenizer.encode("<e>", Specials::AsText).unwrap(), [60, 101, 62]);
}

#[test]
fn what_stands_behind_a_text_is_told_and_what_stands_before_is_refused() {
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let end = json!({"SpecialToken": {"id": "<e>", "type_id": 0}});
    let tokens = json!({"<e>": {"id": "<e>", "ids": [257], "tokens": ["<e>"]}});
    let template =
        |single: Value| json!({"type": "TemplateProcessing", "single": single, "special_tokens": tokens.clone()});
    let mut file = small();
    let parts = json!([{"type": "ByteLevel"}, template(json!([text, end]))]);
    file["post_processor"] = json!({"type": "Sequence", "processors": parts});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.ending(), [257]);
    assert_eq!(tokenizer.encode("a", Specials::Parse).unwrap(), [97]);
    check_refused(|file| file["post_processor"] = template(json!([end, text])), "post_processor");
    check_refused(
        |file| file["post_processor"] = template(json!([text, {"SpecialToken": {"id": "?"}}])),
        "post_processor",
    );
    check_refused(|file| file["post_processor"] = json!({"type": "RobertaProcessing"}), "post_processor");
}

#[test]
fn what_would_be_encoded_wrongly_is_refused_by_name() {
    check_refused(|file| file["model"]["type"] = json!("Unigram"), "model.type Unigram");
    check_refused(|file| file["model"]["byte_fallback"] = json!(true), "model.byte_fallback");
    check_refused(|file| file["model"]["dropout"] = json!(0.1), "model.dropout 0.1");
    check_refused(|file| file["model"]["unk_token"] = json!("<unk>"), "model.unk_token");
    check_refused(|file| file["model"]["end_of_word_suffix"] = json!("</w>"), "model.end_of_word_suffix </w>");
    check_refused(|file| file["post_processor"] = json!({"type": "TemplateProcessing"}), "post_processor");
    check_refused(|file| file["decoder"] = Value::Null, "decoder null");
    check_refused(|file| file["pre_tokenizer"] = Value::Null, "pre_tokenizer null");
    check_refused(|file| file["added_tokens"][0]["lstrip"] = json!(true), "lstrip true at <e>");
}

#[test]
fn broken_files_are_errors() {
    check_refused(|file| file["model"]["merges"] = json!(["ab"]), "is not a pair");
    check_refused(|file| file["model"]["merges"] = json!(["a q!"]), "q!");
    check_refused(|file| file["model"]["vocab"]["ab"] = json!(4_000_000_000_u32), "4000000000");
    check_refused(|file| file["model"]["vocab"]["ab"] = json!(0), "two tokens have the id 0");
    check_refused(|file| file["added_tokens"][0]["content"] = json!(""), "is empty");
    check_refused(|file| drop(file["model"]["vocab"].as_object_mut().unwrap().remove("!")), "0x21 has no token");
    Tokenizer::from_json(b"").unwrap_err();
    Tokenizer::from_json(b"{}").unwrap_err();
    Tokenizer::from_json(&fixture("tokenizer.json")[..100_000]).unwrap_err();
}

#[test]
fn lists_of_gguf_and_back_are_the_same_tokenizer() {
    let lists = GgufLists::from_json(&fixture("tokenizer.json")).unwrap();
    assert_eq!((lists.pre.as_str(), lists.tokens.len(), lists.merges.len()), ("qwen2", 151_669, 151_387));
    let kinds = lists.kinds.iter().map(|kind| kind.cast_signed()).collect();
    let (tokens, merges) = (lists.tokens.clone(), lists.merges.clone());
    let of_lists = GgufVocabulary { model: "gpt2", pre: &lists.pre, tokens, kinds, merges };
    check_goldens(&Tokenizer::from_gguf(of_lists).unwrap());
    let json = lists.to_json(None).unwrap();
    check_goldens(&Tokenizer::from_json(&json).unwrap());
    assert_eq!(GgufLists::from_json(&json).unwrap(), lists);
    let ending = Tokenizer::from_json(&lists.to_json(Some("<|endoftext|>")).unwrap()).unwrap();
    assert_eq!(ending.ending(), [151_643]);
}

#[test]
fn what_gguf_has_no_word_for_is_refused() {
    let mut file = parsed("tokenizer.json");
    file["normalizer"] = json!({"type": "NFKC"});
    let refused = GgufLists::from_json(&serde_json::to_vec(&file).unwrap()).unwrap_err().to_string();
    assert!(refused.contains("normalizer"), "{refused}");
    let lists = GgufLists { pre: "llama-bpe".to_owned(), tokens: vec![], kinds: vec![], merges: vec![] };
    assert!(lists.to_json(None).unwrap_err().to_string().contains("llama-bpe"));
    let lists = GgufLists { pre: "qwen2".to_owned(), tokens: vec!["a".to_owned()], kinds: vec![], merges: vec![] };
    assert!(lists.to_json(None).unwrap_err().to_string().contains("1 tokens, but 0"));
}

/// How many golden texts are encoded otherwise by a vocabulary that was changed so.
fn off(change: impl FnOnce(&mut Value), specials: Specials) -> usize {
    let mut file = parsed("tokenizer.json");
    change(&mut file);
    let tokenizer = Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap();
    let cases = parsed("golden_encodings.json")["cases"].as_array().unwrap().clone();
    let differs = |case: &&Value| {
        let as_text = if case["ids_special_as_text"].is_null() { &case["ids"] } else { &case["ids_special_as_text"] };
        let expected = if specials == Specials::Parse { &case["ids"] } else { as_text };
        tokenizer.encode(case["text"].as_str().unwrap(), specials).unwrap() != ids(expected)
    };
    cases.iter().filter(differs).count()
}

/// The mistakes that are made with vocabularies, made on purpose.
#[test]
fn every_mistake_is_seen_by_some_golden() {
    let pattern = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
    let with_pattern = |from: &'static str, to: &'static str| {
        move |file: &mut Value| {
            let old = file.pointer(pattern).and_then(Value::as_str).unwrap();
            assert!(old.contains(from), "{old}");
            *file.pointer_mut(pattern).unwrap() = json!(old.replace(from, to));
        }
    };
    assert_eq!(off(|_| {}, Specials::Parse), 0);
    assert!(off(|file| file["normalizer"] = Value::Null, Specials::Parse) > 0, "NFC left out");
    assert!(off(with_pattern(r"|\s+(?!\S)", ""), Specials::Parse) > 0, "the last space not left for the word");
    assert!(off(with_pattern(r"[\r\n]*|\s*", r"|\s*"), Specials::Parse) > 0, "line ends apart from signs");
    let first = |file: &mut Value| file["added_tokens"].as_array_mut().unwrap().truncate(3);
    assert!(off(first, Specials::Parse) > 0, "added tokens forgotten");
    let cases = parsed("golden_encodings.json")["cases"].as_array().unwrap().clone();
    let spelled = cases.iter().filter(|case| !case["ids_special_as_text"].is_null());
    let obeyed = spelled.filter(|case| {
        let text = case["text"].as_str().unwrap();
        qwen().encode(text, Specials::Parse).unwrap() != ids(&case["ids_special_as_text"])
    });
    assert!(obeyed.count() > 0, "control tokens that somebody spelled");
}
