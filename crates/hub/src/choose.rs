//! Which files of a repository are the model.

use std::collections::BTreeSet;

use crate::error::{Error, Result, at_most};
use crate::name::{Wanted, check_path};
use crate::source::{Listing, Remote};

/// The most files of a model.
pub const FILES_MAX: u64 = 20_000;
/// The most bytes of a model.
const BYTES_MAX: u64 = 1 << 46;
/// How many tags a refusal lists.
const TAGS_SHOWN_MAX: usize = 30;

/// The files to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) files: Vec<Remote>,
    /// The GGUF file that is the model; `None` if the folder is.
    pub(crate) main: Option<String>,
}

/// Checks a listing and chooses: the patterns' files if there are patterns, else the safetensors and what belongs to
/// them, else the GGUF file that the tag names.
pub(crate) fn choose(listing: &Listing, wanted: &Wanted, include: &[String]) -> Result<Chosen> {
    check(listing)?;
    let files: Vec<&Remote> = match (include.is_empty(), &wanted.tag) {
        (false, _) => listing
            .files
            .iter()
            .filter(|file| include.iter().any(|pattern| base::is_like(pattern, &file.path)))
            .collect(),
        (true, Some(tag)) => with_tower(listing, tagged(listing, tag)?),
        (true, None) if listing.files.iter().any(is_weights) => {
            listing.files.iter().filter(|file| is_weights(file) || is_beside(file)).collect()
        }
        (true, None) => with_tower(listing, only_gguf(listing)?),
    };
    if files.is_empty() {
        return Err(refuse(listing, format!("no file has a name like {}", include.join(" or "))));
    }
    let is_folder = files.iter().any(|file| file.path == "config.json");
    let main = if is_folder { None } else { files.iter().find(|file| is_gguf(file)).map(|file| file.path.clone()) };
    if !is_folder && main.is_none() {
        return Err(refuse(listing, "neither config.json nor a GGUF file is among the files".to_owned()));
    }
    Ok(Chosen { files: files.into_iter().cloned().collect(), main })
}

fn check(listing: &Listing) -> Result<()> {
    at_most("files of a model", listing.files.len() as u64, FILES_MAX)?;
    let mut bytes = 0_u64;
    let mut seen = BTreeSet::new();
    for file in &listing.files {
        check_path(&file.path)?;
        if !seen.insert(&file.path) {
            return Err(Error::FileName { name: file.path.clone(), why: "it is there twice" });
        }
        bytes = bytes.saturating_add(file.size_bytes);
    }
    at_most("bytes of a model", bytes, BYTES_MAX)
}

/// Safetensors at the top; what lies in folders is another form of the same model.
fn is_weights(file: &Remote) -> bool {
    file.path.ends_with(".safetensors") && !file.path.contains('/')
}

/// Configuration, tokenizer, templates, licence; of folders only the numbered ones of sentence-transformers.
fn is_beside(file: &Remote) -> bool {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let is_module = folder.starts_with(|letter: char| letter.is_ascii_digit()) && folder.contains('_');
    let is_kind = [".json", ".txt", ".jinja", ".model", ".md"].iter().any(|ending| name.ends_with(ending));
    (folder.is_empty() || is_module) && (is_kind || name.starts_with("LICENSE"))
}

/// A GGUF file that is a model by itself.
fn is_gguf(file: &Remote) -> bool {
    file.path.ends_with(".gguf") && !is_tower(&file.path)
}

/// A GGUF file that is the vision tower of the models beside it.
pub(crate) fn is_tower(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.starts_with("mmproj") && name.ends_with(".gguf")
}

/// The formats of a tower, the one that computes fastest at no loss first.
const TOWER_FORMATS: [&str; 4] = ["bf16", "f16", "f32", "q8_0"];

/// A GGUF file and the tower of its folder, if there is one; of several the one in the first of the formats.
fn with_tower<'a>(listing: &'a Listing, model: &'a Remote) -> Vec<&'a Remote> {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let beside = |file: &&Remote| is_tower(&file.path) && folder(&file.path) == folder(&model.path);
    let rank = |file: &&Remote| {
        let name = file.path.to_ascii_lowercase();
        // `bf16` ends in `f16`.
        let format = TOWER_FORMATS.iter().position(|format| name.contains(format)).unwrap_or(TOWER_FORMATS.len());
        (format, file.path.clone())
    };
    let tower = listing.files.iter().filter(beside).min_by_key(rank);
    std::iter::once(model).chain(tower).collect()
}

fn tagged<'a>(listing: &'a Listing, tag: &str) -> Result<&'a Remote> {
    let tag_low = tag.to_ascii_lowercase();
    let has_tag = |file: &&Remote| {
        let stem = file.path.trim_end_matches(".gguf").to_ascii_lowercase();
        let before = stem.strip_suffix(&tag_low);
        is_gguf(file) && before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_', '/']))
    };
    let found: Vec<&Remote> = listing.files.iter().filter(has_tag).collect();
    match found.as_slice() {
        [only] => Ok(only),
        [] => Err(refuse(listing, format!("no GGUF file ends in {tag:?}; {}", tags(listing)))),
        _ => Err(refuse(listing, format!("{} GGUF files end in {tag:?}; name the file with --include", found.len()))),
    }
}

