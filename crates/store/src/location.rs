use std::fmt;

use crate::{Error, Result};

/// Which vendor's object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and what speaks its protocol and knows `If-None-Match: *` on a put.
    S3,
    /// Alibaba Cloud OSS.
    Oss,
}

/// Where a store lies: `s3://bucket/prefix?endpoint=URL&region=NAME` or `oss://…`.
///
/// The prefix, the endpoint and the region may be left out, but OSS needs an endpoint
/// (`https://oss-cn-hangzhou.aliyuncs.com`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Whose protocol is spoken.
    pub service: Service,
    /// The bucket, which exists.
    pub bucket: String,
    /// What the names of all objects begin with, without slashes at its ends; empty for none.
    pub prefix: String,
    /// The service's address, if it is not the vendor's own.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
}

impl Location {
    /// Parses an address.
    ///
    /// # Errors
    /// [`Error::BadLocation`] names the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why| Error::BadLocation { text: text.chars().take(200).collect(), why };
        let (service, rest) = match text.split_once("://") {
            Some(("s3", rest)) => (Service::S3, rest),
            Some(("oss", rest)) => (Service::Oss, rest),
            _ => return Err(bad("it begins with neither s3:// nor oss://")),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_bucket = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.is_empty() || !bucket.bytes().all(is_bucket) {
            return Err(bad("it names no bucket"));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.len() > 200 || (!prefix.is_empty() && crate::Name::parse(prefix).is_err()) {
            return Err(bad("its prefix is not made of A-Z a-z 0-9 . _ - and /, or is longer than 200 bytes"));
        }
        let mut found =
            Self { service, bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint: None, region: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", value)) if value.starts_with("http://") || value.starts_with("https://") => {
                    found.endpoint = Some(value.trim_end_matches('/').to_owned());
                }
                Some(("endpoint", _)) => return Err(bad("its endpoint begins with neither http:// nor https://")),
                Some(("region", value)) => found.region = Some(value.to_owned()),
                _ => return Err(bad("it may say endpoint and region behind the question mark, and nothing else")),
            }
        }
        if service == Service::Oss && found.endpoint.is_none() {
            return Err(bad("oss:// needs ?endpoint=https://oss-REGION.aliyuncs.com"));
        }
        Ok(found)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.service {
            Service::S3 => "s3",
            Service::Oss => "oss",
        };
        write!(out, "{scheme}://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, Service};

    #[test]
    fn addresses_are_read() {
        let location = Location::parse("s3://data-1/team/vectors/?endpoint=http://127.0.0.1:9000/&region=x").unwrap();
        assert_eq!(
            location,
            Location {
                service: Service::S3,
                bucket: "data-1".to_owned(),
                prefix: "team/vectors".to_owned(),
                endpoint: Some("http://127.0.0.1:9000".to_owned()),
                region: Some("x".to_owned()),
            }
        );
        assert_eq!(location.to_string(), "s3://data-1/team/vectors");
        assert_eq!(Location::parse("s3://b").unwrap().prefix, "");
        let oss = Location::parse("oss://b?endpoint=https://oss-cn-hangzhou.aliyuncs.com").unwrap();
        assert_eq!(oss.service, Service::Oss);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "b",
            "gs://b",
            "s3://",
            "s3:///p",
            "s3://b b",
            "s3://b/a//b",
            "s3://b/..",
            "s3://b?endpoint=x",
            "s3://b?secret=x",
            "oss://b",
        ] {
            assert!(Location::parse(text).is_err(), "{text:?}");
        }
    }
}
