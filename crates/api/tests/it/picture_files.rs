//! Pictures that requests name by the id of a file, and Anthropic's files.

use std::sync::Arc;

use base::{ManualClock, SeededEntropy};
use chat::testing::Script;
use chat::{ImageSource, Message, Prompt};
use meta::{Actor, Database, Directory, FIRST, NewKey, Place, Role, SCHEMA};
use serde_json::{Value, json};

use crate::support::{MODEL, Reply, Server};

const BOUNDARY: &str = "----x";
/// Bytes of a picture at most.
const PICTURE_BYTES_MAX: usize = 20 << 20;
/// The beginning of a PNG file; nobody here decodes it.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n picture";

/// Which vendor's client asks, and with which key.
#[derive(Clone, Copy)]
struct Client<'a> {
    server: &'a Server,
    is_anthropic: bool,
    key: Option<&'a str>,
}

impl<'a> Client<'a> {
    fn openai(server: &'a Server) -> Self {
        Self { server, is_anthropic: false, key: None }
    }

    fn anthropic(server: &'a Server) -> Self {
        Self { server, is_anthropic: true, key: None }
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Reply {
        let bearer = self.key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("content-type", kind)];
        if self.is_anthropic {
            headers.extend([("anthropic-version", "2023-06-01"), ("anthropic-beta", "files-api-2025-04-14")]);
        }
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.server.send(method, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "application/json", Vec::new()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, "application/json", body.to_string().into_bytes()).await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "application/json", Vec::new()).await
    }

    async fn upload(&self, fields: &[(&str, &str)], file: &[u8]) -> Reply {
        let mut body = Vec::new();
        for (name, value) in fields {
            let head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend(head.into_bytes());
        }
        let disposition = "form-data; name=\"file\"; filename=\"cat.png\"";
        let head = format!("--{BOUNDARY}\r\ncontent-disposition: {disposition}\r\ncontent-type: image/png\r\n\r\n");
        body.extend([head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat());
        self.send("POST", "/v1/files", &format!("multipart/form-data; boundary={BOUNDARY}"), body).await
    }

    /// The id of a picture that was uploaded just now.
    async fn uploaded(&self, file: &[u8]) -> String {
        let purpose: &[(&str, &str)] = if self.is_anthropic { &[] } else { &[("purpose", "vision")] };
        let reply = self.upload(purpose, file).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// Asks about a file in each way that the dialect has.
    async fn look(&self, file: &str) -> Vec<Reply> {
        if self.is_anthropic {
            let mut message = message(file);
            let asked = self.post("/v1/messages", &message).await;
            message.as_object_mut().unwrap().retain(|name, _| name != "max_tokens");
            return vec![asked, self.post("/v1/messages/count_tokens", &message).await];
        }
        vec![
            self.post("/v1/chat/completions", &chat(file)).await,
            self.post("/v1/responses", &response(file)).await,
            self.post("/v1/responses/input_tokens", &response(file)).await,
        ]
    }
}

fn chat(file: &str) -> Value {
    let content = json!([{"type": "text", "text": "What?"}, {"type": "file", "file": {"file_id": file}}]);
    json!({"model": MODEL, "messages": [{"role": "user", "content": content}]})
}

fn response(file: &str) -> Value {
    let content = json!([{"type": "input_image", "detail": "auto", "file_id": file}]);
    json!({"model": MODEL, "input": [{"role": "user", "content": content}]})
}

fn image(file: &str) -> Value {
    json!({"type": "image", "source": {"type": "file", "file_id": file}})
}

fn message(file: &str) -> Value {
    json!({"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": [image(file)]}]})
}

fn hello(count: usize) -> Vec<Script> {
    (0..count).map(|_| Script::text(&["A cat."])).collect()
}

/// The pictures of the last request that reached the model.
fn seen(server: &Server) -> Vec<Vec<u8>> {
    let request = server.requests().pop().unwrap();
    let Prompt::Messages(messages) = request.prompt else { panic!("a conversation was sent") };
    let bytes = |source: &ImageSource| match source {
        ImageSource::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?} reached the model"),
    };
    messages.iter().flat_map(Message::sources).map(bytes).collect()
}

