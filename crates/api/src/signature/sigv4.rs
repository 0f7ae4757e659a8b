//! Amazon's signature, version 4, in the header or in the query
//! (docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html).
//!
//! For every service but S3 the path is encoded once more, and the payload's hash is always part of what is signed.

use axum::http::{HeaderMap, HeaderValue};

use super::canonical::{Derived, check_time, decoded, encoded, pairs, parameter, sha256_hex, time_text};
use super::{Refusal, Request};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A signature in the query is good for a week at most.
const EXPIRES_S_MAX: u64 = 7 * 24 * 3600;

/// What a signature says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key: String,
    day: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: String,
    time: String,
    lasts_ms: Option<u64>,
}

/// The signature of a request; `None` if it has none.
pub(crate) fn read(request: &Request<'_>) -> Result<Option<Claim>, Refusal> {
    if let Some(value) = request.headers.get("authorization") {
        let text = value.to_str().map_err(|_| malformed("the header Authorization is no text"))?;
        return match text.strip_prefix(ALGORITHM) {
            Some(fields) => from_header(fields, request.headers).map(Some),
            None => Ok(None),
        };
    }
    match parameter(request.query, "X-Amz-Algorithm") {
        Some(algorithm) if algorithm == ALGORITHM => from_query(request.query).map(Some),
        Some(_) => Err(malformed("X-Amz-Algorithm is not AWS4-HMAC-SHA256")),
        None => Ok(None),
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::Malformed(why.to_owned())
}

fn from_header(fields: &str, headers: &HeaderMap) -> Result<Claim, Refusal> {
    let field = |name: &str| {
        let mut all = fields.split(',').filter_map(|field| field.trim().split_once('='));
        let found = all.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        found.ok_or_else(|| Refusal::Malformed(format!("the header Authorization has no {name}")))
    };
    let time = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
    let time = time.ok_or_else(|| malformed("the header X-Amz-Date is missing"))?.to_owned();
    Claim::new(&field("Credential")?, &field("SignedHeaders")?, field("Signature")?, time, None)
}

fn from_query(query: &str) -> Result<Claim, Refusal> {
    let field = |name: &str| parameter(query, name).ok_or_else(|| Refusal::Malformed(format!("{name} is missing")));
    let expires: u64 = field("X-Amz-Expires")?.parse().map_err(|_| malformed("X-Amz-Expires is no number"))?;
    if !(1..=EXPIRES_S_MAX).contains(&expires) {
        return Err(Refusal::Malformed(format!("X-Amz-Expires is {expires}, 1 to {EXPIRES_S_MAX} allowed")));
    }
    let (credential, headers) = (field("X-Amz-Credential")?, field("X-Amz-SignedHeaders")?);
    Claim::new(&credential, &headers, field("X-Amz-Signature")?, field("X-Amz-Date")?, Some(expires * 1_000))
}

impl Claim {
    fn new(
        credential: &str,
        signed_headers: &str,
        signature: String,
        time: String,
        lasts_ms: Option<u64>,
    ) -> Result<Self, Refusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, service, "aws4_request"] = parts[..] else {
            return Err(malformed("Credential is not KEY/DAY/REGION/SERVICE/aws4_request"));
        };
        Ok(Self {
            access_key: access_key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
            time,
            lasts_ms,
        })
    }

    /// Whether it is the signature of this request by the owner of `secret`, made for `service`, and good now.
    pub(crate) fn check(&self, request: &Request<'_>, secret: &str, service: &str, now_ms: u64) -> Result<(), Refusal> {
        if self.service != service {
            let why = format!("Credential is for the service {:?}, this is {service}", self.service);
            return Err(Refusal::Malformed(why));
        }
        if self.time.get(..8) != Some(&self.day) {
            return Err(malformed("the day in Credential is not that of X-Amz-Date"));
        }
        check_time(&self.time, self.lasts_ms, now_ms)?;
        let unsigned = request.headers.keys().map(axum::http::HeaderName::as_str).find(|name| {
            (*name == "host" || name.starts_with("x-amz-")) && !self.signed_headers.iter().any(|signed| signed == name)
        });
        if let Some(name) = unsigned {
            return Err(Refusal::Malformed(format!("the header {name} is not signed")));
        }
        let payload = sha256_hex(request.body);
        let said = request.headers.get("x-amz-content-sha256");
        if said.is_some_and(|said| said.as_bytes() != payload.as_bytes()) {
            return Err(Refusal::Mismatch);
        }
        let text = self.string_to_sign(&self.canonical(request, &payload));
        if self.key(secret).verifies(&text, &self.signature) { Ok(()) } else { Err(Refusal::Mismatch) }
    }

    fn key(&self, secret: &str) -> Derived {
        Derived::chain("AWS4", secret, [&self.day, &self.region, &self.service, "aws4_request"])
    }

    fn string_to_sign(&self, canonical: &str) -> String {
        let scope = format!("{}/{}/{}/aws4_request", self.day, self.region, self.service);
        format!("{ALGORITHM}\n{}\n{scope}\n{}", self.time, sha256_hex(canonical.as_bytes()))
    }

    fn canonical(&self, request: &Request<'_>, payload: &str) -> String {
        let path = if request.path.is_empty() { "/" } else { request.path };
        let mut query: Vec<(String, String)> = pairs(request.query)
            .filter(|(name, _)| *name != "X-Amz-Signature")
            .map(|(name, value)| (encoded(decoded(name), b""), encoded(decoded(value), b"")))
            .collect();
        query.sort_unstable();
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers: String =
            self.signed_headers.iter().map(|name| format!("{name}:{}\n", header(request.headers, name))).collect();
        format!(
            "{}\n{}\n{}\n{headers}\n{}\n{payload}",
            request.method,
            encoded(path.bytes(), b"/"),
            query.join("&"),
            self.signed_headers.join(";"),
        )
    }
}

fn digits(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// All values of a header, each with its spaces squeezed.
fn header(headers: &HeaderMap, name: &str) -> String {
    let squeezed = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    headers.get_all(name).iter().map(squeezed).collect::<Vec<_>>().join(",")
}

/// With what a request is signed.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Names the key pair.
    pub access_key: &'a str,
    /// The other half of it.
    pub secret: &'a str,
    /// Any; it is part of what is signed.
    pub region: &'a str,
    /// The service's signing name.
    pub service: &'a str,
}

/// The values of the headers `X-Amz-Date` and `Authorization` that sign a request at `now_ms`. `request.headers` holds
/// `host`, which is signed, and nothing that begins with `x-amz-`.
#[must_use]
pub fn sign(request: &Request<'_>, signer: Signer<'_>, now_ms: u64) -> (String, String) {
    let time = time_text(now_ms);
    let mut headers = request.headers.clone();
    headers.insert("x-amz-date", digits(&time));
    let claim = Claim {
        access_key: signer.access_key.to_owned(),
        day: time[..8].to_owned(),
        region: signer.region.to_owned(),
        service: signer.service.to_owned(),
        signed_headers: vec!["host".to_owned(), "x-amz-date".to_owned()],
        signature: String::new(),
        time: time.clone(),
        lasts_ms: None,
    };
    let canonical = claim.canonical(&Request { headers: &headers, ..*request }, &sha256_hex(request.body));
    let signature = claim.key(signer.secret).sign(&claim.string_to_sign(&canonical));
    let scope = format!("{}/{}/{}/aws4_request", claim.day, claim.region, claim.service);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}",
        signer.access_key
    );
    (time, authorization)
}
