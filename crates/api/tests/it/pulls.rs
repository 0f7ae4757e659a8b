//! Models that are fetched while the server serves, and models for other machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use api::PullRequest;
use base::Kind;
use hub::{Depot, Event, HttpOptions, HuggingFace, Mirror, Options, Planes, Wanted, pull};
use serde_json::{Value, json};

use crate::support::Server;

/// Remembers what it was asked for.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl api::Pulls for Asked {
    fn list(&self) -> Vec<Value> {
        self.0.lock().unwrap().iter().map(|model| json!({"model": model})).collect()
    }

    fn order(&self, request: PullRequest) -> Result<Value, (Kind, String)> {
        if request.model == "nonsense" {
            return Err((Kind::Invalid, "no name of a model".to_owned()));
        }
        self.0.lock().unwrap().push(format!("{} from {:?}", request.model, request.from));
        Ok(json!({"id": 7}))
    }

    fn stop(&self, id: u64) -> Option<Value> {
        (id == 7).then(|| json!({"id": 7, "state": "stopped"}))
    }
}

#[tokio::test]
async fn a_pull_is_ordered_listed_and_stopped() {
    let server = Server::built(vec![], |app| app.with_pulls(Arc::new(Asked::default())));
    let ordered = server.post("/admin/v1/pulls", &json!({"model": "Qwen/Tiny", "from": "modelscope"})).await;
    assert_eq!((ordered.status.as_u16(), ordered.json()), (202, json!({"id": 7})));
    let listed = server.get("/admin/v1/pulls").await.json();
    assert_eq!(listed, json!({"data": [{"model": "Qwen/Tiny from Some(\"modelscope\")"}]}));
    for (body, why) in [
        (json!({"model": "nonsense"}), "no name of a model"),
        (json!({}), "missing field `model`"),
        (json!({"model": "a/b", "folder": "/etc"}), "unknown field `folder`"),
    ] {
        let refused = server.post("/admin/v1/pulls", &body).await;
        assert!(matches!(refused.status.as_u16(), 400 | 422) && refused.text.contains(why), "{}", refused.text);
    }
    let stopped = server.send("DELETE", "/admin/v1/pulls/7", &[], vec![]).await;
    assert_eq!(stopped.json()["state"], "stopped");
    for none in ["8", "x", "-1"] {
        assert_eq!(server.send("DELETE", &format!("/admin/v1/pulls/{none}"), &[], vec![]).await.status, 404);
    }
    let without = Server::new(vec![]);
    assert_eq!(without.get("/admin/v1/pulls").await.status, 404);
}

