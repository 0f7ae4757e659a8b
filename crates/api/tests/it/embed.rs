//! Embeddings and rankings in every dialect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chat::testing::Words;
use chat::{EmbedInput, Error};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::Server;

const DASHSCOPE_EMBED: &str = "/api/v1/services/embeddings/text-embedding/text-embedding";
const DASHSCOPE_RERANK: &str = "/api/v1/services/rerank/text-rerank/text-rerank";

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[tokio::test]
async fn openai_floats_and_base64_are_the_same_numbers() {
    let (server, words) = Server::embedding(vec![]);
    let ask = json!({"model": "e", "input": ["a red boat", "letters"]});
    for prefix in ["", "/compatible-mode"] {
        let reply = server.post(&format!("{prefix}/v1/embeddings"), &ask).await.json();
        assert_eq!(reply["usage"], json!({"prompt_tokens": 6, "total_tokens": 6}));
        assert_eq!((&reply["object"], &reply["data"][1]["index"]), (&json!("list"), &json!(1)));
        let floats = numbers(&reply["data"][1]["embedding"]);
        assert_eq!(floats.len(), Words::DIMENSIONS);
        let mut coded = ask.clone();
        coded["encoding_format"] = json!("base64");
        let reply = server.post("/v1/embeddings", &coded).await.json();
        let bytes = STANDARD.decode(reply["data"][1]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(decoded, floats);
    }
    let tokens = json!({"model": "e", "input": [[1, 2], [3]], "dimensions": 4});
    let reply = server.post("/v1/embeddings", &tokens).await.json();
    assert_eq!(numbers(&reply["data"][0]["embedding"]).len(), 4);
    let request = words.embed_requests().pop().unwrap();
    assert_eq!(request.inputs, [EmbedInput::Tokens(vec![1, 2]), EmbedInput::Tokens(vec![3])]);
    assert!(!request.truncate && request.instruction.is_none());
}

#[tokio::test]
async fn openai_refuses_by_name() {
    let (server, _) = Server::embedding(vec![]);
    for (fields, param, words) in [
        (json!({"input": []}), "input", "0 texts"),
        (json!({"input": ["a", ""]}), "input", "input[1] is empty"),
        (json!({"input": vec!["a"; 2049]}), "input", "2049 texts"),
        (json!({"input": "a", "dimensions": 0}), "dimensions", "dimensions is 0"),
        (json!({"input": "a", "dimensions": 999}), "dimensions", "dimensions is 999"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format", "hex"),
        (json!({"input": {"a": 1}}), "input", "a string, a list of strings"),
        (json!({"input": "a", "frobnicate": 1}), "frobnicate", "Unrecognized"),
    ] {
        let mut ask = json!({"model": "e"});
        ask.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = server.post("/v1/embeddings", &ask).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.text);
        assert!(reply.text.contains(words), "{} lacks {words:?}", reply.text);
    }
    let unknown = server.post("/v1/embeddings", &json!({"model": "m", "input": "a"})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn ollama_embeds_in_both_its_ways() {
    let (server, words) = Server::embedding(vec![]);
    let reply = server.post("/api/embed", &json!({"model": "e:latest", "input": "a red boat", "dimensions": 4})).await;
    assert_eq!(numbers(&reply.json()["embeddings"][0]).len(), 4);
    assert_eq!(reply.json()["prompt_eval_count"], 4);
    assert!(words.embed_requests()[0].truncate, "Ollama cuts unless it is told not to");
    let many = json!({"model": "e", "input": ["a", "b"], "truncate": false});
    assert_eq!(server.post("/api/embed", &many).await.json()["embeddings"].as_array().unwrap().len(), 2);
    let old = server.post("/api/embeddings", &json!({"model": "e", "prompt": "a"})).await.json();
    assert_eq!(numbers(&old["embedding"]).len(), Words::DIMENSIONS);
    assert_eq!(server.post("/api/embed", &json!({"model": "e"})).await.json()["embeddings"], json!([]));
    assert_eq!(server.post("/api/embed", &json!({"model": "x"})).await.status, 404);
    let shown = server.post("/api/show", &json!({"model": "e"})).await.json();
    assert_eq!(shown["capabilities"], json!(["embedding"]));
}

#[tokio::test]
async fn rankings_have_coheres_form() {
    let (server, words) = Server::embedding(vec![]);
    let documents = json!(["letters", {"text": "a red boat"}, "red"]);
    let ask = json!({"model": "r", "query": "red boat", "documents": documents, "return_documents": true, "top_n": 2});
    for path in ["/v1/rerank", "/v2/rerank", "/rerank", "/compatible-api/v1/reranks"] {
        let reply = server.post(path, &ask).await.json();
        let expected = json!([
            {"index": 1, "relevance_score": 1.0, "document": {"text": "a red boat"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "red"}},
        ]);
        assert_eq!(reply["results"], expected, "{path}");
        assert_eq!(reply["usage"]["total_tokens"], 11);
    }
    assert_eq!(words.rerank_requests().len(), 4);
    for (fields, words) in [
        (json!({"top_n": 0}), "top_n is 0"),
        (json!({"documents": []}), "documents is 0"),
        (json!({"documents": [5]}), "documents[0]"),
        (json!({"max_tokens_per_doc": 5}), "max_tokens_per_doc is not supported"),
        (json!({"rank_fields": ["title"]}), "rank_fields is not supported"),
    ] {
        let mut wrong = ask.clone();
        wrong.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = server.post("/v1/rerank", &wrong).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.json()["message"].as_str().unwrap().contains(words), "{} lacks {words:?}", reply.text);
    }
}

#[tokio::test]
async fn dashscope_embeds_and_ranks() {
    let (server, words) = Server::embedding(vec![]);
    let parameters = json!({"text_type": "query", "dimension": 2});
    let ask = json!({"model": "e", "input": {"texts": ["a b"]}, "parameters": parameters});
    assert_snapshot!(server.post(DASHSCOPE_EMBED, &ask).await.text);
    let plain = json!({"model": "e", "input": {"texts": ["a"]}});
    assert_eq!(server.post(DASHSCOPE_EMBED, &plain).await.status, 200);
    let requests = words.embed_requests();
    assert!(requests[0].instruction.as_deref().unwrap().starts_with("Given a web search query"));
    assert_eq!(requests[1].instruction, None);
    let parameters = json!({"return_documents": true, "top_n": 1, "instruct": "i"});
    let ask = json!({"model": "r", "input": {"query": "a", "documents": ["b", "a"]}, "parameters": parameters});
    assert_snapshot!(server.post(DASHSCOPE_RERANK, &ask).await.text);
    assert_eq!(words.rerank_requests()[0].instruction.as_deref(), Some("i"));
    let wrong = json!({"model": "e", "input": {"texts": ["a"]}, "parameters": {"output_type": "sparse"}});
    assert_snapshot!(server.post(DASHSCOPE_EMBED, &wrong).await.text);
}

#[tokio::test]
async fn without_a_model_that_embeds_the_answer_says_so() {
    let server = Server::new(vec![]);
    let query = json!({"model": "r", "query": "a", "documents": ["a"]});
    let texts = json!({"model": "e", "input": {"texts": ["a"]}});
    let documents = json!({"model": "r", "input": {"query": "a", "documents": ["b"]}});
    for (path, body) in [
        ("/v1/embeddings", json!({"model": "e", "input": "a"})),
        ("/api/embed", json!({"model": "e", "input": "a"})),
        ("/v1/rerank", query),
        (DASHSCOPE_EMBED, texts),
        (DASHSCOPE_RERANK, documents),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text);
        assert!(reply.text.contains("no model here"), "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn overload_is_told_as_each_dialect_tells_it() {
    let overloaded = || Error::Overloaded { waiting: 9, limit: 8 };
    let (server, _) = Server::embedding(vec![overloaded(), overloaded(), overloaded()]);
    let openai = server.post("/v1/embeddings", &json!({"model": "e", "input": "a"})).await;
    let ollama = server.post("/api/embed", &json!({"model": "e", "input": "a"})).await;
    let dashscope = server.post(DASHSCOPE_EMBED, &json!({"model": "e", "input": {"texts": ["a"]}})).await;
    assert_eq!([openai.status.as_u16(), ollama.status.as_u16(), dashscope.status.as_u16()], [429, 503, 429]);
    for reply in [openai, ollama, dashscope] {
        assert_eq!(reply.header("retry-after"), "1");
    }
    let (server, _) = Server::embedding(vec![]);
    let models = server.get("/v1/models").await.json();
    let names: Vec<&str> = models["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["m", "e", "r"]);
}