fn only_gguf(listing: &Listing) -> Result<&Remote> {
    let mut found = listing.files.iter().filter(|file| is_gguf(file));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(refuse(listing, "it has neither safetensors nor a GGUF file".to_owned())),
        (Some(_), Some(_)) => Err(refuse(listing, format!("it has several GGUF files; {}", tags(listing)))),
    }
}

fn tags(listing: &Listing) -> String {
    let names = listing.files.iter().filter(|file| is_gguf(file)).map(|file| file.path.trim_end_matches(".gguf"));
    let shown: Vec<&str> = names.take(TAGS_SHOWN_MAX).collect();
    format!("add the end of one of these names as :TAG: {}", shown.join(", "))
}

fn refuse(listing: &Listing, why: String) -> Error {
    Error::Choice { repository: listing.repository.id.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::name::Wanted;
    use crate::source::{Listing, Remote};

    fn listing(names: &[&str]) -> Listing {
        let file = |name: &&str| Remote { path: (*name).to_owned(), size_bytes: 1, digest: None };
        let repository = Wanted::parse("a/b").unwrap().repository;
        Listing { repository, revision: "main".to_owned(), files: names.iter().map(file).collect() }
    }

    fn chosen(names: &[&str], wanted: &str, include: &[&str]) -> Result<(Vec<String>, Option<String>), String> {
        let include: Vec<String> = include.iter().map(|&pattern| pattern.to_owned()).collect();
        let chosen = choose(&listing(names), &Wanted::parse(wanted).unwrap(), &include);
        let chosen = chosen.map_err(|error| error.to_string())?;
        Ok((chosen.files.into_iter().map(|file| file.path).collect(), chosen.main))
    }

    #[test]
    fn a_folder_is_taken_without_its_other_forms() {
        let all = [
            ".gitattributes",
            "LICENSE",
            "README.md",
            "config.json",
            "tokenizer.json",
            "merges.txt",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "1_Pooling/config.json",
            "original/model.safetensors",
            "model.gguf",
        ];
        let expected = [
            "LICENSE",
            "README.md",
            "config.json",
            "tokenizer.json",
            "merges.txt",
            "model.safetensors",
            "1_Pooling/config.json",
        ];
        assert_eq!(chosen(&all, "a/b", &[]).unwrap(), (expected.map(str::to_owned).to_vec(), None));
    }

    #[test]
    fn a_tag_names_one_of_several_gguf_files() {
        let all = ["README.md", "x-Q4_K_M.gguf", "x-IQ4_K_M.gguf", "x-Q8_0.gguf", "y/x-Q8_0.gguf"];
        let one = |name: &str| Ok((vec![name.to_owned()], Some(name.to_owned())));
        assert_eq!(chosen(&all, "a/b:q4_k_m", &[]), one("x-Q4_K_M.gguf"));
        assert_eq!(chosen(&["x.gguf"], "a/b", &[]), one("x.gguf"));
        assert_eq!(chosen(&all, "a/b", &["y/*.gguf"]), one("y/x-Q8_0.gguf"));
        assert!(chosen(&all, "a/b", &[]).unwrap_err().contains("x-IQ4_K_M"));
        assert!(chosen(&all, "a/b:Q8_0", &[]).unwrap_err().contains("2 GGUF files"));
        assert!(chosen(&all, "a/b:Q5_0", &[]).unwrap_err().contains("x-Q4_K_M"));
        assert!(chosen(&all, "a/b", &["*.bin"]).unwrap_err().contains("*.bin"));
        assert!(chosen(&["a.bin"], "a/b", &[]).unwrap_err().contains("neither safetensors"));
    }

    #[test]
    fn a_vision_tower_comes_with_its_model() {
        let all = ["x-Q4_0.gguf", "x-Q8_0.gguf", "mmproj-x-f32.gguf", "mmproj-x-F16.gguf", "old/mmproj-x-BF16.gguf"];
        let (files, main) = chosen(&all, "a/b:q8_0", &[]).unwrap();
        assert_eq!(files, ["x-Q8_0.gguf", "mmproj-x-F16.gguf"]);
        assert_eq!(main.unwrap(), "x-Q8_0.gguf");
        let (files, _) = chosen(&["x.gguf", "mmproj.gguf"], "a/b", &[]).unwrap();
        assert_eq!(files, ["x.gguf", "mmproj.gguf"], "one model, whatever stands beside it");
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        assert!(chosen(&["config.json", "../../x.safetensors"], "a/b", &[]).unwrap_err().contains("../../x"));
        assert!(chosen(&["config.json", "config.json"], "a/b", &[]).unwrap_err().contains("twice"));
    }
}
