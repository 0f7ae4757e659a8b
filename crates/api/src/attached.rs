//! Pictures that a request names by the id of a file that its caller uploaded: the bytes are put in their places before
//! anybody else sees the request.
//!
//! Files are looked for in the caller's project only, and among those of the dialect that was spoken, so that what is
//! somebody else's cannot be told from what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat::{Caller, GenerateRequest, ImageSource, Message, Prompt};
use futures::TryStreamExt as _;

use crate::App;
use crate::files::{Files, Head};

/// Bytes of a picture: as many as of one that is fetched.
const PICTURE_BYTES_MAX: u64 = 20 << 20;
/// Different files of one request.
const FILES_MAX: usize = 64;
/// Bytes of all of them: as many as could come in a body.
const BYTES_MAX: u64 = 64 << 20;

/// Why a file is not seen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is none of this id for this caller.
    Unknown(String),
    /// It can never be seen, with the reason.
    Unfit { id: String, why: String },
    /// A request names too many.
    TooMany(String),
    /// It could not be read.
    Store(store::Error),
}

/// Puts files in their places. `is_seen` says which files this dialect shows its callers.
///
/// Cost: each file is read once, however often it is named.
pub(crate) async fn fill(
    app: &App,
    caller: Option<&Caller>,
    is_seen: fn(&Head) -> bool,
    requests: &mut [GenerateRequest],
) -> Result<(), Fault> {
    let named: BTreeSet<String> = sources(requests).filter_map(|source| id_of(source)).collect();
    if named.len() > FILES_MAX {
        return Err(Fault::TooMany(format!("{} files are named as pictures, {FILES_MAX} may be", named.len())));
    }
    let files = Files::of(&app.objects, caller);
    let (mut opened, mut bytes) = (BTreeMap::new(), 0);
    for id in named {
        let head = files.get(&id, app.clock.now_ms()).await.map_err(Fault::Store)?.filter(is_seen);
        let Some(head) = head else { return Err(Fault::Unknown(id)) };
        bytes += head.size_bytes;
        if head.size_bytes > PICTURE_BYTES_MAX {
            let why = format!("it has {} bytes, a picture may have {PICTURE_BYTES_MAX}", head.size_bytes);
            return Err(Fault::Unfit { id, why });
        }
        if bytes > BYTES_MAX {
            let why = format!("with it the pictures of this request have {bytes} bytes, {BYTES_MAX} are allowed");
            return Err(Fault::Unfit { id, why });
        }
        let picture = read(&files, head).await?;
        if !is_picture(&picture) {
            let why = "it is no picture; PNG, JPEG, GIF and WebP are".to_owned();
            return Err(Fault::Unfit { id, why });
        }
        opened.insert(id, picture);
    }
    for source in sources(requests) {
        if let Some(picture) = id_of(source).and_then(|id| opened.get(&id)) {
            *source = ImageSource::Bytes(Arc::clone(picture));
        }
    }
    Ok(())
}

fn sources(requests: &mut [GenerateRequest]) -> impl Iterator<Item = &mut ImageSource> {
    let messages = requests.iter_mut().flat_map(|request| match &mut request.prompt {
        Prompt::Messages(messages) => messages.as_mut_slice(),
        Prompt::Text(_) | Prompt::Tokens(_) => &mut [],
    });
    messages.flat_map(Message::sources_mut)
}

fn id_of(source: &ImageSource) -> Option<String> {
    match source {
        ImageSource::File(id) => Some(id.clone()),
        ImageSource::Bytes(_) | ImageSource::Url(_) => None,
    }
}

async fn read(files: &Files, head: Head) -> Result<Arc<[u8]>, Fault> {
    let id = head.id.clone();
    let parts: Result<Vec<_>, store::Error> = files.clone().content(head).try_collect().await;
    match parts {
        Ok(parts) => Ok(parts.concat().into()),
        // It was deleted a moment ago.
        Err(error) if error.is_not_found() => Err(Fault::Unknown(id)),
        Err(error) => Err(Fault::Store(error)),
    }
}

/// Whether these bytes begin as one of the formats that models are shown.
fn is_picture(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x89, b'P', b'N', b'G', ..]
            | [0xff, 0xd8, 0xff, ..]
            | [b'G', b'I', b'F', b'8', ..]
            | [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..]
    )
}
