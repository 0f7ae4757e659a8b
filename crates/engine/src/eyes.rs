//! What a model sees: pictures and clips of a request, decoded, measured, and turned into features by the tower.
//!
//! Whoever sends the same picture again does not wait for the tower again: features are kept by the BLAKE3 digest of
//! what was sent. The digest covers the caller's project, so that no project can tell what another one has shown.
//!
//! A picture's placeholder tokens all have one id, so the prefix cache, which knows prompts by their tokens, would take
//! one picture for another. For it every picture has a number of its own instead ([`Seen::identity`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chat::{Content, Error, GenerateRequest, ImageSource, Message, Part, Prompt, Result, Video};
use kernels::Cpu;
use models::picture::{self, FRAMES, MERGE, PATCH, PixelLimits};
use models::vision::Features;
use models::{Checkpoint, Vision};

/// Pictures and clips in one request.
const MEDIA_MAX: usize = 256;
/// Bytes of features that are kept for those who ask again.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// Pictures of which the number is remembered; beyond that all get new ones, and prompts are computed again.
const NUMBERED_MAX: usize = 1 << 20;
/// Frames a second of a list that says nothing of it.
const FRAMES_PER_SECOND: f32 = 2.0;
/// Numbers of pictures begin here; no vocabulary reaches so far.
pub(crate) const IDENTITY_FIRST: u32 = 1 << 31;

type Digest = [u8; 32];

/// A model's vision tower with what goes before it.
pub(crate) struct Eyes {
    tower: Vision,
    cpu: Arc<Cpu>,
    pixels: PixelLimits,
    clip_pixels: PixelLimits,
    memory: Mutex<Memory>,
    /// One picture at a time: two would hold twice the memory and be done no sooner.
    turn: Mutex<()>,
}

/// A picture or a clip of a request.
pub(crate) enum Media<'a> {
    Picture(Cow<'a, [u8]>),
    Animation(Cow<'a, [u8]>),
    Frames(Vec<Cow<'a, [u8]>>, f32),
}

/// A picture or clip that was measured: how many tokens it takes is known, the tower has not seen it.
pub(crate) struct Look<'a> {
    media: Media<'a>,
    digest: Digest,
    /// Frame pairs, rows and columns of patches.
    pub(crate) grid: [usize; 3],
    /// Of a clip: the time of every frame pair.
    pub(crate) seconds: Option<Vec<f64>>,
}

/// A picture or clip that the tower has seen.
pub(crate) struct Seen {
    pub(crate) features: Arc<Features>,
    /// Stands for the picture where prompts are told apart by their tokens.
    pub(crate) identity: u32,
}

/// What is kept of pictures that came before.
#[derive(Default)]
struct Memory {
    kept: HashMap<Digest, Kept>,
    bytes: usize,
    uses: u64,
    numbers: HashMap<Digest, u32>,
    next: u32,
}

struct Kept {
    features: Arc<Features>,
    seconds: Option<Vec<f64>>,
    used: u64,
}

impl Eyes {
    /// The eyes of a checkpoint that has a tower.
    pub(crate) fn open(
        checkpoint: &Checkpoint,
        cpu: &Arc<Cpu>,
        precision: kernels::Precision,
    ) -> models::Result<Option<Self>> {
        let tower = Vision::load(cpu, checkpoint, precision)?;
        Ok(tower.map(|tower| Self {
            tower,
            cpu: Arc::clone(cpu),
            pixels: checkpoint.pixels,
            clip_pixels: checkpoint.clip_pixels,
            memory: Mutex::default(),
            turn: Mutex::default(),
        }))
    }

    /// Measures a picture. Cost: it is decoded, unless it is remembered.
    pub(crate) fn look<'a>(&self, media: Media<'a>, project: &str) -> Result<Look<'a>> {
        let digest = digest(&media, project);
        if let Some(kept) = self.memory.lock().unwrap_or_else(PoisonError::into_inner).kept.get(&digest) {
            return Ok(Look { media, digest, grid: kept.features.grid, seconds: kept.seconds.clone() });
        }
        let (grid, seconds) = match &media {
            Media::Picture(bytes) => {
                let picture = picture::decode(bytes).map_err(refused)?;
                let (height, width) = picture::resized(picture.height, picture.width, self.pixels).map_err(refused)?;
                ([1, height / PATCH, width / PATCH], None)
            }
            Media::Animation(_) | Media::Frames(..) => {
                let clip = self.clip(&media)?;
                (clip.patches.grid, Some(clip.seconds))
            }
        };
        Ok(Look { media, digest, grid, seconds })
    }

    /// Lets the tower see it. Cost: seconds for a large picture, nothing for one that is remembered.
    pub(crate) fn see(&self, look: &Look<'_>) -> Result<Seen> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = self.remembered(&look.digest)? {
            return Ok(seen);
        }
        let patches = match &look.media {
            Media::Picture(bytes) => {
                let picture = picture::decode(bytes).map_err(refused)?;
                picture::patches(&picture, self.pixels).map_err(refused)?
            }
            Media::Animation(_) | Media::Frames(..) => self.clip(&look.media)?.patches,
        };
        let features = Arc::new(self.tower.encode(&self.cpu, &patches).map_err(|error| {
            tracing::error!(%error, "the vision tower failed");
            Error::Interrupted { reason: "the picture could not be computed".to_owned() }
        })?);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.keep(look.digest, &features, look.seconds.clone());
        let identity = memory.number(look.digest)?;
        Ok(Seen { features, identity })
    }

    fn remembered(&self, digest: &Digest) -> Result<Option<Seen>> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.uses += 1;
        let now = memory.uses;
        let Some(kept) = memory.kept.get_mut(digest) else { return Ok(None) };
        kept.used = now;
        let features = Arc::clone(&kept.features);
        Ok(Some(Seen { features, identity: memory.number(*digest)? }))
    }

    fn clip(&self, media: &Media<'_>) -> Result<picture::Clip> {
        match media {
            Media::Picture(bytes) | Media::Animation(bytes) => picture::animation(bytes, self.clip_pixels),
            Media::Frames(files, per_second) => {
                let files: Vec<&[u8]> = files.iter().map(|file| &**file).collect();
                picture::listed(&files, f64::from(*per_second), self.clip_pixels)
            }
        }
        .map_err(refused)
    }
}

