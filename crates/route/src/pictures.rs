//! Pictures that requests name by their address, fetched for the models of this machine.
//!
//! Whoever may ask a model makes this machine ask somebody else, so what it asks is fenced in:
//!
//! * `https` on public addresses only. A name is resolved here and connected to by the addresses that were checked, so
//!   it cannot mean another machine a moment later. Networks of one's own are let in by origin.
//! * Three redirects at most, each held to the same rules. Nothing of the request goes along: no cookie, no key.
//! * A picture by its type and by its size, ten seconds a step, a few at a time.
//!
//! Upstream pools get the addresses as they are: their servers fetch by their own rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chat::{Error, EventStream, Generate, GenerateRequest, ImageSource, ModelCard, Prompt, Result};
use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, Url};
use tokio::sync::Semaphore;

/// Bytes of one picture.
const PICTURE_BYTES_MAX: usize = 20 << 20;
/// Pictures of one request that are fetched.
const PICTURES_MAX: usize = 64;
/// Pictures that are fetched at one time, for everybody.
const AT_ONCE_MAX: usize = 16;
/// How often a server may send us elsewhere.
const REDIRECTS_MAX: usize = 3;
/// How long one server may take, from the connection to the last byte.
const STEP: Duration = Duration::from_secs(10);
/// Letters of an address that an error shows.
const SHOWN_CHARS: usize = 100;

/// Fetches pictures.
pub struct Pictures {
    origins: Vec<Url>,
    /// For public addresses; made when the first picture is asked for, since certificates have to be read.
    public: OnceLock<std::result::Result<Client, String>>,
    /// For the origins that were let in.
    trusted: OnceLock<std::result::Result<Client, String>>,
    places: Semaphore,
}

impl Pictures {
    /// `origins` are servers that may be fetched from wherever they stand, such as `http://10.0.0.5:9000`.
    ///
    /// # Errors
    /// What is wrong with an origin.
    pub fn new(origins: &[String]) -> std::result::Result<Self, String> {
        let origin = |text: &String| {
            let url = Url::parse(text).map_err(|why| format!("{text:?} is no origin: {why}"))?;
            let is_origin = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
            let is_origin = is_origin && url.host_str().is_some() && url.username().is_empty();
            if is_origin { Ok(url) } else { Err(format!("{text:?} is no origin; an origin is http://HOST:PORT")) }
        };
        let origins = origins.iter().map(origin).collect::<std::result::Result<_, _>>()?;
        let places = Semaphore::new(AT_ONCE_MAX);
        Ok(Self { origins, public: OnceLock::new(), trusted: OnceLock::new(), places })
    }

    /// Puts the files in the places of their addresses.
    async fn fill(&self, request: &mut GenerateRequest) -> Result<()> {
        let Prompt::Messages(messages) = &mut request.prompt else { return Ok(()) };
        let sources = messages.iter_mut().flat_map(chat::Message::sources_mut);
        let remote: Vec<&mut ImageSource> = sources.filter(|source| source.remote().is_some()).collect();
        if remote.len() > PICTURES_MAX {
            let (what, count) = ("pictures to be fetched", remote.len());
            return Err(Error::TooMany { what, count, limit: PICTURES_MAX });
        }
        let fetched = remote.into_iter().map(|source| async move {
            let url = source.remote().unwrap_or_default().to_owned();
            let bytes = self.fetch(&url).await.map_err(|why| {
                let shown: String = url.chars().take(SHOWN_CHARS).collect();
                Error::Unsupported { what: format!("a picture at {shown:?}"), why }
            })?;
            *source = ImageSource::Bytes(bytes.into());
            Ok::<(), Error>(())
        });
        try_join_all(fetched).await.map(|_| ())
    }

