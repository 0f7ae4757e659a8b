//! A fresh database, whichever it is.

use std::sync::Arc;

use base::{ManualClock, SeededEntropy};
use meta::testing::empty_schema;
use meta::{Database, Directory, Faults, Place, SCHEMA, Schema};
use tempfile::TempDir;

/// The time at which every test begins.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// A database of one test.
pub(crate) struct Fresh {
    pub(crate) place: Place,
    _folder: TempDir,
}

/// A place that holds nothing yet: a file, or a schema of its own on the server.
#[expect(clippy::disallowed_methods, reason = "the script that starts a server says where it is")]
pub(crate) async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let place = match std::env::var("SAMPAN_TEST_POSTGRES") {
        Ok(url) => empty_schema(&url, "meta").await.unwrap(),
        Err(_) => Place::File(folder.path().join("a name with spaces?.db")),
    };
    Fresh { place, _folder: folder }
}

impl Fresh {
    pub(crate) async fn open(&self) -> Database {
        Database::open(self.place.clone(), &[SCHEMA]).await.unwrap()
    }

    pub(crate) async fn open_with(&self, schema: Schema, faults: Arc<dyn Faults>) -> Database {
        Database::open_with(self.place.clone(), &[schema], Some(faults)).await.unwrap()
    }
}

pub(crate) fn directory(database: Database) -> (Directory, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::starting_at(NOW_MS));
    let shared: Arc<dyn base::Clock> = Arc::<ManualClock>::clone(&clock);
    (Directory::new(database, shared, Arc::new(SeededEntropy::new(1))), clock)
}
