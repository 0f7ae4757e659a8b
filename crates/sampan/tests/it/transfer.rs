//! `sampan net send` and `recv`, as processes that are killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::program::{refusal, sampan};

const SIZE: usize = 4 << 20;
const CHUNK: u64 = 64 << 10;
const TOKEN: &str = "the token of these tests";

/// A receiver of its own process; killed when it is dropped.
struct Receiving {
    child: Child,
    lines: BufReader<ChildStdout>,
    addresses: Vec<String>,
}

impl Receiving {
    fn start(folder: &Path, listen: &[&str]) -> Self {
        let mut command = sampan(folder);
        command.args(["net", "recv", "--once", "--json"]).arg(folder.join("in")).env("SAMPAN_NET_TOKEN", TOKEN);
        command.args(listen.iter().map(|address| format!("--listen={address}")));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let first = next(&mut lines);
        let addresses = first["addresses"].as_array().unwrap_or_else(|| panic!("{first}"));
        let addresses = addresses.iter().map(|address| address.as_str().unwrap().to_owned()).collect();
        Self { child, lines, addresses }
    }

    /// Reads events until the transfer is done.
    fn wait(mut self) -> Value {
        loop {
            let event = next(&mut self.lines);
            if event["event"] == "done" {
                assert!(self.child.wait().unwrap().success());
                return event;
            }
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(lines: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn send(folder: &Path, path: &Path, addresses: &[&str]) -> Child {
    let mut command = sampan(folder);
    // The planner's rate for the pod is far above what one machine reaches: it limits nothing here.
    command.args(["net", "send", "--json", "--chunk", "64K", "--across", "hpn7"]).arg(path).args(addresses);
    command.env("SAMPAN_NET_TOKEN", TOKEN).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn sent(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file whose bytes differ from place to place.
fn weights(folder: &Path) -> (PathBuf, Vec<u8>) {
    let content: Vec<u8> = (0..SIZE as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let path = folder.join("weights");
    std::fs::write(&path, &content).unwrap();
    (path, content)
}

#[test]
fn a_receiver_that_is_killed_gets_at_most_a_chunk_a_stream_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = weights(folder.path());
    let mut receiving = Receiving::start(folder.path(), &["127.0.0.1:0"]);
    let address = receiving.addresses[0].clone();
    let plane = Plane::to(address.clone(), SIZE / 2);
    let sending = send(folder.path(), &path, &[&plane.address]);
    while !plane.is_dead() {
        std::thread::yield_now();
    }
    receiving.child.kill().unwrap();
    drop(receiving);
    assert!(!folder.path().join("in/weights").exists(), "half a file has no name");
    let receiving = Receiving::start(folder.path(), &[&address]);
    plane.dies_at.store(usize::MAX, Ordering::SeqCst);
    let sent = sent(sending);
    assert_eq!(receiving.wait()["root"], sent["root"]);
    assert!(std::fs::read(folder.path().join("in/weights")).unwrap() == content, "the bytes differ");
    assert!(sent["resent_bytes"].as_u64().unwrap() <= 2 * CHUNK, "{sent}");
}

/// A plane that is dead from so many bytes on: every connection ends, and new ones do too.
struct Plane {
    address: String,
    carried: Arc<AtomicUsize>,
    dies_at: Arc<AtomicUsize>,
}

impl Plane {
    fn to(target: String, dies_at: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (carried, dies_at) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(dies_at)));
        let plane = Self { address, carried, dies_at };
        let counters = (Arc::clone(&plane.carried), Arc::clone(&plane.dies_at));
        // Ends with the process: a test has nobody who could wait for it.
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).unwrap();
                let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                for (from, to) in [(near, far), back] {
                    let (carried, dies_at) = counters.clone();
                    std::thread::spawn(move || pump(from, to, &carried, &dies_at));
                }
            }
        });
        plane
    }

    fn is_dead(&self) -> bool {
        self.carried.load(Ordering::SeqCst) >= self.dies_at.load(Ordering::SeqCst)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, carried: &AtomicUsize, dies_at: &AtomicUsize) {
    let mut bytes = vec![0; 16 << 10];
    while carried.load(Ordering::SeqCst) < dies_at.load(Ordering::SeqCst) {
        let count = from.read(&mut bytes).unwrap_or(0);
        carried.fetch_add(count, Ordering::SeqCst);
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // Sockets that are closed already are what we want.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_plane_that_dies_under_way_changes_nothing_in_what_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = weights(folder.path());
    let receiving = Receiving::start(folder.path(), &["127.0.0.1:0", "127.0.0.1:0"]);
    let mortal = Plane::to(receiving.addresses[0].clone(), 100_000);
    let sent = sent(send(folder.path(), &path, &[&mortal.address, &receiving.addresses[1]]));
    assert_eq!(receiving.wait()["root"], sent["root"]);
    assert!(std::fs::read(folder.path().join("in/weights")).unwrap() == content, "the bytes differ");
    assert_eq!(sent["sent_bytes"].as_u64().unwrap() - sent["resent_bytes"].as_u64().unwrap(), SIZE as u64, "{sent}");
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = weights(folder.path());
    let path = path.to_str().unwrap();
    assert!(refusal(folder.path(), &["net", "send", path, "127.0.0.1:1"]).contains("SAMPAN_NET_TOKEN"));
    assert!(refusal(folder.path(), &["net", "send", "no-such-file", "127.0.0.1:1"]).contains("no-such-file"));
    let short = folder.path().join("token");
    std::fs::write(&short, "short").unwrap();
    let short = short.to_str().unwrap();
    let said = refusal(folder.path(), &["net", "send", path, "127.0.0.1:1", "--token-file", short]);
    assert!(said.contains(short) && said.contains("5 characters"), "{said}");
    let said = refusal(folder.path(), &["net", "send", path, "127.0.0.1:1", "--rate", "10"]);
    assert!(said.contains("10Gbit"), "{said}");
    std::fs::write(short, TOKEN).unwrap();
    let said = refusal(folder.path(), &["net", "send", path, "127.0.0.1:1", "--token-file", short, "--across", "hpn9"]);
    assert!(said.contains("hpn9") && said.contains("edge-ring"), "{said}");
    for (wrong, expected) in [
        (["net", "send", "no-such-file", "127.0.0.1:1", "--token-file", short], "no-such-file"),
        (["net", "send", path, "127.0.0.1:77777", "--token-file", short], "127.0.0.1:77777"),
        (["net", "recv", path, "--listen=127.0.0.1:0", "--token-file", short], path),
    ] {
        let said = refusal(folder.path(), &wrong);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
