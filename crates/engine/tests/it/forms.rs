//! Answers to schemas, from a model to the check by another hand.

use base::{RequestId, Rng};
use chat::{Error, FinishReason, Format, GenerateRequest, Message, Prompt, Role};
use engine::{Engine, Options};
use serde_json::Value;

use crate::harness::{MODEL, fixture, start};

/// One group of so many is asked for: the whole takes too long for a test.
const STRIDE: usize = 5;
/// A form that has no end by itself is cut here, and the answer says so.
const TOKENS_MAX: u32 = 96;

#[derive(Debug, PartialEq)]
enum Outcome {
    Fits,
    Cut,
    /// The engine says that no attempt fitted, or what about the schema it cannot hold.
    Honest(String),
    Invalid(String),
}

async fn asked(engine: &Engine, schema: &Value) -> Outcome {
    let id = RequestId::random(&mut Rng::seeded(1));
    let messages = vec![Message::text(Role::User, "Give an example.")];
    let mut request = GenerateRequest::new(id, MODEL, Prompt::Messages(messages));
    request.format = Format::JsonSchema(schema.clone());
    request.max_tokens = Some(TOKENS_MAX);
    request.sampling.seed = Some(1);
    let answered = match engine.start_generation(request).await {
        Ok(events) => chat::collect(events).await,
        Err(error) => Err(error),
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(error @ (Error::FormMissed { .. } | Error::Unsupported { .. })) => {
            return Outcome::Honest(error.to_string());
        }
        Err(error) => return Outcome::Invalid(error.to_string()),
    };
    if answer.finish.reason == FinishReason::Length {
        return Outcome::Cut;
    }
    let text = answer.message.plain_text();
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    match serde_json::from_str(&text) {
        Ok(value) if validator.is_valid(&value) => Outcome::Fits,
        Ok(_) | Err(_) => Outcome::Invalid(text),
    }
}

#[tokio::test]
async fn no_answer_breaks_its_schema_and_nearly_all_schemas_are_served() {
    let engine = start("nano", Options::default());
    let lines = std::fs::read_to_string(fixture("jsonschema/sample.jsonl")).unwrap();
    let (mut served, mut all) = (0, 0);
    for line in lines.lines().step_by(STRIDE) {
        let group: Value = serde_json::from_str(line).unwrap();
        let outcome = asked(&engine, &group["schema"]).await;
        let what = format!("{} {}: {outcome:?}", group["file"], group["description"]);
        assert!(!matches!(outcome, Outcome::Invalid(_)), "{what}");
        all += 1;
        served += usize::from(matches!(outcome, Outcome::Fits | Outcome::Cut));
    }
    assert!(served * 100 >= all * 90, "{served} of {all} served");
}
