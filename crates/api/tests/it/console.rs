//! The console's files, and what becomes of a hostile model's output.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

async fn rendered(markdown: &str) -> String {
    let reply = Server::new(vec![]).post("/console/render", &json!({"texts": [markdown]})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let body: Value = serde_json::from_str(&reply.text).unwrap();
    body["html"][0].as_str().unwrap().to_owned()
}

async fn check(markdown: &str, holds: &[&str], lacks: &[&str]) {
    let html = rendered(markdown).await;
    for part in holds {
        assert!(html.contains(part), "{markdown:?} became {html:?} without {part:?}");
    }
    for part in lacks {
        assert!(!html.contains(part), "{markdown:?} became {html:?} with {part:?}");
    }
}

#[tokio::test]
async fn markdown_becomes_html() {
    check("**bold** and `code`", &["<strong>bold</strong>", "<code>code</code>"], &[]).await;
    check("| a | b |\n|---|--:|\n| 1 | 2 |", &["<table>", "<td align=\"right\">2</td>"], &[]).await;
    check("```rust\nfn main() {} // x\n```", &["language-rust", "class=\"k\"", "class=\"c\""], &[]).await;
    check("- [x] done", &["type=\"checkbox\"", "disabled"], &[]).await;
}

#[tokio::test]
async fn nothing_that_a_model_writes_can_run() {
    check("<script>alert(1)</script>", &["&lt;script&gt;"], &["<script"]).await;
    check("<img src=x onerror=alert(1)>", &["&lt;img"], &["<img"]).await;
    check("[a](javascript:alert(1))", &["a"], &["javascript:"]).await;
    check("[a](JaVaScRiPt:alert(1)) [b](data:text/html,x) [c](vbscript:x)", &[], &["href"]).await;
    check("[a](#/settings) [b](/admin/v1/models)", &[], &["href"]).await;
    check("![secret](https://evil.example/?q=1)", &["<a href=\"https://evil.example/"], &["<img"]).await;
    check("[a](https://ok.example)", &["rel=\"noopener noreferrer nofollow\"", "target=\"_blank\""], &[]).await;
    check("```x\" onmouseover=\"alert(1)\na\n```", &[], &["<code onmouseover", " onmouseover=\"alert"]).await;
    check("<span class=\"toast\">x</span>", &[], &["<span"]).await;
    check("safe \u{202e}txt.exe", &["‹U+202E›"], &["\u{202e}"]).await;
}

#[tokio::test]
async fn hostile_shapes_are_rendered_in_time() {
    let size = 12 << 10;
    for piece in
        [">", "[", "*a ", "`", "- ", "1. ", "<a ", "![", "_", "|", "&", "\\", "  ", "~~", "[a](", "((", "\u{202e}"]
    {
        let patience = Duration::from_secs(10);
        let text = piece.repeat(size / piece.len());
        let html = tokio::time::timeout(patience, rendered(&text)).await;
        assert!(html.is_ok(), "{piece:?} took longer than {patience:?}");
    }
}

#[tokio::test]
async fn sizes_are_limited() {
    let server = Server::new(vec![]);
    let long = "a".repeat((32 << 10) + 1);
    let refusals = [
        (json!({"texts": [long]}), StatusCode::PAYLOAD_TOO_LARGE, "at most 32768"),
        (json!({"texts": vec!["a"; 65]}), StatusCode::PAYLOAD_TOO_LARGE, "at most 64"),
        (json!({"texts": ["a".repeat(1 << 20)]}), StatusCode::PAYLOAD_TOO_LARGE, ""),
        (json!({"text": "a"}), StatusCode::UNPROCESSABLE_ENTITY, "text"),
    ];
    for (body, status, words) in refusals {
        let reply = server.post("/console/render", &body).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.text.contains(words), "{}", reply.text);
    }
}

#[tokio::test]
async fn the_files_are_served_with_strict_rules() {
    let server = Server::new(vec![]);
    let index = server.get("/").await;
    assert_eq!(index.status, StatusCode::OK);
    let policy = index.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(index.headers["x-content-type-options"], "nosniff");
    let tag = index.headers["etag"].to_str().unwrap().to_owned();
    let again = server.send("GET", "/", &[("if-none-match", &tag)], Vec::new()).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let version = tag.trim_matches('"');
    let script = server.get(&format!("/console/{version}/app.js")).await;
    assert_eq!(
        (script.status, script.headers["content-type"].to_str().unwrap()),
        (StatusCode::OK, "text/javascript; charset=utf-8")
    );
    assert!(script.headers["cache-control"].to_str().unwrap().contains("immutable"));
    for absent in [
        "/console/0123456789abcdef/app.js",
        &format!("/console/{version}/tsconfig.json"),
        &format!("/console/{version}/../Cargo.toml"),
    ] {
        assert_eq!(server.get(absent).await.status, StatusCode::NOT_FOUND, "{absent}");
    }
}

#[tokio::test]
async fn models_and_plans_are_shown_to_the_console() {
    let server = Server::new(vec![]);
    let models: Value = serde_json::from_str(&server.get("/admin/v1/models").await.text).unwrap();
    assert_eq!((&models["managed"], &models["models"][0]["state"]), (&json!(false), &json!("loaded")));
    let shown = &models["models"][0];
    assert_eq!((&shown["generates"], &shown["vision"]), (&json!(true), &json!(true)));
    let load = server.post("/admin/v1/models/load", &json!({"model": "m"})).await;
    assert_eq!(load.status, StatusCode::CONFLICT, "{}", load.text);
    assert_eq!(server.get("/admin/v1/shelf").await.status, StatusCode::NOT_FOUND);
    let plan = server.get("/admin/v1/plan?model=qwen3-0.6b&on=1x8xH100-400G").await;
    assert!(plan.status == StatusCode::OK && plan.text.contains("<svg"), "{}", plan.text);
    assert!(plan.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    for (query, status, words) in [
        ("model=nothing&on=1x8xH100-400G", StatusCode::NOT_FOUND, "nothing"),
        ("model=qwen3-0.6b&on=9", StatusCode::BAD_REQUEST, "8x8xH100-400G"),
        ("model=qwen3-0.6b&on=1000x8xH100-400G", StatusCode::BAD_REQUEST, "at most 4096"),
        ("model=qwen3-0.6b&on=1x8xH100-400G&prompt=-1", StatusCode::BAD_REQUEST, "prompt is -1"),
    ] {
        let reply = server.get(&format!("/admin/v1/plan?{query}")).await;
        assert!(reply.status == status && reply.text.contains(words), "{} {}", reply.status, reply.text);
    }
}
