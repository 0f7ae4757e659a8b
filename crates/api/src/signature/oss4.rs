//! Alibaba Cloud's signature for OSS, version 4, in the header or in the query, over the resource of a vector bucket
//! (www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4).
//!
//! The body is not part of what is signed (`UNSIGNED-PAYLOAD`), but `Content-MD5` is: whoever changes the body must
//! change the header, and then the signature does not fit. Dialects check the header against the body.

use axum::http::HeaderMap;

use super::canonical::{Derived, check_time, encoded, pairs, parameter, sha256_hex};
use super::{Refusal, Request};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// A signature in the query is good for a week at most.
const EXPIRES_S_MAX: u64 = 7 * 24 * 3600;

/// What a signature says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key: String,
    day: String,
    pub(crate) region: String,
    product: String,
    additional_headers: Vec<String>,
    signature: String,
    time: String,
    lasts_ms: Option<u64>,
}

/// Whether a request speaks this vendor's language at all.
pub(crate) fn is_signed(headers: &HeaderMap, query: &str) -> bool {
    let header = headers.get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"OSS4-"));
    header || pairs(query).any(|(name, _)| name == "x-oss-signature-version")
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
    match parameter(request.query, "x-oss-signature-version") {
        Some(version) if version == ALGORITHM => from_query(request.query).map(Some),
        Some(_) => Err(malformed("x-oss-signature-version is not OSS4-HMAC-SHA256")),
        None => Ok(None),
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::Malformed(why.to_owned())
}

fn from_header(fields: &str, headers: &HeaderMap) -> Result<Claim, Refusal> {
    let optional = |name: &str| {
        let mut all = fields.split(',').filter_map(|field| field.trim().split_once('='));
        all.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let field = |name: &str| {
        optional(name).ok_or_else(|| Refusal::Malformed(format!("the header Authorization has no {name}")))
    };
    let time = headers.get("x-oss-date").and_then(|value| value.to_str().ok());
    let time = time.ok_or_else(|| malformed("the header x-oss-date is missing"))?.to_owned();
    let additional = optional("AdditionalHeaders").unwrap_or_default();
    Claim::new(&field("Credential")?, &additional, field("Signature")?, time, None)
}

fn from_query(query: &str) -> Result<Claim, Refusal> {
    let field = |name: &str| parameter(query, name).ok_or_else(|| Refusal::Malformed(format!("{name} is missing")));
    let expires: u64 = field("x-oss-expires")?.parse().map_err(|_| malformed("x-oss-expires is no number"))?;
    if !(1..=EXPIRES_S_MAX).contains(&expires) {
        return Err(Refusal::Malformed(format!("x-oss-expires is {expires}, 1 to {EXPIRES_S_MAX} allowed")));
    }
    let additional = parameter(query, "x-oss-additional-headers").unwrap_or_default();
    let (credential, signature) = (field("x-oss-credential")?, field("x-oss-signature")?);
    Claim::new(&credential, &additional, signature, field("x-oss-date")?, Some(expires * 1_000))
}

impl Claim {
    fn new(
        credential: &str,
        additional_headers: &str,
        signature: String,
        time: String,
        lasts_ms: Option<u64>,
    ) -> Result<Self, Refusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, product, "aliyun_v4_request"] = parts[..] else {
            return Err(malformed("Credential is not KEY/DAY/REGION/PRODUCT/aliyun_v4_request"));
        };
        let names = additional_headers.split(';').filter(|name| !name.is_empty());
        Ok(Self {
            access_key: access_key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            product: product.to_owned(),
            additional_headers: names.map(str::to_owned).collect(),
            signature,
            time,
            lasts_ms,
        })
    }

    /// Whether it is the signature of this request by the owner of `secret`, for a bucket (`ACCOUNT:NAME`) or for none,
    /// and good now.
    pub(crate) fn check(
        &self,
        request: &Request<'_>,
        secret: &str,
        bucket: Option<&str>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if self.time.get(..8) != Some(&self.day) {
            return Err(malformed("the day in Credential is not that of x-oss-date"));
        }
        check_time(&self.time, self.lasts_ms, now_ms)?;
        let scope = format!("{}/{}/{}/aliyun_v4_request", self.day, self.region, self.product);
        let canonical = sha256_hex(self.canonical(request, bucket).as_bytes());
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{canonical}", self.time);
        let steps = [&*self.day, &self.region, &self.product, "aliyun_v4_request"];
        let key = Derived::chain("aliyun_v4", secret, steps);
        if key.verifies(&text, &self.signature) { Ok(()) } else { Err(Refusal::Mismatch) }
    }

    fn canonical(&self, request: &Request<'_>, bucket: Option<&str>) -> String {
        let object = request.path.strip_prefix('/').unwrap_or(request.path);
        let resource = match bucket {
            Some(bucket) => format!("/acs:ossvector:{}:{bucket}/{object}", self.region),
            None => format!("/acs:ossvector:{}::/{object}", self.region),
        };
        let mut query: Vec<(&str, &str)> =
            pairs(request.query).filter(|(name, _)| *name != "x-oss-signature").collect();
        query.sort_unstable();
        let written = |(name, value): (&str, &str)| {
            if value.is_empty() { name.to_owned() } else { format!("{name}={value}") }
        };
        let query: Vec<String> = query.into_iter().map(written).collect();
        let is_signed = |name: &str| {
            name.starts_with("x-oss-")
                || matches!(name, "content-type" | "content-md5")
                || self.additional_headers.iter().any(|additional| additional == name)
        };
        let mut headers: Vec<(&str, String)> = request
            .headers
            .iter()
            .filter(|(name, _)| is_signed(name.as_str()))
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.sort_unstable();
        let headers: String = headers.into_iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let payload = request.headers.get("x-oss-content-sha256").and_then(|value| value.to_str().ok());
        format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            request.method,
            encoded(resource.bytes(), b"/"),
            query.join("&"),
            self.additional_headers.join(";"),
            payload.unwrap_or("UNSIGNED-PAYLOAD"),
        )
    }
}
