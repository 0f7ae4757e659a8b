//! A hub on a port of its own: Hugging Face's and ModelScope's paths, and faults by the number of the request.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hub::{Depot, Event, HttpOptions, HuggingFace, Options, Pulled, Source, Wanted, hex, pull};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files from here on are in large-file storage: named by their SHA-256.
const LARGE_BYTES: usize = 1000;
/// Longer than a machine under load keeps a thread waiting: nothing but a hub that says nothing is silent for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// What happens to an answer with a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// After so many bytes nothing comes, and the connection stays open.
    Stall(usize),
    /// One byte is another one.
    Corrupt,
    /// The answer is this status instead.
    Status(u16),
    /// The answer is the whole file, whatever part was asked for.
    WholeFile,
    /// Another part than the one that was asked for.
    WrongRange,
}

/// What the hub holds and what it does wrong.
#[derive(Default)]
pub(crate) struct Behaviour {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What happens to the n-th answer with bytes of a file that is not small; those behind the last go well.
    pub(crate) faults: Vec<Fault>,
    /// All answers of files go wrong in this way.
    pub(crate) always: Option<Fault>,
    /// Files are not here but at this address, as with a network of caches.
    pub(crate) elsewhere: Option<SocketAddr>,
    /// Whoever does not bring this is refused.
    pub(crate) token: Option<&'static str>,
}

pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    behaviour: Behaviour,
    over: AtomicBool,
    answers: AtomicUsize,
    bytes: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

impl Hub {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour,
            over: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let here = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if here.over.load(Ordering::Acquire) {
                    return;
                }
                let here = Arc::clone(&here);
                // A client that goes away is no fault of the hub.
                std::thread::spawn(move || here.converse(stream));
            }
        });
        Self { address, shared, listener: Some(listener) }
    }

    pub(crate) fn with(files: &[(&str, Vec<u8>)], faults: &[Fault]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        Self::start(Behaviour { files, faults: faults.to_vec(), ..Behaviour::default() })
    }

    pub(crate) fn options(&self) -> HttpOptions {
        HttpOptions { endpoint: format!("http://{}", self.address), token: None, silence: SILENCE }
    }

    pub(crate) fn source(&self) -> HuggingFace {
        let _ = rustls::crypto::ring::default_provider().install_default();
        HuggingFace::new(&self.options()).unwrap()
    }

    /// Bytes of files that were sent.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Acquire)
    }

    /// Every request's first line and headers.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Wakes the one who waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    /// Answers requests until the client has no more. `None`: the connection is at its end.
    fn converse(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut out = stream;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).ok()? == 0 {
                    return None;
                }
            }
            self.heads.lock().unwrap().push(head.clone());
            self.answer(&head, &mut out)?;
        }
    }

    fn answer(&self, head: &str, out: &mut TcpStream) -> Option<()> {
        let target = head.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let authorised = self.behaviour.token.is_none_or(|token| head.contains(token));
        if !authorised {
            return plain(out, 401, "", &json!({"error": "a token is needed"}).to_string());
        }
        if path.starts_with("/api/models/") && path.contains("/revision/") {
            return plain(out, 200, "", &self.hugging_face_list().to_string());
        }
        if path.ends_with("/repo/files") {
            return plain(out, 200, "", &self.model_scope_list().to_string());
        }
        let file = match path.split_once("/resolve/") {
            Some((_, rest)) => rest.split_once('/').map(|(_, file)| file.to_owned()),
            None => {
                let named = query.split('&').find_map(|pair| pair.strip_prefix("FilePath="));
                named.map(|name| name.replace("%2F", "/"))
            }
        };
        let Some(bytes) = file.as_ref().and_then(|file| self.behaviour.files.get(file)) else {
            return plain(out, 404, "", &json!({"error": "Repository not found"}).to_string());
        };
        if let Some(elsewhere) = self.behaviour.elsewhere {
            return plain(out, 302, &format!("location: http://{elsewhere}{path}?signature=secret\r\n"), "");
        }
        self.bytes_of(bytes, head, out)
    }

    fn bytes_of(&self, bytes: &[u8], head: &str, out: &mut TcpStream) -> Option<()> {
        let small = bytes.len() < LARGE_BYTES;
        let fault = match self.behaviour.always {
            Some(fault) => fault,
            None if small => Fault::None,
            None => {
                let number = self.answers.fetch_add(1, Ordering::AcqRel);
                self.behaviour.faults.get(number).copied().unwrap_or(Fault::None)
            }
        };
        let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
        let (start, end) = match range.and_then(|range| range.split_once('-')) {
            Some((start, end)) if fault != Fault::WholeFile => (start.parse().ok()?, end.parse::<usize>().ok()? + 1),
            Some(_) | None => (0, bytes.len()),
        };
        let mut part = bytes.get(start..end)?.to_vec();
        let (mut shown, mut sent) = (start, part.len());
        let mut stalls = false;
        match fault {
            Fault::None | Fault::WholeFile => {}
            Fault::Cut(after) => sent = sent.min(after),
            Fault::Stall(after) => (sent, stalls) = (sent.min(after), true),
            Fault::Corrupt => *part.last_mut()? ^= 1,
            Fault::Status(status) => {
                return plain(out, status, "retry-after: 0\r\n", &json!({"error": "not now"}).to_string());
            }
            Fault::WrongRange => shown += 1,
        }
        let status = if part.len() == bytes.len() && range.is_none() || fault == Fault::WholeFile { 200 } else { 206 };
        let place = format!("content-range: bytes {shown}-{}/{}\r\n", shown + part.len() - 1, bytes.len());
        let place = if status == 206 { place } else { String::new() };
        let head = format!("HTTP/1.1 {status} OK\r\n{place}content-length: {}\r\n\r\n", part.len());
        out.write_all(head.as_bytes()).ok()?;
        out.write_all(&part[..sent]).ok()?;
        self.bytes.fetch_add(sent, Ordering::AcqRel);
        if stalls {
            // Until the client gives up; longer than it waits.
            let mut rest = String::new();
            let _ = BufReader::new(out.try_clone().ok()?).read_line(&mut rest);
            return None;
        }
        (sent == part.len()).then_some(())
    }

    fn hugging_face_list(&self) -> Value {
        let sibling = |(path, bytes): (&String, &Vec<u8>)| {
            let git = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
            let mut sibling = json!({"rfilename": path, "size": bytes.len(), "blobId": hex(&git)});
            if bytes.len() >= LARGE_BYTES {
                let sha256 = hex(&Sha256::digest(bytes));
                sibling["lfs"] = json!({"size": bytes.len(), "sha256": sha256, "pointerSize": 135});
                sibling["blobId"] = json!("ffffffffffffffffffffffffffffffffffffffff");
            }
            sibling
        };
        json!({"sha": COMMIT, "siblings": self.behaviour.files.iter().map(sibling).collect::<Vec<_>>()})
    }

    fn model_scope_list(&self) -> Value {
        let file = |(path, bytes): (&String, &Vec<u8>)| {
            let sha256 = hex(&Sha256::digest(bytes));
            json!({"Name": path, "Path": path, "Size": bytes.len(), "Sha256": sha256, "Type": "blob"})
        };
        let mut files: Vec<Value> = self.behaviour.files.iter().map(file).collect();
        files.push(json!({"Name": "1_Pooling", "Path": "1_Pooling", "Size": 0, "Sha256": "", "Type": "tree"}));
        json!({"Code": 200, "Success": true, "Data": {"Files": files}})
    }
}

