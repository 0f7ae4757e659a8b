//! For tests of whatever stands on a database.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{AssertSqlSafe, Database, Place, Result};

/// A schema of a server that holds nothing yet. Its name begins like this, and ends so that no other test has it.
///
/// # Errors
/// If the server is not there, or has it already.
pub async fn empty_schema(url: &str, name: &str) -> Result<Place> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{name}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    let database = Database::open(Place::Postgres(url.to_owned()), &[]).await?;
    let make = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
    let made = database.write_soon(move |connection| {
        Box::pin(async move { crate::query(make).execute(connection).await.map_err(crate::Error::from) })
    });
    made.await?;
    Ok(Place::Postgres(format!("{url}?options=-csearch_path%3D{name}")))
}
