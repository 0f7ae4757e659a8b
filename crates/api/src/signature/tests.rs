//! Against signatures that botocore 1.44.8 and alibabacloud-oss-v2 1.4.1 made of the same requests.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::canonical::{time_ms, time_text};
use super::{Refusal, Request, oss4, sigv4};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-11-25T10:15:00Z
const NOW_MS: u64 = 1_795_601_700_000;
const ARN: &str = "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Ffilms";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let header =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(header).collect()
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/us-east-1/s3vectors/aws4_request, SignedHeaders={signed}, \
         Signature={signature}"
    )
}

fn amazon(request: &Request<'_>, secret: &str, now_ms: u64) -> Result<(), Refusal> {
    let claim = sigv4::read(request)?.unwrap();
    assert_eq!(claim.access_key, "AKIDEXAMPLE");
    claim.check(request, secret, "s3vectors", now_ms)
}

#[test]
fn amazons_signature_of_a_body_is_verified() {
    let signature = "feb2e6fcd9ced9216300a565b3f464a0e2c18dcc8abd3d025c3653caf1899f82";
    let good = headers(&[
        ("host", "127.0.0.1:8420"),
        ("content-type", "application/json"),
        ("x-amz-date", "20261125T101500Z"),
        ("authorization", &authorization("content-type;host;x-amz-date", signature)),
    ]);
    let request = Request { method: "POST", path: "/QueryVectors", query: "", headers: &good, body: b"{\"topK\": 3}" };
    assert_eq!(amazon(&request, SECRET, NOW_MS), Ok(()));
    assert_eq!(amazon(&request, SECRET, NOW_MS + 15 * 60_000), Ok(()));
    assert_eq!(amazon(&request, "other", NOW_MS), Err(Refusal::Mismatch));
    assert_eq!(amazon(&Request { body: b"{\"topK\": 4}", ..request }, SECRET, NOW_MS), Err(Refusal::Mismatch));
    assert_eq!(amazon(&Request { path: "/PutVectors", ..request }, SECRET, NOW_MS), Err(Refusal::Mismatch));
    assert_eq!(amazon(&Request { query: "a=1", ..request }, SECRET, NOW_MS), Err(Refusal::Mismatch));
    for skew in [NOW_MS + 15 * 60_000 + 1_000, NOW_MS - 15 * 60_000 - 1_000] {
        assert!(matches!(amazon(&request, SECRET, skew), Err(Refusal::Skewed { .. })), "{skew}");
    }
    for (name, value) in [("content-type", "text/plain"), ("x-amz-content-sha256", "00"), ("x-amz-target", "other")] {
        let mut changed = good.clone();
        changed.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        assert!(amazon(&Request { headers: &changed, ..request }, SECRET, NOW_MS).is_err(), "{name}");
    }
    let claim = sigv4::read(&request).unwrap().unwrap();
    assert!(matches!(claim.check(&request, SECRET, "s3", NOW_MS), Err(Refusal::Malformed(_))));
}

#[test]
fn amazons_signature_of_paths_and_queries_is_verified() {
    let signature = "cb07deef176e63769f17451dac981e1c28b94e445787b3e622b3ec99d8ce6f7f";
    let headers_ = headers(&[
        ("host", "127.0.0.1:8420"),
        ("x-amz-date", "20261125T101500Z"),
        ("authorization", &authorization("host;x-amz-date", signature)),
    ]);
    let query = "tagKeys=b%20c&tagKeys=a";
    let request = Request { method: "DELETE", path: ARN, query, headers: &headers_, body: b"" };
    assert_eq!(amazon(&request, SECRET, NOW_MS), Ok(()));

    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261125%2Fus-east-1%2Fs3vectors%2F\
                 aws4_request&X-Amz-Date=20261125T101500Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=\
                 37c5dadbdb9875f41e0006159e0776dc6498cf4456e00654073e847987469026";
    let host = headers(&[("host", "127.0.0.1:8420")]);
    let request = Request { method: "GET", path: ARN, query, headers: &host, body: b"" };
    assert_eq!(amazon(&request, SECRET, NOW_MS + 60_000), Ok(()));
    assert!(matches!(amazon(&request, SECRET, NOW_MS + 61_000), Err(Refusal::Expired { .. })));
    let longer = query.replace("Expires=60", "Expires=600");
    assert_eq!(amazon(&Request { query: &longer, ..request }, SECRET, NOW_MS), Err(Refusal::Mismatch));
}

#[test]
fn what_is_signed_here_is_verified_here() {
    let mut all = headers(&[("host", "localhost:8420"), ("content-type", "application/json")]);
    let signer = sigv4::Signer { access_key: "AKIDEXAMPLE", secret: SECRET, region: "us-east-1", service: "s3vectors" };
    let request = Request { method: "POST", path: "/PutVectors", query: "", headers: &all, body: b"{}" };
    let (date, authorization) = sigv4::sign(&request, signer, NOW_MS);
    all.insert("x-amz-date", date.parse().unwrap());
    all.insert("authorization", authorization.parse().unwrap());
    let request = Request { method: "POST", path: "/PutVectors", query: "", headers: &all, body: b"{}" };
    assert_eq!(amazon(&request, SECRET, NOW_MS), Ok(()));
}

