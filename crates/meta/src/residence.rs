//! Where data may be kept and computed on, as it stands with the accounts: two settings, `data_region` and
//! `compute_scope`, of organisations, projects, keys, vector buckets and models. Each is a list of regions and
//! jurisdictions with commas between; what is not set allows everything. This module keeps them; who obeys them, and
//! what the names mean, is in `route`.

use futures::FutureExt as _;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::{Connection, Database, Error, Result, Schema};

/// Names of one list.
const PLACES_MAX: usize = 64;
/// Bytes of a name of a region or jurisdiction.
const PLACE_BYTES_MAX: usize = 64;
/// Bytes of a bucket's or model's name.
const NAME_BYTES_MAX: usize = 256;

/// The tables of this module; organisations, projects and keys have columns of their own in those of [`crate::SCHEMA`].
pub const RESIDENCE_SCHEMA: Schema = Schema {
    component: "residence",
    steps: &["
    CREATE TABLE residence (
        level TEXT NOT NULL, name TEXT NOT NULL, data_region TEXT, compute_scope TEXT, PRIMARY KEY (level, name)
    );
    "],
};

/// What a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resident {
    /// An organisation.
    Organisation,
    /// A project.
    Project,
    /// A key.
    Key,
    /// A vector bucket.
    Bucket,
    /// A model.
    Model,
}

impl Resident {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Organisation, Self::Project, Self::Key, Self::Bucket, Self::Model];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Key => "key",
            Self::Bucket => "bucket",
            Self::Model => "model",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| Error::Wrong {
            field: "level",
            value: name.to_owned(),
            allowed: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// The table whose rows have the columns; `None`: they stand in a table of their own.
    fn table(self) -> Option<&'static str> {
        match self {
            Self::Organisation => Some("organisations"),
            Self::Project => Some("projects"),
            Self::Key => Some("keys"),
            Self::Bucket | Self::Model => None,
        }
    }
}

/// The two settings of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residence {
    /// What it belongs to.
    pub level: Resident,
    /// Its id; of buckets and models the name.
    pub id: String,
    /// Its name among people.
    pub name: String,
    /// Where data may be kept; `None`: anywhere.
    pub data_region: Option<Vec<String>>,
    /// Where it may be computed on; `None`: anywhere.
    pub compute_scope: Option<Vec<String>>,
}

/// Everything that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Residences {
    /// Every thing that has a setting.
    pub all: Vec<Residence>,
    /// The id of each project, with that of its organisation.
    pub organisations: Vec<(String, String)>,
}

impl Residences {
    /// Reads all settings of a database that was opened with [`crate::SCHEMA`] and [`RESIDENCE_SCHEMA`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(database: &Database) -> Result<Self> {
        let mut connection = database.read().await?;
        let mut all = Vec::new();
        for level in Resident::ALL {
            let query = match level.table() {
                Some(table) => format!(
                    "SELECT id, name, data_region, compute_scope FROM {table}
                     WHERE data_region IS NOT NULL OR compute_scope IS NOT NULL ORDER BY name, id"
                ),
                None => format!(
                    "SELECT name, name, data_region, compute_scope FROM residence WHERE level = '{}' ORDER BY name",
                    level.name()
                ),
            };
            let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *connection).await?;
            for row in &rows {
                all.push(residence(level, row)?);
            }
        }
        let rows = sqlx::query("SELECT id, organisation_id FROM projects ORDER BY id").fetch_all(&mut *connection);
        let rows = rows.await?;
        let pair = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
        Ok(Self { all, organisations: rows.iter().map(pair).collect::<Result<_>>()? })
    }

    /// Sets both settings of a thing; organisations and projects are named by id or name.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such thing; [`Error::Wrong`] if a place is not written as one, or several
    /// things have this name.
    pub async fn set(
        database: &Database,
        level: Resident,
        name: &str,
        data_region: Option<&[String]>,
        compute_scope: Option<&[String]>,
    ) -> Result<()> {
        let data_region = data_region.map(|places| written("data_region", places)).transpose()?;
        let compute_scope = compute_scope.map(|places| written("compute_scope", places)).transpose()?;
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
            let allowed = format!("1 to {NAME_BYTES_MAX} bytes without control characters");
            return Err(Error::Wrong { field: level.name(), value: name.to_owned(), allowed });
        }
        let name = name.to_owned();
        let written = database.write(move |connection| {
            async move {
                match level.table() {
                    Some(table) => set_columns(connection, level, table, &name, [data_region, compute_scope]).await,
                    None => set_row(connection, level, &name, [data_region, compute_scope]).await,
                }
            }
            .boxed()
        });
        written.await
    }
}

async fn set_columns(
    connection: &mut Connection,
    level: Resident,
    table: &str,
    name: &str,
    [data_region, compute_scope]: [Option<String>; 2],
) -> Result<()> {
    let query = match level {
        // Keys have names that many share.
        Resident::Key => format!("SELECT id FROM {table} WHERE id = $1"),
        _ => format!("SELECT id FROM {table} WHERE id = $1 OR name = $1 LIMIT 2"),
    };
    let rows = sqlx::query(AssertSqlSafe(query)).bind(name).fetch_all(&mut *connection).await?;
    let id: String = match rows.as_slice() {
        [] => return Err(Error::Missing { what: level.name(), name: name.to_owned() }),
        [one] => one.try_get(0)?,
        _ => {
            let allowed = "the id of one, several have this name".to_owned();
            return Err(Error::Wrong { field: level.name(), value: name.to_owned(), allowed });
        }
    };
    let query = format!("UPDATE {table} SET data_region = $1, compute_scope = $2 WHERE id = $3");
    sqlx::query(AssertSqlSafe(query)).bind(data_region).bind(compute_scope).bind(id).execute(connection).await?;
    Ok(())
}

async fn set_row(
    connection: &mut Connection,
    level: Resident,
    name: &str,
    [data_region, compute_scope]: [Option<String>; 2],
) -> Result<()> {
    let query = if data_region.is_none() && compute_scope.is_none() {
        sqlx::query("DELETE FROM residence WHERE level = $1 AND name = $2").bind(level.name()).bind(name)
    } else {
        let query = "INSERT INTO residence (level, name, data_region, compute_scope) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (level, name)
                     DO UPDATE SET data_region = excluded.data_region, compute_scope = excluded.compute_scope";
        sqlx::query(query).bind(level.name()).bind(name).bind(data_region).bind(compute_scope)
    };
    query.execute(connection).await?;
    Ok(())
}

/// A list as it is kept. An empty one is nowhere, and is kept as such.
fn written(field: &'static str, places: &[String]) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_place = |place: &String| (1..=PLACE_BYTES_MAX).contains(&place.len()) && place.bytes().all(is_plain);
    match places.len() <= PLACES_MAX && places.iter().all(is_place) {
        true => Ok(places.join(",")),
        false => {
            let allowed = format!("up to {PLACES_MAX} names of letters, digits and -");
            Err(Error::Wrong { field, value: places.join(","), allowed })
        }
    }
}

fn residence(level: Resident, row: &AnyRow) -> Result<Residence> {
    let places = |column: usize| -> Result<Option<Vec<String>>> {
        let kept: Option<String> = row.try_get(column)?;
        let list = |kept: String| {
            kept.split(',').map(str::trim).filter(|place| !place.is_empty()).map(str::to_owned).collect()
        };
        Ok(kept.map(list))
    };
    Ok(Residence {
        level,
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        data_region: places(2)?,
        compute_scope: places(3)?,
    })
}
