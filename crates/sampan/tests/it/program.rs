//! Starting the program, and speaking to its port.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// The program with its data in a folder of the test, on one thread: tests run beside each other.
pub(crate) fn sampan(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sampan"));
    command.env_clear().env("SAMPAN_DATA", data).env("SAMPAN_THREADS", "1");
    command
}

pub(crate) fn run<A: AsRef<OsStr>>(data: &Path, arguments: &[A]) -> Output {
    sampan(data).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a command printed that went well.
pub(crate) fn stdout<A: AsRef<OsStr>>(data: &Path, arguments: &[A]) -> String {
    let output = run(data, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json<A: AsRef<OsStr>>(data: &Path, arguments: &[A]) -> Value {
    serde_json::from_str(&stdout(data, arguments)).unwrap()
}

/// What a command said that was refused.
pub(crate) fn refusal<A: AsRef<OsStr>>(data: &Path, arguments: &[A]) -> String {
    let output = run(data, arguments);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// `sampan up` on a free port; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(data: &Path, arguments: &[&OsStr]) -> Self {
        let mut command = sampan(data);
        command
            .args(["up", "--open", "--listen", "127.0.0.1:0", "--kv-mib", "64"])
            .args(arguments)
            .stderr(Stdio::null());
        Self::of(command)
    }

    /// Any command that prints its address first.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }

    pub(crate) fn terminate(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends a request and returns the open connection, which the server closes behind its answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        self.send_as("application/json", method, path, body)
    }

    fn send_as(&self, content_type: &str, method: &str, path: &str, body: &str) -> TcpStream {
        self.send_with(&format!("content-type: {content_type}\r\n"), method, path, body)
    }

    fn send_with(&self, headers: &str, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             {headers}content-length: {length}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream
    }

    /// Status and everything behind it, headers too.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_as("application/json", method, path, body)
    }

    /// The same with a body of another type.
    pub(crate) fn ask_as(&self, content_type: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(&format!("content-type: {content_type}\r\n"), method, path, body)
    }

    /// The same with these headers, each with the end of its line.
    pub(crate) fn ask_with(&self, headers: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.send_with(headers, method, path, body).read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
