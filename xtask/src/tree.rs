//! What the files of the tree must look like.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A source file without its tests is at most this long.
pub const FILE_LINES_MAX: usize = 600;
/// A line of source is at most this wide, in characters.
pub const LINE_CHARS_MAX: usize = 120;

/// A file that git tracks or would track, with its text.
pub struct Source {
    /// Path from the root of the repository.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// The files below the root with one of these endings, without what git ignores.
///
/// # Errors
/// If git cannot be run or a file cannot be read.
pub fn sources(endings: &[&str]) -> Result<Vec<Source>> {
    let root = crate::root();
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .context("run git ls-files")?;
    ensure!(listing.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listing.stderr));
    let mut found = Vec::new();
    for line in String::from_utf8(listing.stdout).context("file names that are not UTF-8")?.lines() {
        let path = PathBuf::from(line);
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if endings.contains(&ending) && root.join(&path).is_file() {
            let text = std::fs::read_to_string(root.join(&path)).with_context(|| format!("read {line}"))?;
            found.push(Source { path, text });
        }
    }
    Ok(found)
}

/// Whether a file holds only tests, benchmarks or examples.
#[must_use]
pub fn is_test_file(path: &Path) -> bool {
    let in_folder = path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")));
    in_folder || path.file_stem().is_some_and(|stem| stem == "tests")
}

/// How many lines a file has before its `mod tests {`.
#[must_use]
pub fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("mod tests {")).count()
}