/// A model of a small and a larger file, pulled from a folder.
fn depot(folder: &Path) -> (Depot, BTreeMap<&'static str, Vec<u8>>) {
    let files = BTreeMap::from([
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", (0..200_000_u32).flat_map(u32::to_le_bytes).collect()),
        ("1_Pooling/config.json", b"{\"a\": 1}".to_vec()),
    ]);
    let mirror = folder.join("mirror/Qwen/Tiny");
    for (path, bytes) in &files {
        let path = mirror.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let depot = Depot::new(&folder.join("models"));
    let options = Options { include: vec!["*".to_owned()], ..Options::default() };
    let source = Mirror::new(&folder.join("mirror"));
    pull(&depot, &source, &Wanted::parse("Qwen/Tiny").unwrap(), &options, &|_| ()).unwrap();
    (depot, files)
}

/// Another machine's view of the server at this address.
fn lender(address: &str) -> HuggingFace {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let silence = std::time::Duration::from_secs(60);
    HuggingFace::new(&HttpOptions { endpoint: format!("http://{address}"), token: None, silence }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_pulls_from_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (here, files) = depot(folder.path());
    let server = Server::built(vec![], |app| app.with_depot(here));
    let (address, serving) = server.listen().await;
    let there = Depot::new(&folder.path().join("there"));
    let pulled = tokio::task::spawn_blocking(move || {
        let source = lender(&address.to_string());
        // Small pieces: every one is a range of its own.
        let options = Options { include: vec!["*".to_owned()], piece_bytes: 65_536, ..Options::default() };
        for wanted in ["Qwen/Tiny", "Tiny"] {
            let pulled = pull(&there, &source, &Wanted::parse(wanted).unwrap(), &options, &|_| ());
            assert_eq!(pulled.is_ok(), wanted == "Qwen/Tiny", "the second name is taken: {pulled:?}");
        }
        assert_eq!(there.verify("Tiny", &mut |_| ()).unwrap(), []);
        there
    });
    let there = pulled.await.unwrap();
    for (path, bytes) in files {
        assert!(std::fs::read(there.folder().join("Tiny").join(path)).unwrap() == bytes, "{path}");
    }
    serving.abort();
}

#[expect(clippy::disallowed_methods, reason = "sockets are waited for in real time")]
fn machine(seed: u8) -> fabric::Machine {
    struct RealClock(std::time::Instant);

    impl base::Clock for RealClock {
        fn now_ms(&self) -> u64 {
            0
        }

        fn monotonic_us(&self) -> u64 {
            self.0.elapsed().as_micros() as u64
        }
    }

    let nonces = Arc::new(fabric::Nonces::seeded([seed; 32]));
    fabric::Machine { clock: Arc::new(RealClock(std::time::Instant::now())), nonces }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_has_a_model_sent_over_two_networks() {
    let folder = tempfile::tempdir().unwrap();
    let (here, files) = depot(folder.path());
    let server = Server::built(vec![], |app| app.with_depot(here).with_mover(machine(1)));
    let (address, serving) = server.listen().await;
    let there = Depot::new(&folder.path().join("there"));
    let pulled = tokio::task::spawn_blocking(move || {
        let source = lender(&address.to_string());
        let planes = Planes { listen: vec!["127.0.0.1:0".parse().unwrap(); 2], machine: machine(2) };
        let options = Options { include: vec!["*".to_owned()], planes: Some(planes), ..Options::default() };
        let whole = Mutex::new(Vec::new());
        let tell = |event: Event<'_>| match event {
            Event::Whole { path, .. } => whole.lock().unwrap().push(path.to_owned()),
            Event::Retry { .. } | Event::Corrupt { .. } => panic!("{event:?}"),
            _ => {}
        };
        pull(&there, &source, &Wanted::parse("Qwen/Tiny").unwrap(), &options, &tell).unwrap();
        assert_eq!(whole.into_inner().unwrap().len(), 3);
        assert_eq!(there.verify("Tiny", &mut |_| ()).unwrap(), []);
        there
    });
    let there = pulled.await.unwrap();
    for (path, bytes) in files {
        assert!(std::fs::read(there.folder().join("Tiny").join(path)).unwrap() == bytes, "{path}");
    }
    serving.abort();
}

fn order(files: &[&str], addresses: &[&str], token: &str) -> Value {
    json!({"files": files, "addresses": addresses, "token": token})
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (here, _) = depot(folder.path());
    let without = Server::built(vec![], |app| app.with_depot(here.clone()));
    let server = Server::built(vec![], |app| app.with_depot(here).with_mover(machine(1)));
    let nine = ["127.0.0.1:1"; 9];
    let good = order(&["config.json"], &["127.0.0.1:1"], "a token of this test");
    for (path, body, status, why) in [
        ("Qwen/Tiny/send/main", order(&["other.json"], &nine[..1], "a token of this test"), 404, "other.json"),
        ("Qwen/Tiny/send/main", order(&["../x"], &nine[..1], "a token of this test"), 404, "../x"),
        ("Qwen/Tiny/send/main", order(&["config.json"], &nine, "a token of this test"), 400, "9 addresses"),
        ("Qwen/Tiny/send/main", order(&[], &nine[..1], "a token of this test"), 400, "0 files"),
        ("Tiny/send/main", order(&["config.json"], &nine[..1], "short"), 400, "token"),
        ("Tiny/send/main", order(&["config.json"], &["host:80"], "a token of this test"), 422, "addresses"),
        ("Qwen/Other/send/main", good.clone(), 404, "Qwen/Other"),
        ("Qwen/Tiny/send/v2", good.clone(), 404, "v2"),
    ] {
        let refused = server.post(&format!("/api/models/{path}"), &body).await;
        assert_eq!(refused.status.as_u16(), status, "{path} {}", refused.text);
        assert!(refused.text.contains(why), "{path} {}", refused.text);
    }
    let refused = without.post("/api/models/Qwen/Tiny/send/main", &good).await;
    assert_eq!(refused.status.as_u16(), 404);
    assert!(refused.text.contains("mover"), "{}", refused.text);
}

#[tokio::test]
async fn only_what_was_pulled_is_sent_and_only_as_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (here, _) = depot(folder.path());
    let server = Server::built(vec![], |app| app.with_depot(here));
    let listed = server.get("/api/models/Qwen/Tiny").await.json();
    let commit = listed["sha"].as_str().unwrap();
    assert_eq!((commit.len(), &listed["id"]), (40, &json!("Qwen/Tiny")));
    assert_eq!(server.get(&format!("/api/models/Tiny/revision/{commit}")).await.json(), listed);
    let tree = server.get(&format!("/api/models/Qwen/Tiny/tree/{commit}?recursive=true")).await.json();
    assert_eq!((tree.as_array().unwrap().len(), &tree[0]["type"]), (3, &json!("file")));
    let whole = server.get("/Qwen/Tiny/resolve/main/config.json").await;
    assert_eq!((whole.status.as_u16(), whole.text.as_str()), (200, "{}"));
    assert_eq!((whole.header("x-repo-commit"), whole.header("accept-ranges")), (commit, "bytes"));
    assert!(whole.header("etag").len() > 40);
    let address = format!("/Tiny/resolve/{commit}/1_Pooling/config.json");
    let part = server.send("GET", &address, &[("range", "bytes=2-3")], vec![]).await;
    assert_eq!((part.status.as_u16(), part.text.as_str(), part.header("content-range")), (206, "a\"", "bytes 2-3/8"));
    let head = server.send("HEAD", &address, &[], vec![]).await;
    assert_eq!((head.status.as_u16(), head.text.as_str(), head.header("content-length")), (200, "", "8"));
    for none in [
        "/api/models/Qwen/Other",
        "/api/models/Qwen/Tiny/revision/v2",
        "/api/models/Qwen/Tiny/tree/v2",
        "/Qwen/Tiny/resolve/v2/config.json",
        "/Qwen/Tiny/resolve/main/.sampan.json",
        "/Qwen/Tiny/resolve/main/../../../mirror/Qwen/Tiny/config.json",
        "/Qwen/Tiny/resolve/main/%2e%2e%2fTiny%2fconfig.json",
        "/Qwen/Tiny/resolve/main//etc/passwd",
        "/Qwen/..%2fTiny/resolve/main/config.json",
    ] {
        assert_eq!(server.get(none).await.status, 404, "{none}");
    }
    let without = Server::new(vec![]);
    assert_eq!(without.get("/api/models/Qwen/Tiny").await.status, 404);
}