#[tokio::test]
async fn openai_sees_files_in_chats_and_responses() {
    let server = Server::new(hello(5));
    let client = Client::openai(&server);
    let file = client.uploaded(PNG).await;
    assert_eq!(client.post("/v1/chat/completions", &chat(&file)).await.status, 200);
    assert_eq!(seen(&server), [PNG]);
    let first = client.post("/v1/responses", &response(&file)).await.json();
    assert_eq!(seen(&server), [PNG]);
    // What is stored is the id: the picture is looked for again, and is gone when it is deleted.
    let id = first["id"].as_str().unwrap();
    let items = client.get(&format!("/v1/responses/{id}/input_items")).await.json();
    assert_eq!(items["data"][0]["content"][0]["file_id"], json!(file), "{items}");
    let next = json!({"model": MODEL, "input": "And now?", "previous_response_id": id});
    assert_eq!(client.post("/v1/responses", &next).await.status, 200);
    assert_eq!(seen(&server), [PNG]);
    let result = json!([{"type": "input_image", "file_id": file}]);
    let call = json!({"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": result});
    let called = client.post("/v1/responses", &json!({"model": MODEL, "input": [call, output]})).await;
    assert_eq!((called.status.as_u16(), seen(&server)), (200, vec![PNG.to_vec()]), "{}", called.text);
    client.delete(&format!("/v1/files/{file}")).await;
    let gone = client.post("/v1/responses", &next).await;
    assert_eq!((gone.status.as_u16(), &gone.json()["error"]["param"]), (404, &json!("file_id")), "{}", gone.text);
    assert!(gone.text.contains(&file), "{}", gone.text);
}

