//! Pictures and clips in requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chat::{ImageSource, Video};
use serde_json::Value;

use super::unsupported;
use crate::Fault;

/// The address of a picture, or the picture itself as a `data:` address.
pub(super) fn image_url(source: &ImageSource) -> Result<String, Fault> {
    match source {
        ImageSource::Url(url) => Ok(url.clone()),
        ImageSource::Bytes(bytes) => Ok(format!("data:{};base64,{}", image_type(bytes)?, encoded(bytes))),
        ImageSource::File(id) => Err(unopened(id)),
    }
}

/// A file is its caller's: no upstream has it.
pub(super) fn unopened(id: &str) -> Fault {
    unsupported(&format!("a picture in the file {id:?}"), "nobody opened it")
}

/// The address of a clip, or the clip itself as a `data:` address; a list of those of its frames.
pub(super) fn video(video: &Video) -> Result<Value, Fault> {
    match video {
        Video::File(ImageSource::Url(url)) => Ok(url.as_str().into()),
        Video::File(ImageSource::Bytes(bytes)) => Ok(format!("data:video/mp4;base64,{}", encoded(bytes)).into()),
        Video::File(ImageSource::File(id)) => Err(unopened(id)),
        Video::Frames { frames, .. } => frames.iter().map(|frame| image_url(frame).map(Value::from)).collect(),
    }
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What kind of picture these bytes are, by their first bytes.
pub(super) fn image_type(bytes: &[u8]) -> Result<&'static str, Fault> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Ok("image/png"),
        [0xff, 0xd8, 0xff, ..] => Ok("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Ok("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok("image/webp"),
        [] => Err(unsupported("a picture", "it is empty")),
        _ => Err(unsupported("a picture", "it is neither PNG, JPEG, GIF nor WebP")),
    }
}
