//! The repository's own rules. They run as tests (`cargo test -p xtask`), so nobody has to argue about them.
//!
//! * [`layers`]: which crate may use which.
//! * [`tree`]: what the files themselves must look like.

pub mod layers;
pub mod tree;

use std::path::{Path, PathBuf};

/// The root of the repository.
///
/// # Panics
/// If this crate no longer lies one folder below the root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one folder below the root").to_owned()
}
