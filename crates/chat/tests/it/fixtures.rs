//! The files of `fixtures/tokenizer` and `fixtures/chat`.

use std::path::PathBuf;
use std::sync::OnceLock;

use chat::{Template, Tokenizer};
use serde_json::Value;

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

pub(crate) fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_json(&bytes("tokenizer/tokenizer.json")).unwrap())
}

pub(crate) fn template(name: &str) -> Template {
    let source = String::from_utf8(bytes(&format!("chat/templates/{name}.jinja"))).unwrap();
    Template::new(&source, tokenizer().added_tokens(), &[]).unwrap()
}

pub(crate) const TEMPLATES: [&str; 10] = [
    "qwen3",
    "qwen3_5_nothink",
    "qwen3_5_think",
    "qwen3_6",
    "qwen3_8",
    "qwen3_coder",
    "qwen3_first_release",
    "qwen3_instruct_2507",
    "qwen3_nonthinking",
    "qwen3_vl",
];
