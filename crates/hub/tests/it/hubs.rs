//! Every protocol, as its hub speaks it.

use hub::{Cache, Depot, HuggingFace, Mirror, ModelScope, Source as _, Wanted, hex};
use sha2::{Digest as _, Sha256};

use crate::hub::{Behaviour, COMMIT, Hub, assert_is_there, model, options, pulled, wanted};

#[test]
fn a_model_is_pulled_from_hugging_face_and_recorded() {
    let hub = Hub::with(&model(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let pulled = pulled(&depot, &hub.source(), &options()).0.unwrap();
    assert_is_there(&depot, "Tiny", &model());
    assert_eq!((pulled.name.as_str(), pulled.fetched_bytes), ("Tiny", 80_003));
    let [(name, record)] = depot.models().unwrap().try_into().unwrap();
    assert_eq!((name.as_str(), &record), ("Tiny", &pulled.record));
    assert_eq!((record.repository.as_str(), record.revision.as_str()), ("Qwen/Tiny", COMMIT));
    assert_eq!((record.pulled_ms, record.size_bytes()), (7, 80_003));
    let heads = hub.heads();
    assert!(heads[0].starts_with("GET /api/models/Qwen/Tiny/revision/main?blobs=true "), "{}", heads[0]);
    assert!(heads.iter().any(|head| head.starts_with(&format!("GET /Qwen/Tiny/resolve/{COMMIT}/model-1.safe"))));
}

#[test]
fn a_model_is_pulled_from_model_scope() {
    let hub = Hub::with(&model(), &[]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let source = ModelScope::new(&hub.options()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    assert_eq!(pulled(&depot, &source, &options()).0.unwrap().record.revision, "master");
    assert_is_there(&depot, "Tiny", &model());
    let heads = hub.heads();
    assert!(
        heads[0].starts_with("GET /api/v1/models/Qwen/Tiny/repo/files?Revision=master&Recursive=true "),
        "{heads:?}"
    );
    assert!(heads[1].starts_with("GET /api/v1/models/Qwen/Tiny/repo?Revision=master&FilePath="), "{heads:?}");
}

#[test]
fn a_token_goes_to_the_hub_and_to_nobody_it_refers_to() {
    let files = model().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    let cdn = Hub::with(&model(), &[]);
    let elsewhere = Some(cdn.address);
    let hub = Hub::start(Behaviour { files, elsewhere, token: Some("hf_secret"), ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let refused = pulled(&depot, &hub.source(), &options()).0.unwrap_err();
    assert_eq!(refused.kind(), base::Kind::Unauthenticated);
    assert!(refused.to_string().ends_with("answered 401: a token is needed"), "{refused}");

    let mut with_token = hub.options();
    with_token.token = Some("hf_secret".to_owned());
    pulled(&depot, &HuggingFace::new(&with_token).unwrap(), &options()).0.unwrap();
    assert_is_there(&depot, "Tiny", &model());
    assert!(cdn.heads().iter().all(|head| !head.contains("hf_secret")));
    assert_eq!(cdn.sent_bytes(), 80_003);
}

#[test]
fn a_mirror_is_a_folder_of_models() {
    let mirror = tempfile::tempdir().unwrap();
    let files = [("config.json", b"{}".to_vec()), ("model.safetensors", vec![7; 20_000])];
    std::fs::create_dir_all(mirror.path().join("Qwen/Tiny")).unwrap();
    for (path, bytes) in &files {
        std::fs::write(mirror.path().join("Qwen/Tiny").join(path), bytes).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let source = Mirror::new(mirror.path());
    pulled(&depot, &source, &options()).0.unwrap();
    assert_is_there(&depot, "Tiny", &files);
    let missing = source.list(&Wanted::parse("Qwen/Other").unwrap().repository).unwrap_err();
    assert_eq!(missing.kind(), base::Kind::NotFound);

    // A folder of pulled models is a mirror that knows its digests: the same bytes are not copied again.
    let second = tempfile::tempdir().unwrap();
    let second = Depot::new(second.path());
    let first = Mirror::new(depot.folder());
    assert_eq!(pulled(&second, &first, &options()).0.unwrap().fetched_bytes, 20_002);
    assert_eq!(pulled(&second, &first, &options()).0.unwrap().fetched_bytes, 0);
}

#[test]
fn what_hugging_faces_own_cache_has_is_linked_and_not_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--Qwen--Tiny");
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(repository.join("blobs")).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let files = model();
    let large = &files[2].1;
    let digest = hex(&Sha256::digest(large));
    std::fs::write(repository.join("blobs").join(&digest), large).unwrap();
    // A file that only looks like the second one.
    std::fs::write(repository.join("blobs").join(hex(&Sha256::digest(&files[3].1))), b"spoilt").unwrap();

    let hub = Hub::with(&files, &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let options = hub::Options { cache: Some(Cache::new(cache.path())), ..options() };
    let pulled_once = pulled(&depot, &hub.source(), &options).0.unwrap();
    assert_is_there(&depot, "Tiny", &files);
    assert_eq!((pulled_once.fetched_bytes, hub.sent_bytes()), (30_003, 30_003));

    // The cache itself is a place to find models in, once one is whole.
    assert_eq!(Cache::new(cache.path()).models(), []);
    std::fs::write(snapshot.join("config.json"), "{}").unwrap();
    let index = serde_json::json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    std::fs::write(snapshot.join("model.safetensors.index.json"), index.to_string()).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{digest}"), snapshot.join("model-1.safetensors")).unwrap();
    assert_eq!(Cache::new(cache.path()).models(), [], "a shard is missing");
    std::fs::write(snapshot.join("model-2.safetensors"), "").unwrap();
    let [cached] = Cache::new(cache.path()).models().try_into().unwrap();
    assert_eq!((cached.id.as_str(), cached.revision.as_str(), &cached.folder), ("Qwen/Tiny", COMMIT, &snapshot));
    let listed = Mirror::new(cache.path()).list(&wanted().repository).unwrap();
    assert_eq!((listed.revision.as_str(), listed.files.len()), (COMMIT, 4));
}

#[test]
fn one_file_of_many_is_chosen_by_its_tag() {
    let files = [("README.md", b"x".to_vec()), ("Tiny-Q4_K_M.gguf", vec![4; 3000]), ("Tiny-Q8_0.gguf", vec![8; 3000])];
    let hub = Hub::with(&files, &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let wanted = Wanted::parse("Qwen/Tiny-GGUF:Q8_0").unwrap();
    let pulled = hub::pull(&depot, &hub.source(), &wanted, &options(), &|_| ()).unwrap();
    assert_eq!(pulled.name, "Tiny-Q8_0");
    assert_eq!(pulled.path, folder.path().join("Tiny-Q8_0/Tiny-Q8_0.gguf"));
    assert_eq!(pulled.record.main.as_deref(), Some("Tiny-Q8_0.gguf"));
    assert_eq!(hub.sent_bytes(), 3000);
}
