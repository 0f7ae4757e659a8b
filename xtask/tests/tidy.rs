//! The rules of `CONTRIBUTING.md` that a machine can check.

use std::path::Path;

use xtask::{layers, root, tree};

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_edge_points_down_the_layers() {
    let metadata = layers::metadata().unwrap();
    assert_none("edges that do not point down", &layers::violations(&metadata));
}

#[test]
fn the_dialects_never_see_a_model_or_an_engine() {
    let metadata = layers::metadata().unwrap();
    if !metadata.workspace_packages().iter().any(|package| package.name.as_str() == "api") {
        return;
    }
    let seen = layers::reachable(&metadata, "api");
    let forbidden: Vec<String> = seen.into_iter().filter(|name| name == "models" || name == "engine").collect();
    assert_none("api reaches", &forbidden);
}

#[test]
fn every_crate_stands_in_the_architecture_and_inherits_the_lints() {
    let metadata = layers::metadata().unwrap();
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        if !map.contains(&format!("`{}`", package.name)) {
            found.push(format!("{} has no paragraph in ARCHITECTURE.md", package.name));
        }
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{} does not inherit the lint table", package.name));
        }
        if package.publish != Some(Vec::new()) {
            found.push(format!("{} could be published", package.name));
        }
    }
    assert_none("crates", &found);
}

#[test]
fn files_and_lines_stay_short() {
    let mut found = Vec::new();
    for source in tree::sources(&["rs"]).unwrap() {
        let name = source.path.display();
        let lines = tree::lines_without_tests(&source.text);
        if !tree::is_test_file(&source.path) && lines > tree::FILE_LINES_MAX {
            found.push(format!("{name}: {lines} lines, {} allowed", tree::FILE_LINES_MAX));
        }
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > tree::LINE_CHARS_MAX {
                found.push(format!("{name}:{}: wider than {} characters", index + 1, tree::LINE_CHARS_MAX));
            }
        }
    }
    assert_none("too long", &found);
}

#[test]
fn words_that_mean_unfinished_work_are_absent() {
    // Put together here, so that this file does not find itself.
    let banned = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("dbg", "!("), concat!("X", "XX")];
    let mut found = Vec::new();
    for source in tree::sources(&["rs", "md", "toml", "py", "sh", "js"]).unwrap() {
        // What others wrote stays as they published it.
        if source.path.starts_with("fixtures") || source.path.starts_with("console/vendor") {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", source.path.display(), index + 1));
            }
        }
        let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if matches!(stem, "utils" | "helpers" | "common" | "manager" | "misc" | "mod") {
            found.push(format!("{}: a name that says nothing", source.path.display()));
        }
    }
    assert_none("unfinished", &found);
}

#[test]
fn money_has_no_fractions() {
    let mut found = Vec::new();
    for source in tree::sources(&["rs"]).unwrap() {
        if !source.path.starts_with("crates/ledger") {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            if ["f32", "f64"].iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path.display(), index + 1, line.trim()));
            }
        }
    }
    assert_none("fractions in the ledger", &found);
}

/// An `==` stops at the first byte that differs, and so tells how many were right to whoever measures.
#[test]
fn secrets_are_compared_in_one_time_whatever_they_are() {
    let words = ["secret", "hash", "nonce", "verifier", "signature", "password", "digest"];
    let (mut found, mut constant) = (Vec::new(), Vec::new());
    for source in tree::sources(&["rs"]).unwrap() {
        let is_gate = ["crates/meta/src", "crates/api/src/auth", "crates/api/src/signature", "crates/oidc/src"]
            .iter()
            .any(|part| source.path.starts_with(part) || source.path.with_extension("").starts_with(part));
        if !is_gate || source.path.ends_with("testing.rs") || source.path.ends_with("tests.rs") {
            continue;
        }
        let (code, _) = source.text.split_once("#[cfg(test)]").unwrap_or((&source.text, ""));
        constant.extend(
            ["ct_eq(", "verify_slice("].iter().filter(|call| code.contains(**call)).map(|_| source.path.clone()),
        );
        for (index, line) in code.lines().enumerate() {
            let is_name = |character: char| character.is_alphanumeric() || "_.()".contains(character);
            for (at, _) in line.match_indices("==").chain(line.match_indices("!=")) {
                let before = line[..at].trim_end().rsplit(|character| !is_name(character)).next().unwrap_or_default();
                let after = line[at + 2..].trim_start().trim_start_matches(['&', '*']);
                let after = after.split(|character| !is_name(character)).next().unwrap_or_default();
                // How long a secret is, everybody may know.
                let is_length = [before, after].iter().any(|operand| operand.ends_with("len()"));
                if !is_length && words.iter().any(|word| before.contains(word) || after.contains(word)) {
                    found.push(format!("{}:{}: {}", source.path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert_none("secrets that are compared byte by byte", &found);
    for place in ["secret.rs", "identity.rs", "identity/sessions.rs", "oidc/src/token.rs", "oidc/src/provider.rs"] {
        assert!(constant.iter().any(|path| path.ends_with(place)), "{place} compares in constant time: {constant:?}");
    }
    assert!(constant.iter().any(|path| path.starts_with("crates/api/src/signature")), "{constant:?}");
}

#[test]
fn every_fixture_folder_says_where_it_came_from() {
    let folder = root().join("fixtures");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let own_readme = path.join("README.md").is_file();
        if name != "README.md" && !own_readme && !readme.contains(&format!("`{name}")) {
            found.push(format!("fixtures/{name} is not in fixtures/README.md"));
        }
    }
    assert_none("fixtures without an origin", &found);
}

#[test]
fn the_documents_link_to_files_that_exist() {
    let mut found = Vec::new();
    for source in tree::sources(&["md"]).unwrap() {
        let folder = root().join(source.path.parent().unwrap_or(Path::new("")));
        for target in source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_local = !file.is_empty() && !file.contains("://") && !file.contains(' ');
            if is_local && !folder.join(file).exists() {
                found.push(format!("{}: {target}", source.path.display()));
            }
        }
    }
    assert_none("links to nowhere", &found);
}
