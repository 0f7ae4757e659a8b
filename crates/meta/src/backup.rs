//! The whole database as one file, made while it is in use, and a database made of such a file.
//!
//! The file is a SQLite database, whichever kind it was taken from. So a backup of one kind is restored into the other,
//! which is also how an installation moves from a file to a server.

use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Connection as _, Row as _};

use crate::database::{Database, Flavour, Place, options};
use crate::schema::begin;
use crate::{Connection, Error, Result, Schema, writer};

/// Values of one statement that copies rows.
const VALUES_MAX: usize = 1000;

/// Tables and their columns, in the order in which they refer to each other.
struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
    /// The column that counts by itself.
    counter: Option<String>,
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

impl Database {
    /// Writes the database as it is at one moment to a new file, while others go on reading and writing.
    ///
    /// # Errors
    /// [`Error::Exists`] if the file is there; if it cannot be written or the database not be read.
    pub async fn back_up(&self, file: &Path) -> Result<()> {
        refuse_used(file).await?;
        let partial = beside(file, ".partial");
        let _ = tokio::fs::remove_file(&partial).await;
        let made = match self.flavour() {
            Flavour::Sqlite => self.vacuum_into(&partial).await,
            Flavour::Postgres => self.copy_into(&partial).await,
        };
        let made = match made {
            Ok(()) => publish(&partial, file).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            let _ = tokio::fs::remove_file(&partial).await;
        }
        made
    }

    async fn vacuum_into(&self, partial: &Path) -> Result<()> {
        make_private(partial).await?;
        let mut connection = writer::connect(self.flavour(), &options(self.place())?).await?;
        let target = partial.display().to_string();
        sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn copy_into(&self, partial: &Path) -> Result<()> {
        make_private(partial).await?;
        let mut from = writer::connect(self.flavour(), &options(self.place())?).await?;
        let mut to = writer::connect(Flavour::Sqlite, &options(&Place::File(partial.to_owned()))?).await?;
        for schema in self.schemas() {
            schema.apply(Flavour::Sqlite, &mut to).await?;
        }
        // One snapshot for all tables, however long reading them takes.
        sqlx::query("SET statement_timeout = 0").execute(&mut from).await?;
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut from).await?;
        let tables = tables(&mut to).await?;
        sqlx::query(begin(Flavour::Sqlite)).execute(&mut to).await?;
        copy(&mut from, &mut to, Flavour::Sqlite, &tables).await?;
        sqlx::query("COMMIT").execute(&mut to).await?;
        sqlx::query("ROLLBACK").execute(&mut from).await?;
        from.close().await?;
        Ok(to.close().await?)
    }
}