    async fn fetch(&self, address: &str) -> std::result::Result<Vec<u8>, String> {
        let _place = self.places.acquire().await.map_err(|why| why.to_string())?;
        let mut url = Url::parse(address).map_err(|why| format!("it is no address: {why}"))?;
        for _ in 0..=REDIRECTS_MAX {
            let client = self.client(&url)?;
            let sent = client.get(url.clone()).send().await.map_err(|why| cause(&why))?;
            if !sent.status().is_redirection() {
                return body(sent).await;
            }
            let location = sent.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let location = location.ok_or_else(|| format!("status {} without a place to go on", sent.status()))?;
            url = url.join(location).map_err(|why| format!("it is redirected to no address: {why}"))?;
        }
        Err(format!("it is redirected more than {REDIRECTS_MAX} times"))
    }

    /// The client that may ask for this address.
    fn client(&self, url: &Url) -> std::result::Result<&Client, String> {
        let is_trusted = self.origins.iter().any(|origin| origin.origin() == url.origin());
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address with a name or a password is not fetched".to_owned());
        }
        if is_trusted {
            return made(&self.trusted, |client| client);
        }
        if url.scheme() != "https" {
            return Err(format!("only https and data: are fetched, not {}:", url.scheme()));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if literal.is_some_and(|address| !is_public(address)) {
            return Err(format!("{host} is no public address"));
        }
        made(&self.public, |client| client.dns_resolver(Arc::new(PublicOnly)))
    }
}

/// The client, made at its first use.
fn made(
    place: &OnceLock<std::result::Result<Client, String>>,
    more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> std::result::Result<&Client, String> {
    let client = place.get_or_init(|| {
        // A proxy would connect in our place, and check nothing.
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(STEP);
        let client = client.user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")));
        more(client).build().map_err(|why| cause(&why))
    });
    client.as_ref().map_err(Clone::clone)
}

/// The file, if it is one that was asked for.
async fn body(mut response: Response) -> std::result::Result<Vec<u8>, String> {
    let status = response.status();
    if !status.is_success() {
        return Err(format!("its server answers {status}"));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("nothing");
    if !kind.starts_with("image/") {
        return Err(format!("its server says that it is {kind:?}, no picture"));
    }
    let too_large = || format!("it has more than {PICTURE_BYTES_MAX} bytes");
    if response.content_length().is_some_and(|length| length > PICTURE_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|why| cause(&why))? {
        if bytes.len() + chunk.len() > PICTURE_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The innermost reason, which is the one that helps.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if error.is_timeout() { format!("it took more than {} s", STEP.as_secs()) } else { inner.to_string() }
}

/// Resolves names to public addresses, and to no others.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        }
        .boxed()
    }
}

/// Whether an address belongs to the internet (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240.., _, _)
            | (100, 64..128, _)
            | (169, 254, _)
            | (172, 16..32, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special && !address.is_multicast()
}

/// Global unicast (2000::/3) without the ranges that lead elsewhere: protocol assignments and Teredo (2001::/23),
/// documentation, 6to4.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_special = matches!((first, second), (0x2001, 0..0x200 | 0xdb8) | (0x2002, _) | (0x3fff, 0..0x1000));
    first & 0xe000 == 0x2000 && !is_special
}

/// Models that are given files where requests name addresses.
pub struct Fetching<G: ?Sized> {
    pictures: Arc<Pictures>,
    inner: Arc<G>,
}

impl<G: ?Sized> Fetching<G> {
    /// Stands around `inner`.
    #[must_use]
    pub fn new(pictures: Arc<Pictures>, inner: Arc<G>) -> Self {
        Self { pictures, inner }
    }
}

fn needs_none(request: &GenerateRequest) -> bool {
    let Prompt::Messages(messages) = &request.prompt else { return true };
    messages.iter().flat_map(chat::Message::sources).all(|source| source.remote().is_none())
}

impl<G: Generate + ?Sized> Generate for Fetching<G> {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn context_tokens(&self, model: &str) -> Option<u32> {
        self.inner.context_tokens(model)
    }

    fn generate(&self, mut request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        if needs_none(&request) {
            return self.inner.generate(request);
        }
        async move {
            self.pictures.fill(&mut request).await?;
            self.inner.generate(request).await
        }
        .boxed()
    }

    fn count_tokens(&self, mut request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        if needs_none(&request) {
            return self.inner.count_tokens(request);
        }
        async move {
            self.pictures.fill(&mut request).await?;
            self.inner.count_tokens(request).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
