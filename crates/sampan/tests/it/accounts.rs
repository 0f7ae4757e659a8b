//! `sampan up` with keys, and `sampan admin` beside it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::program::{Server, json, refusal, run, sampan, stdout};

fn started(data: &std::path::Path, log: &std::path::Path) -> Server {
    let mut command = sampan(data);
    command.args(["--log", "trace", "up", "--listen", "127.0.0.1:0", "--kv-mib", "64"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(log).unwrap());
    Server::of(command)
}

#[test]
fn keys_are_made_asked_for_and_revoked() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let server = started(data.path(), &log);
    let models = |key: &str| server.ask_with(&format!("authorization: Bearer {key}\r\n"), "GET", "/v1/models", "").0;
    let file = data.path().join("admin.key");
    let owner = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(server.ask("GET", "/v1/models", "").0, 401);
    assert_eq!((models(&owner), models(&owner[1..])), (200, 401));
    for secret in ["admin.key", "sampan.db", "sampan.db-wal"] {
        let mode = std::fs::metadata(data.path().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let (status, signed_in) = server.ask("POST", "/console/session", &format!(r#"{{"key": "{owner}"}}"#));
    assert_eq!(status, 200, "{signed_in}");
    let session = signed_in.split("sampan_session=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let with_cookie = server.ask_with(&format!("cookie: sampan_session={session}\r\n"), "GET", "/v1/models", "");
    assert_eq!(with_cookie.0, 200);
    // Vector buckets ask for a signature.
    assert_eq!(server.ask("POST", "/ListVectorBuckets", "{}").0, 403);
    assert!(run(data.path(), &["admin", "project", "new", "robots"]).status.success());
    let made = json(data.path(), &["admin", "key", "new", "arm", "--project", "robots", "--days", "1", "--json"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(models(key), 200);
    let listed = stdout(data.path(), &["admin", "key", "ls", "--json"]);
    let names: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((names.len(), &names[1]["project"], &names[1]["role"]), (2, &"robots".into(), &"developer".into()));
    assert!(!listed.contains(key), "a key is shown once");
    assert!(run(data.path(), &["admin", "key", "revoke", id]).status.success());
    assert_eq!(models(key), 401);
    assert!(run(data.path(), &["admin", "recover"]).status.success());
    let further = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(further != owner && models(&further) == 200);
    let logged = std::fs::read_to_string(&log).unwrap();
    let pair = std::fs::read_to_string(data.path().join("vectors/access-key.json")).unwrap();
    let pair: Value = serde_json::from_str(&pair).unwrap();
    for secret in [&*owner, key, &*further, &*session, pair["secret"].as_str().unwrap()] {
        assert!(!logged.contains(secret), "a secret stands in the log");
    }
    assert!(logged.contains("admin.key"), "{logged}");
}

#[test]
fn a_backup_makes_the_same_accounts_elsewhere() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = data.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    assert!(run(data.path(), &["admin", "project", "new", "robots"]).status.success());
    assert!(run(data.path(), &["admin", "backup", backup]).status.success());
    assert_eq!(std::fs::metadata(backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(run(other.path(), &["admin", "restore", backup]).status.success());
    for list in ["project", "key"] {
        let listed = |folder| stdout(folder, &["admin", list, "ls", "--json"]);
        assert_eq!(listed(data.path()), listed(other.path()));
    }
    assert!(refusal(other.path(), &["admin", "restore", backup]).contains("exists already"));
    assert!(refusal(data.path(), &["admin", "backup", backup]).contains("exists already"));
}

#[test]
fn what_cannot_be_done_is_named() {
    let data = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], part: &str| {
        let said = refusal(data.path(), arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    refused(&["admin", "key", "new", "k", "--project", "none"], "\"none\"");
    refused(&["admin", "key", "new", "k", "--role", "root"], "\"root\"");
    refused(&["admin", "key", "new", "k", "--days", "0"], "--days 0");
    refused(&["admin", "key", "revoke", "key_0"], "\"key_0\"");
    refused(&["admin", "--database", "mysql://x/y", "key", "ls"], "mysql");
    refused(&["up", "--keys", "--open"], "--open");
    refused(&["admin", "project", "new", "p", "--organisation", "none"], "\"none\"");
    refused(&["admin", "project", "close", "none"], "\"none\"");
    refused(&["admin", "member", "new", "Ann", "--email", "ann"], "\"ann\"");
    refused(&["admin", "member", "remove", "mem_0"], "\"mem_0\"");
    refused(&["admin", "key", "new", "k", "--dialects", "latin"], "\"latin\"");
}

#[test]
fn organisations_and_members_are_looked_after_in_the_terminal() {
    let data = tempfile::tempdir().unwrap();
    let rows = |list: &str| -> Vec<Value> {
        let listed = stdout(data.path(), &["admin", list, "ls", "--json"]);
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let other = json(data.path(), &["admin", "organisation", "new", "other", "--json"]);
    assert!(run(data.path(), &["admin", "project", "new", "default", "--organisation", "other"]).status.success());
    assert_eq!((rows("organisation").len(), rows("project").len()), (2, 2));
    let ambiguous = refusal(data.path(), &["admin", "key", "new", "k"]);
    assert!(ambiguous.contains("proj_"), "two organisations have a project of this name: {ambiguous}");
    let new = ["admin", "member", "new", "Ann", "--email", "ann@example.org", "--organisation", "other", "--json"];
    let ann = json(data.path(), &new);
    let id = ann["id"].as_str().unwrap();
    assert!(run(data.path(), &["admin", "member", "role", id, "billing"]).status.success());
    let members = rows("member");
    let found = members.iter().find(|member| member["id"] == id).unwrap();
    assert_eq!((&found["role"], &found["organisation"]), (&"billing".into(), &other["id"]));
    assert!(run(data.path(), &["admin", "member", "remove", id]).status.success());
    assert_eq!(rows("member").len(), 1);
    assert!(run(data.path(), &["admin", "organisation", "close", "other"]).status.success());
    assert!(stdout(data.path(), &["admin", "organisation", "ls"]).contains("closed"));
}

#[test]
fn limits_are_set_while_it_runs() {
    let data = tempfile::tempdir().unwrap();
    let limit = ["--limit", "model:*=requests:1"];
    let mut command = sampan(data.path());
    command
        .args(["up", "--open", "--listen", "127.0.0.1:0", "--kv-mib", "64"])
        .args(limit)
        .stdout(std::process::Stdio::piped());
    let server = Server::of(command);
    let body = r#"{"model": "sampan-nano", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}"#;
    let ask = || server.ask("POST", "/v1/chat/completions", body);
    assert_eq!(ask().0, 200);
    let (status, refused) = ask();
    assert!(status == 429 && refused.contains("limit 1, used 1"), "{refused}");
    // What stands with the accounts comes before the command line.
    assert!(run(data.path(), &["admin", "limit", "model:*", "requests", "1000"]).status.success());
    let listed = json(data.path(), &["admin", "limits", "--json"]);
    assert_eq!(listed[0]["amount"], 1000);
    while ask().0 == 429 {
        std::thread::yield_now();
    }
    assert_eq!(ask().0, 200);
    for bad in [["model:*", "wishes", "1"], ["user:x", "requests", "1"], ["model:*", "requests", "0"]] {
        assert!(!run(data.path(), &[&["admin", "limit"], bad.as_slice()].concat()).status.success());
    }
    assert!(refusal(data.path(), &["admin", "limit", "key:*", "tokens", "none"]).contains("does not exist"));
}

#[test]
fn a_key_sees_every_limit_that_holds_it_and_no_other() {
    let data = tempfile::tempdir().unwrap();
    let mut command = sampan(data.path());
    command.args(["up", "--listen", "127.0.0.1:0", "--kv-mib", "64", "--limit", "key:*=requests:60"]);
    command.args(["--limit", "model:*=concurrent:9", "--limit", "model:secret=requests:2"]);
    command.stdout(std::process::Stdio::piped());
    let server = Server::of(command);
    assert!(run(data.path(), &["admin", "project", "new", "robots"]).status.success());
    let made = json(data.path(), &["admin", "key", "new", "arm", "--project", "robots", "--models", "q*", "--json"]);
    let own = format!("key:{}", made["id"].as_str().unwrap());
    for limit in [[&*own, "tokens", "500"], ["key:other", "tokens", "7"], ["project:robots", "concurrent", "3"]] {
        assert!(run(data.path(), &[&["admin", "limit"], limit.as_slice()].concat()).status.success());
    }
    let seen_by = |key: &str| -> Vec<String> {
        let (_, text) = server.ask_with(&format!("authorization: Bearer {key}\r\n"), "GET", "/admin/v1/limits", "");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        let text = |limit: &Value, field: &str| limit[field].as_str().unwrap().to_owned();
        let rows = answer["data"].as_array().unwrap().iter();
        rows.map(|limit| format!("{} {} {}", text(limit, "holder"), text(limit, "measure"), text(limit, "from")))
            .collect()
    };
    let project = stdout(data.path(), &["admin", "project", "ls", "--json"]);
    let project: Vec<Value> = project.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let robots = project.iter().find(|project| project["name"] == "robots").unwrap()["id"].as_str().unwrap();
    let mut expected = vec![
        format!("{own} tokens accounts"),
        format!("project:{robots} concurrent accounts"),
        "key:* requests configuration".to_owned(),
        "model:* concurrent configuration".to_owned(),
    ];
    let mut seen = seen_by(made["key"].as_str().unwrap());
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected);
    let owner = std::fs::read_to_string(data.path().join("admin.key")).unwrap();
    assert_eq!(seen_by(owner.trim()).len(), 6, "whoever runs the place sees all");
}

#[test]
fn key_pairs_of_projects_sign_within_their_scope_until_they_are_revoked() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let server = started(data.path(), &log);
    let url = format!("http://{}", server.address);
    assert!(run(data.path(), &["admin", "project", "new", "robots"]).status.success());
    let new = ["admin", "key-pair", "new", "arm", "--project", "robots", "--buckets", "films*", "--json"];
    let pair = json(data.path(), &new);
    let (access_key, secret) = (pair["access_key"].as_str().unwrap(), pair["secret"].as_str().unwrap());
    let signed = |arguments: &[&str]| {
        let access = ["vectors", "--server", &url, "--access-key", access_key, "--secret", secret, "--json"];
        run(data.path(), &[&access, arguments].concat())
    };
    // What the machine's own pair made is not this pair's.
    assert!(run(data.path(), &["vectors", "--server", &url, "bucket", "create", "others"]).status.success());
    assert!(signed(&["bucket", "create", "films-2026"]).status.success());
    assert!(signed(&["index", "create", "films-2026/plots", "--dimension", "2"]).status.success());
    let listed = String::from_utf8(signed(&["bucket", "ls"]).stdout).unwrap();
    assert!(listed.contains("films-2026") && !listed.contains("others"), "{listed}");
    for outside in [["bucket", "create", "books"], ["index", "ls", "others"], ["bucket", "rm", "others"]] {
        let refused = String::from_utf8(signed(&outside).stderr).unwrap();
        assert!(refused.contains("not good for the vector bucket"), "{refused}");
    }
    // Made for the other API only.
    let other = ["admin", "key-pair", "new", "leg", "--dialects", "ossvectors", "--json"];
    let other = json(data.path(), &other);
    let other = [other["access_key"].as_str().unwrap(), "--secret", other["secret"].as_str().unwrap()];
    let arguments = [&["vectors", "--server", &url, "--access-key"], other.as_slice(), &["bucket", "ls"]].concat();
    assert!(refusal(data.path(), &arguments).contains("not good for the API"));
    assert!(run(data.path(), &["admin", "key-pair", "revoke", access_key]).status.success());
    assert!(!signed(&["bucket", "ls"]).status.success());
    let states = json(data.path(), &["admin", "key-pair", "ls", "--json"]);
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"revoked".into(), &"good".into()));
    let mode = std::fs::metadata(data.path().join("sealing.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(data.path().join("sealing.key")).unwrap();
    let backup = data.path().join("backup.db");
    let said = run(data.path(), &["admin", "backup", backup.to_str().unwrap()]);
    assert!(String::from_utf8(said.stderr).unwrap().contains("sealing.key, is not in it"));
    let (logged, kept) = (std::fs::read_to_string(&log).unwrap(), std::fs::read(&backup).unwrap());
    for hidden in [secret, key.trim()] {
        assert!(!logged.contains(hidden) && !kept.windows(hidden.len()).any(|bytes| bytes == hidden.as_bytes()));
    }
}

#[test]
fn secrets_of_pools_are_kept_sealed() {
    let data = tempfile::tempdir().unwrap();
    let put = |name: &str, secret: &str| {
        let file = data.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        sampan(data.path()).args(["admin", "secret", "put", name]).stdin(input).status().unwrap().success()
    };
    assert!(put("cloud", "sk-cloud-0123456789\n") && !put("cloud", "other") && !put("empty", "\n"));
    assert_eq!(stdout(data.path(), &["admin", "secret", "ls"]), "cloud\n");
    let pool = |secret: &str| {
        let file = data.path().join("pools.toml");
        let text = format!(
            "[[pool]]\nname = \"cloud\"\nform = \"openai\"\nurl = \"http://127.0.0.1:9/v1\"\nsecret = \"{secret}\"\n\
             [[pool.model]]\nname = \"far\"\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let file = pool("sealed:cloud");
    drop(Server::start(data.path(), &["--pools".as_ref(), file.as_os_str()]));
    let file = pool("sealed:nothing");
    let arguments = ["up", "--listen", "127.0.0.1:0", "--pools", file.to_str().unwrap()];
    assert!(refusal(data.path(), &arguments).contains("lists no secret \"nothing\""));
    // With another key nothing opens, and whoever needs a secret is told.
    std::fs::write(data.path().join("sealing.key"), format!("{}\n", "0".repeat(64))).unwrap();
    assert!(refusal(data.path(), &arguments).contains("another key file"));
    std::fs::write(data.path().join("sealing.key"), "short").unwrap();
    assert!(refusal(data.path(), &arguments).contains("64 hexadecimal digits"));
    assert!(run(data.path(), &["admin", "secret", "rm", "cloud"]).status.code().is_some_and(|code| code != 0));
}

#[test]
fn residency_stands_with_the_accounts_and_holds_for_models_and_buckets() {
    let data = tempfile::tempdir().unwrap();
    let mut command = sampan(data.path());
    command.args(["up", "--keys", "--region", "frankfurt", "--listen", "127.0.0.1:0", "--kv-mib", "64"]);
    command.stdout(std::process::Stdio::piped());
    let server = Server::of(command);
    assert!(run(data.path(), &["admin", "project", "new", "robots"]).status.success());
    let made = json(data.path(), &["admin", "key", "new", "arm", "--project", "robots", "--json"]);
    let key = format!("authorization: Bearer {}\r\n", made["key"].as_str().unwrap());
    let ask = |path: &str, body: &str| server.ask_with(&key, "POST", path, body);
    let chat = r#"{"model": "sampan-nano", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}"#;
    let embed = r#"{"model": "sampan-nano-embed", "input": "a"}"#;
    let set = |arguments: &[&str]| {
        assert!(run(data.path(), &[&["admin", "residency", "set"], arguments].concat()).status.success());
    };
    // Frankfurt is inside.
    set(&["project", "robots", "--data-region", "EU", "--compute-scope", "DE,US"]);
    assert_eq!((ask("/v1/chat/completions", chat).0, ask("/v1/embeddings", embed).0), (200, 200));
    set(&["organisation", "default", "--compute-scope", "US"]);
    let refused = |path: &str, body: &str| loop {
        // It is taken up within seconds.
        match ask(path, body) {
            (200, _) => std::thread::yield_now(),
            (status, told) => break (status, told),
        }
    };
    for (path, body) in [("/v1/chat/completions", chat), ("/v1/embeddings", embed)] {
        let (status, told) = refused(path, body);
        assert!(status == 403 && told.contains("compute_scope is US; frankfurt (DE, EU) is outside"), "{told}");
    }
    // What is kept goes by the region of data alone: it may lie here, wherever it is computed.
    let batch = r#"{"requests": [{"custom_id": "one", "params": {}}]}"#;
    assert_eq!(ask("/v1/messages/batches", batch).0, 200);
    set(&["key", made["id"].as_str().unwrap(), "--data-region", "tokyo"]);
    let (status, told) = refused("/v1/messages/batches", batch);
    assert!(status == 403 && told.contains("data_region is tokyo; frankfurt (DE, EU) is outside"), "{told}");
    let bucket = |arguments: &[&str]| {
        let url = format!("http://{}", server.address);
        run(data.path(), &[&["vectors", "--server", &url, "bucket"], arguments].concat())
    };
    assert!(bucket(&["create", "films"]).status.success(), "the machine's own pair is of no project");
    set(&["bucket", "films", "--data-region", "tokyo"]);
    let told = loop {
        let output =
            run(data.path(), &["vectors", "--server", &format!("http://{}", server.address), "index", "ls", "films"]);
        if !output.status.success() {
            break String::from_utf8(output.stderr).unwrap();
        }
    };
    assert!(told.contains("bucket films: data_region is tokyo; frankfurt (DE, EU) is outside"), "{told}");
    assert!(bucket(&["rm", "films"]).status.success(), "what may not be kept may go");
    let listed = json(data.path(), &["admin", "residency", "ls", "--json"]);
    assert_eq!((listed[0]["level"].as_str(), listed[1]["data_region"][0].as_str()), (Some("organisation"), Some("EU")));
    assert!(refusal(data.path(), &["admin", "residency", "set", "project", "nobody"]).contains("does not exist"));
}

#[test]
fn whoever_runs_the_place_looks_after_pairs_secrets_and_residency_over_http() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let server = started(data.path(), &log);
    let owner = std::fs::read_to_string(data.path().join("admin.key")).unwrap();
    let header = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", owner.trim());
    let ask = |method: &str, path: &str, body: &str| -> (u16, Value) {
        let (status, text) = server.ask_with(&header, method, &format!("/admin/v1/{path}"), body);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    };
    let (status, pair) = ask("POST", "key-pairs", r#"{"name": "arm", "buckets": ["films*"]}"#);
    assert_eq!(status, 201, "{pair}");
    let (access_key, secret) = (pair["access_key"].as_str().unwrap(), pair["secret"].as_str().unwrap());
    let url = format!("http://{}", server.address);
    let list = ["vectors", "--server", &url, "--access-key", access_key, "--secret", secret, "bucket", "ls"];
    assert!(run(data.path(), &list).status.success());
    assert_eq!(ask("GET", "key-pairs", "").1["data"][0]["state"], "good");
    assert_eq!(ask("DELETE", &format!("key-pairs/{access_key}"), "").0, 204);
    assert!(!run(data.path(), &list).status.success());
    let sealed = "sk-cloud-9876543210";
    assert_eq!(ask("POST", "secrets", &format!(r#"{{"name": "cloud", "secret": "{sealed}"}}"#)).0, 201);
    let names = ask("GET", "secrets", "").1;
    assert!(names["data"][0]["name"] == "cloud" && !names.to_string().contains(sealed), "{names}");
    let body = r#"{"level": "project", "name": "default", "data_region": ["EU"], "compute_scope": []}"#;
    assert_eq!(ask("POST", "residency/set", body).0, 204);
    let set = ask("GET", "residency", "").1;
    assert_eq!(
        (&set["data"][0]["data_region"][0], &set["data"][0]["compute_scope"]),
        (&"EU".into(), &Value::Array(vec![]))
    );
    for (method, path, body, expected) in [
        ("DELETE", "key-pairs/AK0", "", 404),
        ("POST", "key-pairs", r#"{"name": "leg", "dialects": ["latin"]}"#, 400),
        ("POST", "key-pairs", r#"{"name": "leg", "project": "none"}"#, 404),
        ("POST", "secrets", r#"{"name": "cloud", "secret": "again"}"#, 409),
        ("DELETE", "secrets/none", "", 404),
        ("POST", "residency/set", r#"{"level": "planet", "name": "earth"}"#, 400),
        ("POST", "residency/set", r#"{"level": "project", "name": "none", "data_region": ["EU"]}"#, 404),
    ] {
        let (status, told) = ask(method, path, body);
        assert!(status == expected && told["error"]["message"].is_string(), "{method} {path} {body}: {status} {told}");
    }
    assert_eq!(ask("DELETE", "secrets/cloud", "").0, 204);
    let logged = std::fs::read_to_string(&log).unwrap();
    for hidden in [owner.trim(), secret, sealed] {
        assert!(!logged.contains(hidden), "a secret stands in the log");
    }
}
