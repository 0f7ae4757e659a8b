//! Pictures and videos in messages: where their bytes are.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::{Error, Result};

/// Clients pad base64 or do not; both mean the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a picture's bytes are.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageSource {
    /// The encoded file (PNG, JPEG, WebP, GIF) itself.
    Bytes(Arc<[u8]>),
    /// An address: `data:` with base64 is the file itself; anything else has to be fetched by somebody first.
    Url(String),
    /// The id of a file that the caller uploaded. Whoever keeps such files puts the bytes in its place; no model sees
    /// it.
    File(String),
}

impl ImageSource {
    /// The bytes of the file, where they are at hand.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an address that nobody fetched, a file that nobody opened, and a `data:` address that
    /// is not base64.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let url = match self {
            Self::Bytes(bytes) => return Ok(Cow::Borrowed(bytes)),
            Self::Url(url) => url,
            Self::File(id) => {
                let what = format!("a picture in the file {:?}", shortened(id));
                return Err(Error::Unsupported { what, why: "nobody opened it".to_owned() });
            }
        };
        let refused = |why: String| Error::Unsupported { what: format!("a picture at {:?}", shortened(url)), why };
        let Some(data) = url.strip_prefix("data:") else {
            return Err(refused("nobody fetched it; send it as a data: address".to_owned()));
        };
        let Some((_, text)) = data.split_once(";base64,") else {
            return Err(refused("a data: address must say ;base64,".to_owned()));
        };
        // Some encoders break lines.
        let is_broken = text.bytes().any(|byte| byte.is_ascii_whitespace());
        let compact = if is_broken { Cow::Owned(text.split_ascii_whitespace().collect()) } else { Cow::Borrowed(text) };
        let bytes = BASE64.decode(compact.as_bytes()).map_err(|why| refused(format!("it is not base64: {why}")))?;
        Ok(Cow::Owned(bytes))
    }

    /// The address that has to be fetched, if there is one.
    #[must_use]
    pub fn remote(&self) -> Option<&str> {
        match self {
            Self::Url(url) if !url.starts_with("data:") => Some(url),
            Self::Url(_) | Self::Bytes(_) | Self::File(_) => None,
        }
    }
}

/// As much of an address as a person needs to recognise it.
fn shortened(url: &str) -> String {
    const SHOWN: usize = 60;
    match url.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &url[..end]),
        None => url.to_owned(),
    }
}

/// A video.
#[derive(Debug, Clone, PartialEq)]
pub enum Video {
    /// One file; its frames say themselves when they come.
    File(ImageSource),
    /// Pictures of equal size, one after the other.
    Frames {
        /// The pictures in order.
        frames: Vec<ImageSource>,
        /// How many of them make a second; `None`: two, as the models were trained on.
        per_second: Option<f32>,
    },
}

#[cfg(test)]
mod tests {
    use super::ImageSource;

    fn bytes(url: &str) -> Result<Vec<u8>, String> {
        ImageSource::Url(url.to_owned()).bytes().map(|bytes| bytes.into_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn data_addresses_are_the_file_itself() {
        for url in ["data:image/png;base64,aGk=", "data:;base64,aGk", "data:image/png;base64,a\nGk=\n"] {
            assert_eq!(bytes(url).unwrap(), b"hi", "{url}");
        }
        assert_eq!(ImageSource::Bytes((*b"hi").into()).bytes().unwrap(), &b"hi"[..]);
    }

    #[test]
    fn what_is_no_data_is_refused_by_name() {
        for (url, word) in [
            ("data:image/png,hi", ";base64"),
            ("data:image/png;base64,???", "not base64"),
            ("https://example.org/a.png", "nobody fetched"),
            ("file:///etc/passwd", "nobody fetched"),
        ] {
            let error = bytes(url).unwrap_err();
            assert!(error.contains(word) && error.contains(&url[..9]), "{error}");
        }
        let file = ImageSource::File("file-1".to_owned());
        assert!(file.bytes().unwrap_err().to_string().contains("file-1") && file.remote().is_none());
        let long = format!("data:image/png,{}", "é".repeat(100));
        assert!(bytes(&long).unwrap_err().len() < 200);
    }
}
