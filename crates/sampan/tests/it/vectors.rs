//! `sampan vectors`, and the buckets that `sampan up` serves.

use serde_json::{Value, json};

use crate::program::{Server, json, refusal, run, stdout};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn vectors_are_written_found_exported_and_checked() {
    let data = tempfile::tempdir().unwrap();
    let at = data.path();
    let film = |key: &str, x: f32, year: u32| json!({"key": key, "vector": [x, 1.0], "metadata": {"year": year}});
    let file = at.join("films.jsonl");
    std::fs::write(&file, format!("{}\n{}\n", film("alien", 0.0, 1979), film("dune", 9.0, 2021))).unwrap();
    run(at, &["vectors", "bucket", "create", "library"]);
    run(at, &["vectors", "index", "create", "library/films", "--dimension", "2", "--metric", "euclidean"]);
    let put = run(at, &["vectors", "put", "library/films", file.to_str().unwrap()]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let query = ["vectors", "query", "library/films", "--key", "alien", "--json"];
    let found = lines(&stdout(at, &query));
    assert_eq!(
        (&found[0]["key"], &found[1]["key"], &found[1]["distance"]),
        (&"alien".into(), &"dune".into(), &9.0.into())
    );
    assert_eq!(lines(&stdout(at, &[&query[..], &["--effort", "1"]].concat())), found);
    let behind = ["vectors", "query", "library/films", "--key", "alien", "--json", "--data", at.to_str().unwrap()];
    assert_eq!(lines(&stdout(std::path::Path::new("/nowhere"), &behind)), found);
    let filter = r#"{"year": {"$gte": 2000}}"#;
    let found = stdout(at, &["vectors", "query", "library/films", "--vector", "[1, 1]", "--filter", filter]);
    assert!(found.contains("dune") && !found.contains("alien"), "{found}");
    assert_eq!(json(at, &["vectors", "compact", "library/films", "--json"])["rows"], 2);
    let stats = json(at, &["vectors", "stats", "library/films", "--json"]);
    assert_eq!((&stats["vectors"], &stats["segments"], &stats["not_compacted"]), (&2.into(), &1.into(), &0.into()));
    let checked = json(at, &["vectors", "verify", "library/films", "--json"]);
    assert_eq!(checked["damaged"], json!([]));
    assert!(checked["checked"].as_u64() > Some(1), "{checked}");
    let mut exported = lines(&stdout(at, &["vectors", "export", "library/films"]));
    exported.sort_by_key(|line| line["key"].to_string());
    assert_eq!(exported, [film("alien", 0.0, 1979), film("dune", 9.0, 2021)]);
    assert_eq!(lines(&stdout(at, &["vectors", "ls", "library/films", "--json", "--limit", "1"])).len(), 1);
    assert!(stdout(at, &["vectors", "index", "ls", "library"]).contains("euclidean"));
    assert!(refusal(at, &["vectors", "bucket", "rm", "library"]).contains("is not empty"));
    run(at, &["vectors", "index", "rm", "library/films"]);
    run(at, &["vectors", "bucket", "rm", "library"]);
    assert_eq!(stdout(at, &["vectors", "bucket", "ls", "--json"]), "");
}

#[test]
fn bad_input_is_named() {
    let data = tempfile::tempdir().unwrap();
    let at = data.path();
    assert!(refusal(at, &["vectors", "bucket", "create", "Library"]).contains("Library"));
    assert!(refusal(at, &["vectors", "stats", "library"]).contains("BUCKET/INDEX"));
    assert!(refusal(at, &["vectors", "stats", "library/films"]).contains("vector bucket library does not exist"));
    run(at, &["vectors", "bucket", "create", "library"]);
    run(at, &["vectors", "index", "create", "library/films", "--dimension", "2"]);
    let file = at.join("films.jsonl");
    std::fs::write(&file, r#"{"key": "alien", "vector": [1, 2, 3]}"#).unwrap();
    let said = refusal(at, &["vectors", "put", "library/films", file.to_str().unwrap()]);
    assert!(said.contains("alien") && said.contains("dimension 2"), "{said}");
    assert!(refusal(at, &["vectors", "put", "library/films", "films.txt"]).contains("films.txt"));
    assert!(refusal(at, &["vectors", "query", "library/films", "--vector", "1,2"]).contains("--vector"));
    assert!(refusal(at, &["vectors", "query", "library/films", "--key", "x"]).contains("\"x\""));
    for effort in ["0", "101", "high"] {
        assert!(refusal(at, &["vectors", "query", "library/films", "--key", "x", "--effort", effort]).contains(effort));
    }
}

#[test]
fn the_server_and_the_commands_see_the_same() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let ask = |path: &str, body: &Value| server.ask("POST", path, &body.to_string());
    assert_eq!(ask("/CreateVectorBucket", &json!({"vectorBucketName": "library"})).0, 200);
    let names = json!({"vectorBucketName": "library", "indexName": "films"});
    let mut index = names.clone();
    index.as_object_mut().unwrap().extend(
        json!({"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}).as_object().unwrap().clone(),
    );
    assert_eq!(ask("/CreateIndex", &index).0, 200);
    let file = data.path().join("films.jsonl");
    std::fs::write(&file, r#"{"key": "alien", "vector": [1, 2]}"#).unwrap();
    let put = run(data.path(), &["vectors", "put", "library/films", file.to_str().unwrap()]);
    assert!(put.status.success());
    let mut get = names;
    get["keys"] = json!(["alien"]);
    let (status, answer) = ask("/GetVectors", &get);
    assert!(status == 200 && answer.contains("alien"), "{answer}");
    assert_remote(data.path(), &format!("http://{}", server.address));
    let (status, answer) = ask("/CreateVectorBucket", &json!({"vectorBucketName": "library"}));
    assert!(status == 409 && answer.to_lowercase().contains("x-amzn-errortype: conflictexception"), "{answer}");
}

/// The commands against a server that holds `library/films` with one vector.
fn assert_remote(data: &std::path::Path, url: &str) {
    let at_server = |arguments: &[&str]| {
        let mut all = vec!["vectors", "--server", url, "--json"];
        all.extend(arguments);
        stdout(data, &all)
    };
    at_server(&["bucket", "create", "remote"]);
    at_server(&["index", "create", "remote/films", "--dimension", "2"]);
    let file = data.join("films.jsonl");
    at_server(&["put", "remote/films", file.to_str().unwrap()]);
    assert_eq!(lines(&at_server(&["query", "remote/films", "--key", "alien"]))[0]["key"], "alien");
    assert_eq!(lines(&at_server(&["export", "remote/films"]))[0]["vector"], json!([1.0, 2.0]));
    assert_eq!(lines(&at_server(&["ls", "remote/films"])).len(), 1);
    assert_eq!(lines(&at_server(&["bucket", "ls"])).len(), 2);
    assert_eq!(lines(&at_server(&["index", "ls", "remote"]))[0]["index"], "films");
    let refused = |arguments: &[&str]| refusal(data, &[&["vectors", "--server", url], arguments].concat());
    assert!(refused(&["bucket", "rm", "remote"]).contains("is not empty"));
    assert!(refused(&["stats", "remote/films"]).contains("--data"));
    assert!(refused(&["--access-key", "a", "bucket", "ls"]).contains("together"));
    let own = std::fs::read_to_string(data.join("vectors/access-key.json")).unwrap();
    let own: Value = serde_json::from_str(&own).unwrap();
    let forged = ["--access-key", own["access_key"].as_str().unwrap(), "--secret", "wrong", "bucket", "ls"];
    assert!(refused(&forged).contains("signature"));
}
