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

fn chat_in(data: &std::path::Path, options: &[&str], lines: &str) -> (String, String) {
    let mut command = sampan(data);
    command.args(["chat", "--temperature", "0", "--max-tokens", "8"]).args(options);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_conversation_goes_on_where_it_was_left() {
    let data = tempfile::tempdir().unwrap();
    let (first, said) = chat_in(data.path(), &["--continue"], "Hello\n");
    assert!(said.contains("this is the first") && !first.trim().is_empty(), "{said}");
    let (_, said) = chat_in(data.path(), &["--continue"], "/chats\n/open 2\n/open 1\n/forget\nSecond\n/chats\n");
    assert!(said.contains("going on with: Hello") && said.contains("there is no conversation \"2\""), "{said}");
    assert!(said.lines().any(|line| line.starts_with("  2 ") && line.ends_with("Hello")), "{said}");
    // A script that did not ask for it leaves nothing behind.
    chat_in(data.path(), &[], "Third\n");
    assert_eq!(std::fs::read_dir(data.path().join("chats")).unwrap().count(), 2);
}

#[test]
fn files_go_with_a_question() {
    let data = tempfile::tempdir().unwrap();
    let (text, picture) = (data.path().join("notes.txt"), data.path().join("p.png"));
    std::fs::write(&text, "The boat is red.").unwrap();
    std::fs::write(&picture, b"\x89PNG\r\n").unwrap();
    let lines = format!("/file {}\n/file nowhere\nWhat colour?\n", picture.display());
    let (answer, said) = chat_in(data.path(), &["--continue", "--file", text.to_str().unwrap()], &lines);
    assert!(said.contains("reads text only") && said.contains("read nowhere"), "{said}");
    assert!(!answer.trim().is_empty());
    let kept = std::fs::read_dir(data.path().join("chats")).unwrap().next().unwrap().unwrap();
    let kept = std::fs::read_to_string(kept.path()).unwrap();
    assert!(kept.contains("File notes.txt:") && kept.contains("The boat is red."), "{kept}");
}

#[test]
fn a_script_reads_one_object_an_answer() {
    let data = tempfile::tempdir().unwrap();
    let (answers, said) = chat_in(data.path(), &["--json"], "Hello\nWho are you?\n");
    let lines: Vec<serde_json::Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{answers} {said}");
    assert!(lines.iter().all(|line| line["answer"].is_string() && line["output_tokens"].as_u64().unwrap() <= 8));
    let prompt_tokens = |line: &serde_json::Value| line["prompt_tokens"].as_u64().unwrap();
    assert!(prompt_tokens(&lines[1]) > prompt_tokens(&lines[0]), "the first turn stands before the second: {answers}");
}