impl Look<'_> {
    /// Placeholder tokens of each frame pair; a picture has one.
    pub(crate) fn tokens_per_pair(&self) -> usize {
        self.grid[1] * self.grid[2] / (MERGE * MERGE)
    }
}

impl Memory {
    fn keep(&mut self, digest: Digest, features: &Arc<Features>, seconds: Option<Vec<f64>>) {
        let size = size_bytes(features);
        if size > KEPT_BYTES_MAX {
            return;
        }
        // Ends: every round takes something out, and nothing at all leaves room enough.
        while self.bytes + size > KEPT_BYTES_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(&digest, _)| digest);
            let oldest = oldest.expect("bytes are counted for what is kept");
            self.bytes -= self.kept.remove(&oldest).map_or(0, |kept| size_bytes(&kept.features));
        }
        self.uses += 1;
        self.bytes += size;
        self.kept.insert(digest, Kept { features: Arc::clone(features), seconds, used: self.uses });
    }

    /// The number of a picture, which no other one ever gets.
    fn number(&mut self, digest: Digest) -> Result<u32> {
        if let Some(&number) = self.numbers.get(&digest) {
            return Ok(number);
        }
        if self.numbers.len() >= NUMBERED_MAX {
            self.numbers.clear();
        }
        let number = IDENTITY_FIRST.checked_add(self.next).ok_or_else(|| Error::Unsupported {
            what: "another picture".to_owned(),
            why: format!("this server has seen {IDENTITY_FIRST} of them; start it again"),
        })?;
        self.next += 1;
        self.numbers.insert(digest, number);
        Ok(number)
    }
}

/// The pictures and clips of a request in order, and the request as its template is to see it: a picture that moves is
/// a video.
///
/// # Errors
/// If there are too many, or one is an address that nobody fetched.
pub(crate) fn gathered(request: &GenerateRequest) -> Result<Option<(GenerateRequest, Vec<Media<'static>>)>> {
    let Prompt::Messages(messages) = &request.prompt else { return Ok(None) };
    if !messages.iter().any(Message::has_media) {
        return Ok(None);
    }
    let mut shown = request.clone();
    let mut media = Vec::new();
    let Prompt::Messages(messages) = &mut shown.prompt else { return Ok(None) };
    let contents = messages.iter_mut().map(|message| &mut message.content);
    for part in contents.flat_map(|content| match content {
        Content::Parts(parts) => parts.as_mut_slice(),
        Content::None | Content::Text(_) => &mut [],
    }) {
        match part {
            Part::Text(_) => continue,
            Part::Image(source) => {
                let bytes = owned(source)?;
                if picture::is_animated(&bytes) {
                    let source = std::mem::replace(source, ImageSource::Url(String::new()));
                    *part = Part::Video(Video::File(source));
                    media.push(Media::Animation(bytes));
                } else {
                    media.push(Media::Picture(bytes));
                }
            }
            Part::Video(Video::File(source)) => media.push(Media::Animation(owned(source)?)),
            Part::Video(Video::Frames { frames, per_second }) => {
                let per_second = per_second.unwrap_or(FRAMES_PER_SECOND);
                if !(per_second > 0.0 && per_second <= 1000.0) {
                    let allowed = "more than 0, at most 1000".to_owned();
                    return Err(Error::OutOfRange { name: "fps", value: per_second.to_string(), allowed });
                }
                if frames.len() < FRAMES || frames.len() > picture::FRAMES_MAX {
                    let allowed = format!("{FRAMES} to {}", picture::FRAMES_MAX);
                    return Err(Error::OutOfRange { name: "frames", value: frames.len().to_string(), allowed });
                }
                media.push(Media::Frames(frames.iter().map(owned).collect::<Result<_>>()?, per_second));
            }
        }
        if media.len() > MEDIA_MAX {
            return Err(Error::TooMany { what: "pictures and videos", count: media.len(), limit: MEDIA_MAX });
        }
    }
    Ok(Some((shown, media)))
}

fn owned(source: &ImageSource) -> Result<Cow<'static, [u8]>> {
    Ok(Cow::Owned(source.bytes()?.into_owned()))
}

/// Digest of everything that decides about the features, and of who asks.
fn digest(media: &Media<'_>, project: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(project.as_bytes());
    match media {
        Media::Picture(bytes) => {
            part(b"picture");
            part(bytes);
        }
        Media::Animation(bytes) => {
            part(b"animation");
            part(bytes);
        }
        Media::Frames(files, per_second) => {
            part(b"frames");
            part(&per_second.to_le_bytes());
            files.iter().for_each(|file| part(file));
        }
    }
    *hasher.finalize().as_bytes()
}

fn size_bytes(features: &Features) -> usize {
    let numbers = features.merged.len() + features.deep.iter().map(Vec::len).sum::<usize>();
    numbers * size_of::<f32>()
}

/// What is wrong with a picture, in the words of those who read it.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn refused(error: models::Error) -> Error {
    let why = match &error {
        models::Error::Picture { why } => why.clone(),
        other => other.to_string(),
    };
    Error::Unsupported { what: "this picture".to_owned(), why }
}

#[cfg(test)]
mod tests;