fn plain(out: &mut TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    out.write_all(head.as_bytes()).ok()?;
    out.write_all(body.as_bytes()).ok()
}

/// Bytes that differ everywhere.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A model of one small and two large files.
pub(crate) fn model() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{}".to_vec()),
        ("README.md", Vec::new()),
        ("model-1.safetensors", numbers(50_000, 1)),
        ("model-2.safetensors", numbers(30_001, 2)),
    ]
}

/// Small pieces, one after the other, few tries, no waiting.
pub(crate) fn options() -> Options {
    let wait = Duration::from_millis(1);
    Options { jobs: NonZeroUsize::MIN, piece_bytes: 8_192, retries: 3, wait, now_ms: 7, ..Options::default() }
}

pub(crate) fn wanted() -> Wanted {
    Wanted::parse("Qwen/Tiny").unwrap()
}

/// Pulls, and says how often something was tried again and how often a file was not what it should be.
pub(crate) fn pulled(depot: &Depot, source: &dyn Source, options: &Options) -> (hub::Result<Pulled>, usize, usize) {
    let (retries, corrupt) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tell = |event: Event<'_>| match event {
        Event::Retry { .. } => drop(retries.fetch_add(1, Ordering::AcqRel)),
        Event::Corrupt { .. } => drop(corrupt.fetch_add(1, Ordering::AcqRel)),
        _ => {}
    };
    let result = pull(depot, source, &wanted(), options, &tell);
    (result, retries.into_inner(), corrupt.into_inner())
}

/// That a model is there as it should be, and nothing beside it.
pub(crate) fn assert_is_there(depot: &Depot, name: &str, files: &[(&str, Vec<u8>)]) {
    for (path, bytes) in files {
        let found = std::fs::read(depot.folder().join(name).join(path)).unwrap();
        assert!(found == *bytes, "{path} differs");
    }
    assert_eq!(depot.verify(name, &mut |_| ()).unwrap(), []);
}

/// That nothing is listed.
pub(crate) fn assert_nothing_is_there(depot: &Depot) {
    assert_eq!(depot.models().unwrap(), []);
    let listing = std::fs::read_dir(depot.folder()).unwrap();
    let names: Vec<_> = listing.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".store"]);
}