#[test]
fn alibabas_signature_is_verified() {
    let authorization = "OSS4-HMAC-SHA256 Credential=LTAIEXAMPLE/20261125/cn-hangzhou/oss/aliyun_v4_request,\
                         Signature=a100e42fdbe6c1f4d49047cd15a7e5b62d6ce135accd1d2eb80cbe4fe68a90e1";
    let good = headers(&[
        ("content-type", "application/json"),
        ("content-md5", "abc=="),
        ("x-oss-date", "20261125T101500Z"),
        ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ("date", "Wed, 25 Nov 2026 10:15:00 GMT"),
        ("authorization", authorization),
    ]);
    let request = Request { method: "POST", path: "/", query: "putVectors", headers: &good, body: b"" };
    let check = |request: &Request<'_>, secret: &str, bucket: &str, now_ms: u64| {
        oss4::read(request).unwrap().unwrap().check(request, secret, Some(bucket), now_ms)
    };
    assert_eq!(check(&request, "secret", "123:films", NOW_MS), Ok(()));
    assert_eq!(check(&request, "secret", "124:films", NOW_MS), Err(Refusal::Mismatch));
    assert_eq!(check(&request, "other", "123:films", NOW_MS), Err(Refusal::Mismatch));
    assert!(matches!(check(&request, "secret", "123:films", NOW_MS + 901_000), Err(Refusal::Skewed { .. })));
    let mut changed = good.clone();
    changed.insert("content-md5", HeaderValue::from_static("abd=="));
    let tampered = Request { headers: &changed, ..request };
    assert_eq!(check(&tampered, "secret", "123:films", NOW_MS), Err(Refusal::Mismatch));
    let other = Request { query: "deleteVectors", ..request };
    assert_eq!(check(&other, "secret", "123:films", NOW_MS), Err(Refusal::Mismatch));
}

#[test]
fn alibabas_signature_in_the_query_is_verified() {
    let query = "prefix=a%20b&max-keys=3&x-oss-signature-version=OSS4-HMAC-SHA256&\
                 x-oss-date=20261125T101500Z&x-oss-expires=60&\
                 x-oss-credential=LTAIEXAMPLE%2F20261125%2Fcn-hangzhou%2Foss%2Faliyun_v4_request&x-oss-signature=\
                 36103dfec229aed42404c8a16843fabbff58831cffe99a37d81f55067c1628ae";
    let headers = headers(&[("content-type", "application/octet-stream")]);
    let request = Request { method: "GET", path: "/", query, headers: &headers, body: b"" };
    let claim = oss4::read(&request).unwrap().unwrap();
    assert_eq!(claim.check(&request, "secret", None, NOW_MS + 60_000), Ok(()));
    assert!(matches!(claim.check(&request, "secret", None, NOW_MS + 61_000), Err(Refusal::Expired { .. })));
    assert_eq!(claim.check(&request, "secret", Some("1:films"), NOW_MS), Err(Refusal::Mismatch));
}

#[test]
fn what_is_no_signature_is_refused_or_passed_over() {
    let empty = HeaderMap::new();
    let request = Request { method: "GET", path: "/", query: "", headers: &empty, body: b"" };
    assert_eq!((sigv4::read(&request), oss4::read(&request)), (Ok(None), Ok(None)));
    assert!(!oss4::is_signed(&empty, "x-oss") && oss4::is_signed(&empty, "x-oss-signature-version=1"));
    for value in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=1",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, Signature=1",
    ] {
        let headers = headers(&[("authorization", value), ("x-amz-date", "20261125T101500Z")]);
        assert!(sigv4::read(&Request { headers: &headers, ..request }).is_err(), "{value}");
    }
    let headers = headers(&[("authorization", "Bearer token")]);
    assert_eq!(sigv4::read(&Request { headers: &headers, ..request }), Ok(None));
    for query in ["X-Amz-Algorithm=other", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=%zz"] {
        assert!(sigv4::read(&Request { query, ..request }).is_err(), "{query}");
    }
    assert!(oss4::read(&Request { query: "x-oss-signature-version=OSS4-HMAC-SHA256", ..request }).is_err());
}

#[test]
fn dates_are_read_and_written() {
    assert_eq!(time_ms("20261125T101500Z"), Some(NOW_MS));
    assert_eq!(time_text(NOW_MS), "20261125T101500Z");
    assert_eq!(time_ms("20000229T000000Z"), Some(951_782_400_000));
    for bad in ["", "20261125", "20261325T101500Z", "2026112ST101500Z", "20261125T101500z", "äöü61125T1015Z"] {
        assert_eq!(time_ms(bad), None, "{bad}");
    }
}
