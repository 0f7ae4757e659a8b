//! Asking a server that is running, on this machine or another.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::http::Uri;
use clap::Args;
use serde_json::Value;

use crate::args::Data;
use crate::{accounts, machine};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer: the figures of hundreds of models are far below.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Which server, and by what right.
#[derive(Args)]
pub(crate) struct Server {
    /// The server that is asked.
    #[arg(long = "server", value_name = "URL", env = "SAMPAN_SERVER", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// The key for it. Default: what DIR/admin.key holds, for a server on this machine.
    #[arg(long, env = "SAMPAN_API_KEY", hide_env_values = true)]
    key: Option<String>,
    #[command(flatten)]
    data: Data,
}

/// A connection to a server.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

impl Client {
    /// # Errors
    /// If the address is none that can be asked.
    pub(crate) fn new(server: &Server) -> anyhow::Result<Self> {
        let url = &server.url;
        let uri: Uri = url.parse().with_context(|| format!("--server {url:?} is no address"))?;
        ensure!(uri.scheme_str() == Some("http"), "--server {url:?} must begin with http://");
        let host = uri.authority().with_context(|| format!("--server {url:?} names no host"))?;
        // The owner's key of this machine is nothing for another one.
        let own = || is_here(host.host()).then(|| kept_key(&server.data)).flatten();
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        let key = server.key.clone().filter(|key| !key.is_empty()).or_else(own);
        Ok(Self { agent: config.into(), base: format!("http://{host}"), key })
    }

    /// The server's address, without a path.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The text at a path; `None` where the server has no such part, or this key may not see it.
    pub(crate) fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.call().with_context(|| format!("ask {}", self.base))?;
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.with_context(|| format!("read {path} of {}", self.base))?;
        match response.status().as_u16() {
            200 => Ok(Some(text)),
            403 | 404 => Ok(None),
            401 => bail!("{} asks for a key\nhint: --key KEY or SAMPAN_API_KEY", self.base),
            status => bail!("{path} of {} answered {status}: {}", self.base, text.trim()),
        }
    }

    /// The JSON at a path; `None` as for [`Self::text`].
    pub(crate) fn json(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let Some(text) = self.text(path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).with_context(|| format!("read {path} of {} as JSON", self.base))
    }
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn kept_key(data: &Data) -> Option<String> {
    let text = std::fs::read_to_string(accounts::key_file(&machine::data_folder(data))).ok()?;
    Some(text.trim().to_owned()).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Client, Server, is_here};
    use crate::args::Data;

    fn server(url: &str) -> Server {
        Server { url: url.to_owned(), key: None, data: Data { folder: Some("nowhere".into()) } }
    }

    #[test]
    fn only_this_machine_is_shown_its_own_key() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("admin.key"), "secret\n").unwrap();
        let of = |url: &str| {
            let data = Data { folder: Some(place.path().to_owned()) };
            Client::new(&Server { url: url.to_owned(), key: None, data }).unwrap().key
        };
        assert_eq!(of("http://127.0.0.1:1").as_deref(), Some("secret"));
        assert_eq!(of("http://elsewhere.example:1"), None);
        assert!(is_here("[::1]") && is_here("localhost") && !is_here("127.0.0.1.example"));
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_refused() {
        for url in ["https://a.example", "ftp://a", "no address", ""] {
            let error = Client::new(&server(url)).err().unwrap().to_string();
            assert!(error.contains(&format!("{url:?}")), "{error}");
        }
        assert_eq!(Client::new(&server("http://a.example:80/x")).unwrap().base(), "http://a.example:80");
    }
}
