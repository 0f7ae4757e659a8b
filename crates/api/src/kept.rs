//! JSON objects on a store: what the API keeps for its callers, each project's in a folder of its own.
//!
//! Whose data may not lie on this machine leaves nothing here. What lies here already, because a setting is younger,
//! can be read, so that it can be taken elsewhere, and deleted.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use chat::Caller;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Error, Name, Store};

/// Says why what a caller leaves, and a model of this name makes of it, may not be kept on this machine. The name is
/// empty where there is no model.
pub type MayKeep = Arc<dyn Fn(Option<&Caller>, &str) -> Result<(), String> + Send + Sync>;

/// `<kind>/<project>`. A project's name may hold anything; bytes that an object's name cannot have are written as two
/// hexadecimal digits behind an underscore, and a long name as its beginning and a checksum.
pub(crate) fn folder(kind: &str, caller: Option<&Caller>) -> Name {
    const PLAIN_MAX: usize = 80;
    let project = caller.map_or("-", |caller| &*caller.project);
    let mut part = String::new();
    for byte in project.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => part.push(char::from(byte)),
            _ => part.push_str(&format!("_{byte:02x}")),
        }
    }
    if part.len() > PLAIN_MAX {
        // FNV-1a over the whole name: two long names that begin alike stay apart.
        let hash = project
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        part.truncate(PLAIN_MAX);
        part.push_str(&format!(".{hash:016x}"));
    }
    let part = if part.is_empty() { "_" } else { &part };
    Name::parse(&format!("{kind}/{part}")).expect("letters, digits, underscores, dots and hyphens")
}

/// Who asks, where there are accounts.
pub(crate) type Who = Option<Extension<Caller>>;

/// Whose things a request may see.
pub(crate) fn owner_of(who: Who) -> Option<Caller> {
    who.map(|Extension(caller)| caller)
}

/// Reads an object. `None` if it is not there.
pub(crate) async fn read<T: DeserializeOwned>(
    objects: &dyn Store,
    name: &Name,
    bytes_max: u64,
) -> store::Result<Option<T>> {
    match objects.get(name, bytes_max).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|why| Error::Io {
            action: "read as JSON",
            what: name.to_string(),
            source: why.into(),
        }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates or replaces an object; durable when it has answered.
pub(crate) async fn write(
    objects: &dyn Store,
    name: &Name,
    value: &impl Serialize,
    bytes_max: u64,
) -> store::Result<()> {
    let bytes = serde_json::to_vec(value).expect("wire structs have string keys");
    if bytes.len() as u64 > bytes_max {
        let (name, size_bytes) = (name.clone(), bytes.len() as u64);
        return Err(Error::TooLarge { name, size_bytes, limit_bytes: bytes_max });
    }
    objects.put(name, Bytes::from(bytes)).await
}

/// Removes every object below a folder.
pub(crate) async fn delete_below(objects: &dyn Store, folder: &Name) -> store::Result<()> {
    const PAGE: usize = 256;
    // Ends: every round removes what it found.
    loop {
        let entries = objects.list_after(folder, None, PAGE).await?;
        for entry in &entries {
            objects.delete(&entry.name).await?;
        }
        if entries.len() < PAGE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chat::{Caller, Priority};

    use super::folder;

    #[test]
    fn projects_have_folders_of_their_own() {
        let of = |project: &str| {
            let caller = Caller { project: Arc::from(project), key: Arc::from("k"), priority: Priority::Normal };
            folder("responses", Some(&caller)).to_string()
        };
        assert_eq!(of("acme-1"), "responses/acme-1");
        assert_eq!(of("a/../b c"), "responses/a_2f_2e_2e_2fb_20c");
        assert_eq!(of(""), "responses/_");
        assert_eq!(folder("responses", None).to_string(), "responses/-");
        let (one, other) = ("x".repeat(300) + "1", "x".repeat(300) + "2");
        assert_ne!(of(&one), of(&other));
        assert!(of(&one).len() < 120);
    }
}
