//! `sampan up --keys`, and `sampan admin` beside it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::program::{Server, json, refusal, run, sampan, stdout};

fn started(data: &std::path::Path, log: &std::path::Path) -> Server {
    let mut command = sampan(data);
    command.args(["--log", "trace", "up", "--keys", "--listen", "127.0.0.1:0", "--kv-mib", "64"]);
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
    for secret in [&*owner, key, &*further, pair["secret"].as_str().unwrap()] {
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
}
