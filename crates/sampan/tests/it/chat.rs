//! `sampan chat` through a pipe, as a script uses it.

use std::io::Write as _;
use std::process::Stdio;

use crate::program::sampan;

fn conversation(lines: &str) -> (String, String) {
    let data = tempfile::tempdir().unwrap();
    let mut command = sampan(data.path());
    command.args(["chat", "--temperature", "0", "--max-tokens", "16"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn a_question_is_answered() {
    let (answers, said) = conversation("Hello\n/quit\nnever read\n");
    assert!(!answers.trim().is_empty());
    assert!(!answers.contains('\x1b'), "no colours in a pipe: {answers:?}");
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn what_was_said_before_counts_until_it_is_forgotten() {
    let (twice, _) = conversation("Hello\nHello\n");
    let (forgotten, _) = conversation("Hello\n/forget\nHello\n");
    let lines: Vec<&str> = forgotten.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    assert_eq!(first, second, "{forgotten:?}");
    assert!(twice.starts_with(first[0]), "{twice:?}");
}

#[test]
fn help_and_unknown_commands() {
    let (answers, said) = conversation("/help\n/nonsense\n");
    assert!(said.contains("/forget") && said.contains("\"/nonsense\" is no command"), "{said}");
    assert_eq!(answers.trim(), "");
}