/// Makes a database of a file that [`Database::back_up`] wrote. A file of an older program is brought up to date.
///
/// # Errors
/// [`Error::Exists`] if there is a database already; [`Error::NewerSchema`] if a newer program wrote the file;
/// [`Error::Place`] if it is no backup. Nothing is left behind then.
pub async fn restore(file: &Path, place: &Place, schemas: &[Schema]) -> Result<()> {
    sqlx::any::install_default_drivers();
    let unusable = |why: String| Error::Place { place: file.display().to_string(), why };
    let length = tokio::fs::metadata(file).await.map_err(|error| unusable(error.to_string()))?.len();
    if length == 0 {
        return Err(unusable("it is empty".to_owned()));
    }
    // Never the file itself: reading it leaves traces, and an older one is changed.
    let partial = match place {
        Place::File(target) => {
            refuse_used(target).await?;
            beside(target, ".partial")
        }
        Place::Postgres(_) => beside(file, ".partial"),
    };
    make_private(&partial).await?;
    let mut restored = tokio::fs::copy(file, &partial).await.map(|_| ()).map_err(|error| unusable(error.to_string()));
    if restored.is_ok() {
        restored = match place {
            Place::File(target) => match bring_up(&partial, file, schemas).await {
                Ok(connection) => match connection.close().await {
                    Ok(()) => publish(&partial, target).await,
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            },
            Place::Postgres(_) => into_server(&partial, file, place, schemas).await,
        };
    }
    for end in ["", "-wal", "-shm"] {
        let _ = tokio::fs::remove_file(beside(&partial, end)).await;
    }
    restored
}

/// Opens the copy of a backup, checks it and brings its tables up to date.
async fn bring_up(copy: &Path, file: &Path, schemas: &[Schema]) -> Result<Connection> {
    let unusable = |why: String| Error::Place { place: file.display().to_string(), why };
    let broken = |error: sqlx::Error| unusable(crate::chain(&error));
    let place = Place::File(copy.to_owned());
    let mut connection = writer::connect(Flavour::Sqlite, &options(&place)?).await.map_err(broken)?;
    let checked = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(broken)?;
    let found: String = checked.try_get(0)?;
    if found != "ok" {
        return Err(unusable(format!("it is damaged: {found}")));
    }
    let versions = sqlx::query("SELECT component, version FROM schema_versions").fetch_all(&mut connection).await;
    let versions = versions.map_err(|_| unusable("it is no backup of a database of ours".to_owned()))?;
    for row in &versions {
        let (component, found): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if !schemas.iter().any(|schema| schema.component == component) {
            return Err(Error::NewerSchema { component, found, known: 0 });
        }
    }
    for schema in schemas {
        schema.apply(Flavour::Sqlite, &mut connection).await?;
    }
    Ok(connection)
}

async fn into_server(copied: &Path, file: &Path, place: &Place, schemas: &[Schema]) -> Result<()> {
    let mut from = bring_up(copied, file, schemas).await?;
    let unusable = |error: sqlx::Error| Error::Place { place: place.shown(), why: crate::chain(&error) };
    let mut to = writer::connect(Flavour::Postgres, &options(place)?).await.map_err(unusable)?;
    sqlx::query("SET statement_timeout = 0").execute(&mut to).await?;
    sqlx::query(begin(Flavour::Postgres)).execute(&mut to).await?;
    let used = sqlx::query("SELECT CAST(to_regclass('schema_versions') AS TEXT)").fetch_one(&mut to).await?;
    if used.try_get::<Option<String>, _>(0)?.is_some() {
        return Err(Error::Exists { what: "database", name: place.shown() });
    }
    // Dropping the connection before the commit undoes everything.
    for schema in schemas {
        schema.apply_in_transaction(Flavour::Postgres, &mut to).await?;
    }
    let tables = tables(&mut from).await?;
    copy(&mut from, &mut to, Flavour::Postgres, &tables).await?;
    sqlx::query("COMMIT").execute(&mut to).await?;
    to.close().await?;
    Ok(from.close().await?)
}

/// The tables of a SQLite database.
async fn tables(connection: &mut Connection) -> Result<Vec<Table>> {
    let query = "SELECT m.name, c.name, UPPER(c.type), c.pk FROM sqlite_master m JOIN pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite@_%' ESCAPE '@' ORDER BY m.rowid, c.cid";
    let mut tables: Vec<Table> = Vec::new();
    for row in sqlx::query(query).fetch_all(connection).await? {
        let (name, column, spelled): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        for text in [&name, &column] {
            // They become part of statements, and a file may come from anywhere.
            if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                let allowed = "a to z, digits and _".to_owned();
                return Err(Error::Wrong { field: "the name of a table or column", value: text.clone(), allowed });
            }
        }
        let kind = match spelled.as_str() {
            "BIGINT" | "INTEGER" => Kind::Number,
            "TEXT" => Kind::Text,
            "BLOB" => Kind::Bytes,
            _ => {
                let (field, allowed) = ("the type of a column", "BIGINT, INTEGER, TEXT or BLOB".to_owned());
                return Err(Error::Wrong { field, value: format!("{name}.{column} {spelled}"), allowed });
            }
        };
        if tables.last().is_none_or(|table| table.name != name) {
            tables.push(Table { name, columns: Vec::new(), counter: None });
        }
        let table = tables.last_mut().expect("there is one at least");
        if spelled == "INTEGER" && row.try_get::<i64, _>(3)? == 1 {
            table.counter = Some(column.clone());
        }
        table.columns.push((column, kind));
    }
    Ok(tables)
}

