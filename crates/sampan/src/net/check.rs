//! `sampan net check`.

use anyhow::Context as _;
use netplan::check::{Line, Report, check};
use serde_json::{Value, json};

use super::args::Check;
use crate::machine::print;

pub(super) fn run(arguments: &Check) -> anyhow::Result<()> {
    let mut failed = 0;
    let mut reports = Vec::new();
    for path in &arguments.files {
        let report = check(&super::read_text(path)?).with_context(|| format!("check {}", path.display()))?;
        failed += report.failed();
        if arguments.json {
            reports.push(as_json(&path.display().to_string(), &report));
        } else {
            print(&format!("{report}\n"))?;
        }
    }
    if arguments.json {
        print(&serde_json::to_string_pretty(&reports)?)?;
    }
    anyhow::ensure!(failed == 0, "{failed} figures are out of their tolerance");
    Ok(())
}

fn as_json(file: &str, report: &Report) -> Value {
    let line = |line: &Line| {
        json!({
            "case": line.case,
            "quantity": line.quantity,
            "found": line.found,
            "expected": line.expected,
            "error": line.error,
            "tolerance": line.tolerance,
            "absolute": line.absolute,
            "passed": line.passed(),
        })
    };
    json!({
        "file": file,
        "what": report.what,
        "lines": report.lines.iter().map(line).collect::<Vec<_>>(),
        "notes": report.notes,
        "passed": report.passed(),
        "failed": report.failed(),
    })
}
