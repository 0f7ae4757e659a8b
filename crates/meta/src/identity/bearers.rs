//! Whose a key is, looked up in one query for all who ask while the last one runs.
//!
//! Every request asks. A connection of the pool would be taken out, checked and put back for each, which costs several
//! times what the query does; so one connection is kept for this, and a task that owns it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{mpsc, oneshot};

use crate::{Connection, Database, Error, Result};

/// Who asks and has no answer yet; whoever comes later waits to be let in.
const ASKING_MAX: usize = 1024;
/// Places for keys in the queries, so that there are few of them: the first with enough is taken.
const PLACES: [usize; 4] = [1, 4, 16, 64];
/// Keys of one query.
const TOGETHER_MAX: usize = PLACES[PLACES.len() - 1];
/// Where the hash stands in the row.
const HASH: usize = 11;

type Hash = [u8; 32];
type Found = Option<Arc<AnyRow>>;
type Asked = (Hash, oneshot::Sender<Result<Found>>);

/// The row of a key: `k.id, k.role, k.scopes, k.expires_ms, k.revoked_ms, p.id, p.closed_ms, o.id, o.closed_ms,
/// o.runs_place, k.used_ms, k.hash`.
#[derive(Default)]
pub(super) struct Bearers(OnceLock<mpsc::Sender<Asked>>);

impl Bearers {
    /// The row of the key with this hash, as it stands in the database now.
    pub(super) async fn find(&self, database: &Database, hash: Hash) -> Result<Found> {
        let (tell, told) = oneshot::channel();
        let asking = self.0.get_or_init(|| {
            let (asking, asked) = mpsc::channel(ASKING_MAX);
            tokio::spawn(answer_until_closed(database.clone(), asked));
            asking
        });
        asking.send((hash, tell)).await.map_err(|_| Error::Gone)?;
        told.await.unwrap_or(Err(Error::Gone))
    }
}

async fn answer_until_closed(database: Database, mut asked: mpsc::Receiver<Asked>) {
    let mut connection = None;
    let mut together = Vec::with_capacity(TOGETHER_MAX);
    while asked.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let mut hashes: Vec<Hash> = together.iter().map(|(hash, _)| *hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let is_kept = connection.is_some();
        let mut found = find_all(&database, &mut connection, &hashes).await;
        if found.is_err() && is_kept {
            // A server that was away has closed what it was asked on before.
            found = find_all(&database, &mut connection, &hashes).await;
        }
        for (hash, tell) in together.drain(..) {
            // Whoever asked may have gone.
            let _ = tell.send(match &found {
                Ok(rows) => Ok(rows.get(&hash).cloned()),
                Err(error) => Err(Error::Unread { why: crate::chain(error) }),
            });
        }
    }
}

/// The rows of those that there are. After an error the connection is gone.
async fn find_all(
    database: &Database,
    kept: &mut Option<Connection>,
    hashes: &[Hash],
) -> Result<HashMap<Hash, Arc<AnyRow>>> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => database.read().await?.detach(),
    };
    let count = PLACES.into_iter().find(|&count| count >= hashes.len()).expect("no more are taken at once");
    let places: Vec<String> = (1..=count).map(|place| format!("${place}")).collect();
    let query = format!(
        "SELECT k.id, k.role, k.scopes, k.expires_ms, k.revoked_ms, p.id, p.closed_ms, o.id, o.closed_ms,
                o.runs_place, k.used_ms, k.hash
         FROM keys k JOIN projects p ON p.id = k.project_id JOIN organisations o ON o.id = p.organisation_id
         WHERE k.hash IN ({})",
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for place in 0..count {
        // Places without a key of their own repeat the last one.
        query = query.bind(hashes[place.min(hashes.len() - 1)].to_vec());
    }
    let rows = query.fetch_all(&mut connection).await?;
    *kept = Some(connection);
    let hashed = |row: AnyRow| {
        let hash = row.try_get::<Vec<u8>, _>(HASH)?;
        let hash = Hash::try_from(hash).map_err(|_| Error::Row { what: "a key", why: "its hash".to_owned() })?;
        Ok((hash, Arc::new(row)))
    };
    rows.into_iter().map(hashed).collect()
}