/// Copies all rows. What the tables had, from the steps that made them, goes.
async fn copy(from: &mut Connection, to: &mut Connection, flavour: Flavour, tables: &[Table]) -> Result<()> {
    for table in tables.iter().rev() {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name))).execute(&mut *to).await?;
    }
    for table in tables {
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        let select = AssertSqlSafe(format!("SELECT {} FROM {}", names.join(", "), table.name));
        let at_once = (VALUES_MAX / names.len()).max(1);
        let mut rows = sqlx::query(select).fetch(&mut *from);
        let mut waiting = Vec::with_capacity(at_once);
        while let Some(row) = rows.try_next().await? {
            waiting.push(row);
            if waiting.len() == at_once {
                insert(to, flavour, table, &waiting).await?;
                waiting.clear();
            }
        }
        insert(to, flavour, table, &waiting).await?;
        if let (Flavour::Postgres, Some(counter)) = (flavour, &table.counter) {
            let Table { name, .. } = table;
            let text = format!(
                "SELECT setval(pg_get_serial_sequence('{name}', '{counter}'),
                 (SELECT COALESCE(MAX({counter}), 1) FROM {name}), EXISTS (SELECT 1 FROM {name}))"
            );
            sqlx::query(AssertSqlSafe(text)).execute(&mut *to).await?;
        }
    }
    Ok(())
}

async fn insert(to: &mut Connection, flavour: Flavour, table: &Table, rows: &[AnyRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    let width = names.len();
    let places = |row: usize| {
        let row: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", row.join(", "))
    };
    let all: Vec<String> = (0..rows.len()).map(places).collect();
    let own_numbers = if flavour == Flavour::Postgres { "OVERRIDING SYSTEM VALUE " } else { "" };
    let (name, names, all) = (&table.name, names.join(", "), all.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(format!("INSERT INTO {name} ({names}) {own_numbers}VALUES {all}")));
    for row in rows {
        for (column, (_, kind)) in table.columns.iter().enumerate() {
            query = bind(query, row, column, *kind)?;
        }
    }
    query.execute(to).await?;
    Ok(())
}

type Filled = Query<'static, Any, AnyArguments>;

fn bind(query: Filled, row: &AnyRow, column: usize, kind: Kind) -> Result<Filled> {
    Ok(match kind {
        Kind::Number => query.bind(row.try_get::<Option<i64>, _>(column)?),
        Kind::Text => query.bind(row.try_get::<Option<String>, _>(column)?),
        Kind::Bytes => query.bind(row.try_get::<Option<Vec<u8>>, _>(column)?),
    })
}

/// Refuses a file that holds something.
async fn refuse_used(file: &Path) -> Result<()> {
    match tokio::fs::metadata(file).await {
        Ok(found) if found.len() > 0 => Err(Error::Exists { what: "file", name: file.display().to_string() }),
        _ => Ok(()),
    }
}

/// An empty file for this user's eyes only: the database names everybody.
async fn make_private(file: &Path) -> Result<()> {
    let mut open = tokio::fs::OpenOptions::new();
    open.create(true).write(true).truncate(true);
    #[cfg(unix)]
    open.mode(0o600);
    open.open(file).await.map(|_| ()).map_err(|error| unwritable(file, &error))
}

/// Gives a file that is whole its name, and brings both to the disk.
async fn publish(partial: &Path, file: &Path) -> Result<()> {
    let (from, to) = (partial.to_owned(), file.to_owned());
    let done = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        std::fs::File::open(&from)?.sync_all()?;
        std::fs::rename(&from, &to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    });
    match done.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unwritable(file, &error)),
        Err(_) => Err(Error::Gone),
    }
}

fn unwritable(file: &Path, error: &std::io::Error) -> Error {
    Error::Place { place: file.display().to_string(), why: error.to_string() }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
