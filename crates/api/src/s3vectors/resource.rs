//! Names of resources: `arn:aws:s3vectors:REGION:ACCOUNT:bucket/BUCKET[/index/INDEX]`.

use vectors::{BucketName, IndexName};

use super::error::{Check, Failure};
use crate::buckets::Identity;

/// A bucket or an index, as a request names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resource {
    pub(super) bucket: BucketName,
    pub(super) index: Option<IndexName>,
}

pub(super) fn bucket_arn(identity: &Identity, bucket: &BucketName) -> String {
    format!("arn:aws:s3vectors:{}:{}:bucket/{bucket}", identity.region, identity.account)
}

pub(super) fn index_arn(identity: &Identity, bucket: &BucketName, index: &IndexName) -> String {
    format!("{}/index/{index}", bucket_arn(identity, bucket))
}

/// Reads a resource's name. One of another region or account is a thing that is not here.
pub(super) fn parse(identity: &Identity, path: &str, arn: &str) -> Result<Resource, Failure> {
    let malformed = || Failure::field(path, format!("Invalid ARN: {:?}", arn.chars().take(200).collect::<String>()));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "s3vectors", region, account, resource] = parts[..] else { return Err(malformed()) };
    let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    if !partition.starts_with("aws") || !digits {
        return Err(malformed());
    }
    let resource = resource.strip_prefix("bucket/").ok_or_else(malformed)?;
    let (bucket, index) = match resource.split_once("/index/") {
        Some((bucket, index)) => (bucket, Some(index)),
        None => (resource, None),
    };
    let bucket = BucketName::parse(bucket).map_err(|_| malformed())?;
    let index = index.map(IndexName::parse).transpose().map_err(|_| malformed())?;
    if region != identity.region || account != identity.account {
        return Err(Failure::not_found(if index.is_some() { "index" } else { "vector bucket" }));
    }
    Ok(Resource { bucket, index })
}

/// The bucket that a request names, by its name or its ARN.
pub(super) fn bucket(identity: &Identity, name: Option<&str>, arn: Option<&str>) -> Result<BucketName, Failure> {
    match (name, arn) {
        (Some(name), None) => bucket_name("/vectorBucketName", name),
        (None, Some(arn)) => match parse(identity, "/vectorBucketArn", arn)? {
            Resource { bucket, index: None } => Ok(bucket),
            Resource { .. } => Err(Failure::field("/vectorBucketArn", "Must be the ARN of a vector bucket")),
        },
        _ => Err(Failure::validation("Must specify either vectorBucketName or vectorBucketArn but not both")),
    }
}

/// The index that a request names, by both names or its ARN.
pub(super) fn index(
    identity: &Identity,
    bucket: Option<&str>,
    name: Option<&str>,
    arn: Option<&str>,
) -> Result<(BucketName, IndexName), Failure> {
    match (bucket, name, arn) {
        (Some(bucket), Some(name), None) => {
            Ok((bucket_name("/vectorBucketName", bucket)?, index_name("/indexName", name)?))
        }
        (None, None, Some(arn)) => match parse(identity, "/indexArn", arn)? {
            Resource { bucket, index: Some(index) } => Ok((bucket, index)),
            Resource { .. } => Err(Failure::field("/indexArn", "Must be the ARN of an index")),
        },
        _ => Err(Failure::validation("Must specify either indexArn or both vectorBucketName and indexName")),
    }
}

pub(super) fn bucket_name(path: &str, name: &str) -> Result<BucketName, Failure> {
    let mut check = Check::default();
    check.length(path, name.chars().count(), 3..=63);
    check.finish()?;
    BucketName::parse(name).map_err(|_| Failure::field(path, format!("Invalid vector bucket name {name:?}")))
}

/// The vendor allows what it allows for buckets.
pub(super) fn index_name(path: &str, name: &str) -> Result<IndexName, Failure> {
    let mut check = Check::default();
    check.length(path, name.chars().count(), 3..=63);
    check.finish()?;
    // An index that was made through another dialect may have capital letters in its name.
    IndexName::parse(name).map_err(|_| Failure::field(path, format!("Invalid index name {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::{bucket, index, parse};
    use crate::buckets::Identity;

    const FILMS: &str = "arn:aws:s3vectors:us-east-1:000000000000:bucket/films";

    #[test]
    fn resources_are_named_in_one_way_at_a_time() {
        let here = Identity::default();
        assert_eq!(bucket(&here, Some("films"), None).unwrap().as_str(), "films");
        assert_eq!(bucket(&here, None, Some(FILMS)).unwrap().as_str(), "films");
        assert!(bucket(&here, Some("films"), Some(FILMS)).is_err());
        assert!(bucket(&here, None, None).is_err());
        let arn = format!("{FILMS}/index/plots");
        assert!(bucket(&here, None, Some(&arn)).is_err());
        assert_eq!(index(&here, None, None, Some(&arn)).unwrap().1.as_str(), "plots");
        assert_eq!(index(&here, Some("films"), Some("plots"), None).unwrap().1.as_str(), "plots");
        assert!(index(&here, Some("films"), None, None).is_err());
        assert!(index(&here, Some("films"), Some("plots"), Some(&arn)).is_err());
        assert!(index(&here, None, None, Some(FILMS)).is_err());
    }

    #[test]
    fn what_is_no_arn_is_refused() {
        let here = Identity::default();
        for bad in ["", "arn:aws:s3:::films", "arn:aws:s3vectors:us-east-1:1:bucket/films", &FILMS[..50], "a:b:c:d:e:f"]
        {
            assert!(parse(&here, "/a", bad).is_err(), "{bad}");
        }
        assert!(parse(&here, "/a", &FILMS.replace("us-east-1", "eu-west-1")).is_err());
    }
}