#[tokio::test]
async fn a_file_that_is_named_often_is_read_once() {
    let server = Server::new(hello(2));
    let client = Client::openai(&server);
    let file = client.uploaded(PNG).await;
    let mut twice = chat(&file);
    twice["n"] = 2.into();
    let part = twice["messages"][0]["content"][1].clone();
    twice["messages"][0]["content"].as_array_mut().unwrap().push(part);
    assert_eq!(client.post("/v1/chat/completions", &twice).await.status, 200);
    let sources: Vec<_> = server
        .requests()
        .into_iter()
        .flat_map(|request| match request.prompt {
            Prompt::Messages(messages) => messages.iter().flat_map(Message::sources).cloned().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    let first = |source: &ImageSource| match source {
        ImageSource::Bytes(bytes) => Arc::as_ptr(bytes).cast::<u8>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(sources.len(), 4);
    assert!(sources.iter().all(|source| first(source) == first(&sources[0])), "they share one copy");
}

#[tokio::test]
async fn anthropic_keeps_files_and_sees_them() {
    let server = Server::new(hello(2));
    let client = Client::anthropic(&server);
    let made = client.upload(&[("expires_in_seconds", "3600")], PNG).await.json();
    let file = made["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "type": "file", "id": file, "filename": "cat.png", "mime_type": "image/png", "size_bytes": PNG.len(),
        "created_at": "2023-11-14T22:15:23.000Z", "expires_at": "2023-11-14T23:15:23.000Z", "downloadable": true,
    });
    assert_eq!(made, expected);
    assert!(file.starts_with("file_"), "{file}");
    let path = format!("/v1/files/{file}");
    assert_eq!(client.get(&path).await.json(), made);
    assert_eq!(client.get(&format!("/apps/anthropic{path}")).await.json(), made);
    let text = client.uploaded(b"just text").await;
    assert_eq!(client.get(&format!("/v1/files/{text}/content")).await.text, "just text");
    assert_eq!(client.post("/v1/messages", &message(&file)).await.status, 200);
    assert_eq!(seen(&server), [PNG]);
    let counted = client.look(&file).await.pop().unwrap();
    assert_eq!(counted.status, 200, "{}", counted.text);
    let deleted = client.delete(&path).await.json();
    assert_eq!(deleted, json!({"id": file, "type": "file_deleted"}));
    let gone = client.get(&path).await;
    assert_eq!((gone.status.as_u16(), &gone.json()["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn anthropic_sees_files_in_results_of_tools() {
    let server = Server::new(hello(1));
    let client = Client::anthropic(&server);
    let file = client.uploaded(PNG).await;
    let messages = json!([
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image(&file)]}]},
    ]);
    let asked = json!({"model": MODEL, "max_tokens": 8, "messages": messages});
    assert_eq!(client.post("/v1/messages", &asked).await.status, 200);
    assert_eq!(seen(&server), [PNG]);
}

#[tokio::test]
async fn anthropics_files_are_listed_page_by_page() {
    let server = Server::new(vec![]);
    let client = Client::anthropic(&server);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.uploaded(PNG).await);
    }
    ids.sort();
    ids.reverse();
    let list = async |query: &str| client.get(&format!("/v1/files{query}")).await.json();
    let of = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of(&list("").await), ids);
    // As the vendor's clients go from page to page, the new ones and the old.
    let first = list("?limit=2").await;
    assert_eq!((of(&first), &first["has_more"]), (ids[..2].to_vec(), &json!(true)));
    let second = list(&format!("?limit=2&page={}", first["next_page"].as_str().unwrap())).await;
    assert_eq!(of(&second), ids[2..4]);
    assert_eq!(of(&list(&format!("?limit=2&after_id={}", first["last_id"].as_str().unwrap())).await), ids[2..4]);
    assert_eq!(of(&list(&format!("?limit=2&before_id={}", ids[4])).await), ids[2..4]);
    let last = list(&format!("?limit=2&page={}", second["next_page"].as_str().unwrap())).await;
    assert_eq!((of(&last), &last["next_page"]), (ids[4..].to_vec(), &Value::Null));
    let named = list(&format!("?ids[]={}&ids[]={}&ids[]=file_x&beta=true", ids[3], ids[1])).await;
    assert_eq!(of(&named), [ids[1].clone(), ids[3].clone()]);
    for query in ["?limit=0", "?limit=many", "?page=2", "?after_id=file_x", "?scope_id=s"] {
        assert_ne!(client.get(&format!("/v1/files{query}")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn bad_uploads_keep_nothing() {
    let server = Server::new(vec![]);
    let client = Client::anthropic(&server);
    for (fields, words) in [
        (&[("expires_in_seconds", "60")][..], "expires_in_seconds"),
        (&[("expires_in_seconds", "soon")], "expires_in_seconds"),
        (&[("purpose", "vision")], "purpose: Extra inputs are not permitted"),
    ] {
        let refused = client.upload(fields, PNG).await;
        assert_eq!(refused.status, 400, "{fields:?}");
        let error = &refused.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    assert_eq!(client.post("/v1/files", &json!({})).await.status, 400);
    assert_eq!(client.get("/v1/files").await.json()["data"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_seen_is_refused_by_its_id_and_never_reaches_a_model() {
    let server = Server::new(vec![]);
    let large = [PNG, &vec![0; PICTURE_BYTES_MAX]].concat();
    for client in [Client::openai(&server), Client::anthropic(&server)] {
        let (text, huge) = (client.uploaded(b"{\"a\": 1}").await, client.uploaded(&large).await);
        let unknown = text.replace(|digit: char| digit.is_ascii_digit(), "0");
        for (file, status, words) in [
            (unknown.as_str(), 404, ""),
            ("file-x", 404, ""),
            ("../../files", 404, ""),
            (&text, 400, "no picture"),
            (&huge, 400, "a picture may have 20971520"),
        ] {
            for refused in client.look(file).await {
                assert_eq!(refused.status, status, "{file}: {}", refused.text);
                let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
                assert!(message.contains(file) && message.contains(words), "{file}: {message}");
            }
        }
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn too_many_files_of_one_request_are_refused() {
    let server = Server::new(vec![]);
    let parts: Vec<Value> = (0..65).map(|id| image(&format!("file_{id}"))).collect();
    let body = json!({"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": parts}]});
    let refused = Client::anthropic(&server).post("/v1/messages", &body).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("65 files are named as pictures, 64 may be"), "{}", refused.text);
    // Four that may be sent alone are too much together.
    let client = Client::openai(&server);
    let large = [PNG, &vec![0; PICTURE_BYTES_MAX - PNG.len()]].concat();
    let mut content = Vec::new();
    for _ in 0..4 {
        content.push(json!({"type": "file", "file": {"file_id": client.uploaded(&large).await}}));
    }
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": content}]});
    let refused = client.post("/v1/chat/completions", &body).await;
    assert!(refused.text.contains("67108864 are allowed"), "{}", refused.text);
}

#[tokio::test]
async fn a_dialect_does_not_see_the_files_of_another() {
    let server = Server::new(vec![]);
    let (openai, anthropic) = (Client::openai(&server), Client::anthropic(&server));
    let (ours, theirs) = (openai.uploaded(PNG).await, anthropic.uploaded(PNG).await);
    for (client, file) in [(openai, theirs), (anthropic, ours)] {
        assert_eq!(client.get(&format!("/v1/files/{file}")).await.status, 404, "{file}");
        assert_eq!(client.delete(&format!("/v1/files/{file}")).await.status, 404, "{file}");
        assert_eq!(client.get("/v1/files").await.json()["data"].as_array().unwrap().len(), 1);
        for refused in client.look(&file).await {
            assert_eq!(refused.status, 404, "{}", refused.text);
        }
    }
}

#[tokio::test]
async fn pictures_are_named_in_one_way() {
    let server = Server::new(vec![]);
    let client = Client::openai(&server);
    let ask = async |part: Value| {
        let body = json!({"model": MODEL, "input": [{"role": "user", "content": [part]}]});
        let refused = client.post("/v1/responses", &body).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        refused.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let neither = ask(json!({"type": "input_image"})).await;
    assert_eq!(neither, "input[0].content[0] has neither image_url nor file_id");
    let both = ask(json!({"type": "input_image", "image_url": "data:,", "file_id": "file-1"})).await;
    assert_eq!(both, "input[0].content[0] has both image_url and file_id");
    let mut inline = chat("file-1");
    inline["messages"][0]["content"][1]["file"] = json!({"file_data": "aGk="});
    let refused = client.post("/v1/chat/completions", &inline).await;
    assert!(refused.text.contains("file_data is not supported"), "{}", refused.text);
}

#[tokio::test]
async fn another_projects_file_looks_like_none() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("meta.db"));
    let database = Database::open(place, &[SCHEMA]).await.unwrap();
    let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
    let directory = Directory::new(database, clock, Arc::new(SeededEntropy::new(3)));
    directory.first_start().await.unwrap();
    let machine = Actor::machine("test");
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let mut keys = Vec::new();
    for project in ["a", "b"] {
        let project = directory.new_project(&machine, &first, project).await.unwrap();
        let new = NewKey::plain(&project, "k", Role::Developer);
        keys.push(directory.new_key(&machine, new).await.unwrap().text);
    }
    let server = Server::built(hello(3), |app| app.with_accounts(directory));
    for is_anthropic in [false, true] {
        let mine = Client { server: &server, is_anthropic, key: Some(&keys[0]) };
        let theirs = Client { key: Some(&keys[1]), ..mine };
        let file = mine.uploaded(PNG).await;
        for seen in mine.look(&file).await {
            assert_eq!(seen.status, 200, "{}", seen.text);
        }
        let before = server.requests().len();
        let unknown = format!("{}0", &file[..file.len() - 1]);
        let refused = theirs.look(&file).await;
        for (refused, nothing) in refused.iter().zip(theirs.look(&unknown).await) {
            assert_eq!(refused.status, 404);
            let strip = |reply: &Reply, file: &str| reply.json()["error"].to_string().replace(file, "ID");
            assert_eq!(strip(refused, &file), strip(&nothing, &unknown), "it cannot be told from none");
        }
        assert_eq!(server.requests().len(), before, "the model was not asked");
    }
}
