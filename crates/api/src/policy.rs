//! Policies of buckets: JSON documents that say who may do what, in the form that both vendors share.
//!
//! A denial always counts. Where a policy is silent, the owner's people may, and nobody else.
//! What a policy may hold and we cannot enforce (conditions) is refused when it is set, never passed over.

use serde_json::{Map, Value};

/// The longest policy; the limit of Amazon S3 Vectors.
pub(crate) const POLICY_BYTES_MAX: usize = 20 << 10;
/// Statements of one policy.
const STATEMENTS_MAX: usize = 256;

/// A policy that can be enforced.
#[derive(Debug)]
pub(crate) struct Policy(Vec<Statement>);

#[derive(Debug)]
struct Statement {
    denies: bool,
    principals: Set,
    actions: Set,
    resources: Set,
}

/// Names with `*` and `?`, or everything but them.
#[derive(Debug)]
struct Set {
    patterns: Vec<String>,
    inverted: bool,
}

/// Who wants to do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Every name by which policies may call the one who asks.
    pub(crate) principals: &'a [String],
    /// `SERVICE:Operation`.
    pub(crate) action: &'a str,
    /// The resource's full name.
    pub(crate) resource: &'a str,
}

/// What a policy says about a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    Silent,
}

impl Policy {
    /// Reads a policy; the error is a sentence about what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(format!("the policy has {} bytes, {POLICY_BYTES_MAX} allowed", text.len()));
        }
        let policy: Map<String, Value> =
            serde_json::from_str(text).map_err(|why| format!("the policy is no JSON object: {why}"))?;
        if let Some(field) = policy.keys().find(|key| !matches!(key.as_str(), "Version" | "Id" | "Statement")) {
            return Err(format!("the policy has an unknown field {field:?}"));
        }
        let statements = match policy.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => Vec::new(),
        };
        if statements.is_empty() || statements.len() > STATEMENTS_MAX {
            return Err(format!("Statement has {} entries, 1 to {STATEMENTS_MAX} allowed", statements.len()));
        }
        statements.into_iter().map(Statement::parse).collect::<Result<_, _>>().map(Self)
    }

    /// What it says.
    pub(crate) fn verdict(&self, wish: Wish<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.0 {
            match statement.covers(wish) {
                true if statement.denies => return Verdict::Denied,
                true => verdict = Verdict::Allowed,
                false => {}
            }
        }
        verdict
    }
}

impl Statement {
    fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else { return Err("a statement is no object".to_owned()) };
        let known = |key: &str| {
            matches!(
                key,
                "Sid" | "Effect" | "Principal" | "NotPrincipal" | "Action" | "NotAction" | "Resource" | "NotResource"
            )
        };
        if let Some(field) = fields.keys().find(|key| !known(key)) {
            return Err(format!("the field {field:?} of a statement is not supported"));
        }
        let denies = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err("Effect is neither Allow nor Deny".to_owned()),
        };
        Ok(Self {
            denies,
            principals: Set::parse(fields, "Principal", "NotPrincipal")?,
            actions: Set::parse(fields, "Action", "NotAction")?,
            resources: Set::parse(fields, "Resource", "NotResource")?,
        })
    }

    fn covers(&self, wish: Wish<'_>) -> bool {
        // Amazon compares actions without regard to case.
        let actions = [wish.action.to_ascii_lowercase()];
        let resources = [wish.resource.to_owned()];
        self.principals.has_any(wish.principals) && self.actions.has_any(&actions) && self.resources.has_any(&resources)
    }
}

impl Set {
    fn parse(fields: &Map<String, Value>, name: &str, inverted_name: &str) -> Result<Self, String> {
        let (value, inverted) = match (fields.get(name), fields.get(inverted_name)) {
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            _ => return Err(format!("a statement has either {name} or {inverted_name}")),
        };
        let mut patterns = Vec::new();
        collect(value, &mut patterns).ok_or_else(|| format!("{name} is no text and no list of texts"))?;
        if patterns.is_empty() {
            return Err(format!("{name} is empty"));
        }
        if name == "Action" {
            patterns.iter_mut().for_each(|pattern| pattern.make_ascii_lowercase());
        }
        Ok(Self { patterns, inverted })
    }

    fn has_any(&self, names: &[String]) -> bool {
        let listed = self.patterns.iter().any(|pattern| names.iter().any(|name| base::is_like(pattern, name)));
        listed != self.inverted
    }
}

/// Texts, lists of texts, and Amazon's `{"AWS": ...}` around them.
fn collect(value: &Value, patterns: &mut Vec<String>) -> Option<()> {
    match value {
        Value::String(text) => patterns.push(text.clone()),
        Value::Array(values) => {
            for value in values {
                patterns.push(value.as_str()?.to_owned());
            }
        }
        Value::Object(kinds) => {
            for (kind, value) in kinds {
                match value {
                    // Services and federations are nobody here: nothing fits them.
                    _ if kind != "AWS" => patterns.push(format!("{kind}:")),
                    Value::String(_) | Value::Array(_) => collect(value, patterns)?,
                    _ => return None,
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Policy, Verdict, Wish};

    const ROOT: &str = "arn:aws:iam::000000000000:root";
    const FILMS: &str = "arn:aws:s3vectors:us-east-1:000000000000:bucket/films";

    fn verdict(policy: &serde_json::Value, action: &str, resource: &str) -> Verdict {
        let principals = ["000000000000".to_owned(), ROOT.to_owned()];
        let wish = Wish { principals: &principals, action, resource };
        Policy::parse(&policy.to_string()).unwrap().verdict(wish)
    }

    #[test]
    fn a_denial_counts_before_everything() {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3vectors:*", "Resource": "*"},
            {"Sid": "a", "Effect": "Deny", "Principal": {"AWS": [ROOT]}, "Action": ["s3vectors:Put*"],
             "Resource": format!("{FILMS}/index/*")},
        ]});
        assert_eq!(verdict(&policy, "s3vectors:PutVectors", &format!("{FILMS}/index/a")), Verdict::Denied);
        assert_eq!(verdict(&policy, "s3vectors:PutVectors", FILMS), Verdict::Allowed);
        assert_eq!(verdict(&policy, "s3vectors:QueryVectors", &format!("{FILMS}/index/a")), Verdict::Allowed);
        assert_eq!(verdict(&policy, "oss:QueryVectors", FILMS), Verdict::Silent);
    }

    #[test]
    fn everything_but_can_be_said() {
        let policy = json!({"Statement": {"Effect": "Deny", "Principal": ["*"], "NotAction": "s3vectors:get*",
            "NotResource": ["other"]}});
        assert_eq!(verdict(&policy, "s3vectors:GetVectors", FILMS), Verdict::Silent);
        assert_eq!(verdict(&policy, "s3vectors:PutVectors", FILMS), Verdict::Denied);
        assert_eq!(verdict(&policy, "s3vectors:PutVectors", "other"), Verdict::Silent);
    }

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        let good = json!({"Effect": "Allow", "Principal": "*", "Action": "a:b", "Resource": "*"});
        let mut condition = good.clone();
        condition["Condition"] = json!({"Bool": {"aws:SecureTransport": "true"}});
        for bad in [
            json!({"Statement": [condition]}),
            json!({"Statement": []}),
            json!({"Statement": [good], "Other": 1}),
            json!({"Statement": [{"Effect": "Perhaps"}]}),
            json!({"Statement": [{"Effect": "Allow", "Principal": 1, "Action": "a", "Resource": "*"}]}),
            json!([]),
        ] {
            assert!(Policy::parse(&bad.to_string()).is_err(), "{bad}");
        }
        assert!(Policy::parse(&" ".repeat(21 << 10)).is_err());
    }
}
