//! What a role and a key may do.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What somebody is in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything but money and owners.
    Admin,
    /// Uses models and buckets, and makes keys for it.
    Developer,
    /// Looks.
    Viewer,
    /// Sees and moves money.
    Billing,
}

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Use models and buckets.
    Use,
    /// See what there is.
    Look,
    /// Change the organisation.
    Manage,
    /// Move money.
    Money,
}

impl Role {
    /// All of them, the mightiest first.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer, Self::Billing];

    /// Its name, as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Billing => "billing",
        }
    }

    /// The role of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| Error::Wrong {
            field: "role",
            value: name.to_owned(),
            allowed: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// Whether it may.
    #[must_use]
    pub fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Use => matches!(self, Self::Owner | Self::Admin | Self::Developer),
            Permission::Look => true,
            Permission::Manage => self.manages(),
            Permission::Money => matches!(self, Self::Owner | Self::Billing),
        }
    }

    /// Whether it looks after its organisation.
    #[must_use]
    pub fn manages(self) -> bool {
        matches!(self, Self::Owner | Self::Admin)
    }

    /// Whether it sees more of its organisation than its own project.
    #[must_use]
    pub fn sees_all(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Billing)
    }

    /// Whether it may give this role to others, and take it from them: nobody gives what he does not have.
    #[must_use]
    pub fn may_grant(self, other: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => matches!(other, Self::Admin | Self::Developer | Self::Viewer),
            Self::Developer => matches!(other, Self::Developer | Self::Viewer),
            Self::Viewer | Self::Billing => false,
        }
    }
}

/// What a key is good for; empty lists allow everything of their kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scopes {
    /// Dialects by name, of [`DIALECTS`].
    pub dialects: Vec<String>,
    /// Models by name; a trailing `*` stands for any ending.
    pub models: Vec<String>,
    /// Vector buckets by name; a trailing `*` stands for any ending.
    pub buckets: Vec<String>,
}

/// Every dialect that a scope may name.
pub const DIALECTS: [&str; 8] =
    ["openai", "anthropic", "ollama", "cohere", "dashscope", "s3vectors", "ossvectors", "admin"];

/// Entries of one list of a scope.
const SCOPE_ENTRIES_MAX: usize = 256;
/// Bytes of one entry.
const SCOPE_ENTRY_BYTES_MAX: usize = 256;

impl Scopes {
    /// Whether the key speaks this dialect.
    #[must_use]
    pub fn allows_dialect(&self, dialect: &str) -> bool {
        allows(&self.dialects, dialect)
    }

    /// Whether the key uses this model.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        allows(&self.models, model)
    }

    /// Whether the key uses this bucket.
    #[must_use]
    pub fn allows_bucket(&self, bucket: &str) -> bool {
        allows(&self.buckets, bucket)
    }

    /// As it is kept.
    pub(crate) fn written(&self) -> String {
        serde_json::to_string(self).expect("lists of strings become JSON")
    }

    /// The first list that reaches further than the other's, by name.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Option<&'static str> {
        let lists = [
            ("dialects", &self.dialects, &other.dialects),
            ("models", &self.models, &other.models),
            ("buckets", &self.buckets, &other.buckets),
        ];
        lists.into_iter().find(|(_, inner, outer)| !is_within(inner, outer)).map(|(field, ..)| field)
    }

    /// Refuses lists that are too long, and dialects that there are not.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn check(&self) -> Result<()> {
        if let Some(dialect) = self.dialects.iter().find(|dialect| !DIALECTS.contains(&dialect.as_str())) {
            return Err(Error::Wrong { field: "dialects", value: dialect.clone(), allowed: DIALECTS.join(", ") });
        }
        for (field, list) in [("dialects", &self.dialects), ("models", &self.models), ("buckets", &self.buckets)] {
            let longest = list.iter().map(String::len).max().unwrap_or(0);
            if list.len() > SCOPE_ENTRIES_MAX || longest > SCOPE_ENTRY_BYTES_MAX {
                return Err(Error::Wrong {
                    field,
                    value: format!("{} entries, the longest of {longest} bytes", list.len()),
                    allowed: format!("{SCOPE_ENTRIES_MAX} entries of {SCOPE_ENTRY_BYTES_MAX} bytes"),
                });
            }
        }
        Ok(())
    }
}

fn is_within(inner: &[String], outer: &[String]) -> bool {
    // A pattern fits what lies in another one that ends in a star; a name without one fits itself only.
    outer.is_empty()
        || (!inner.is_empty()
            && inner.iter().all(|entry| {
                outer.iter().any(|wider| match wider.strip_suffix('*') {
                    Some(beginning) => entry.starts_with(beginning),
                    None => entry == wider,
                })
            }))
}

fn allows(list: &[String], name: &str) -> bool {
    list.is_empty()
        || list.iter().any(|entry| match entry.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => entry == name,
        })
}

#[cfg(test)]
mod tests {
    use super::{Permission, Role, Scopes};

    #[test]
    fn only_who_is_meant_to_use_models_may() {
        let users: Vec<Role> = Role::ALL.into_iter().filter(|role| role.may(Permission::Use)).collect();
        assert_eq!(users, [Role::Owner, Role::Admin, Role::Developer]);
        assert!(Role::Billing.may(Permission::Look) && !Role::Viewer.may(Permission::Manage));
        assert!(Role::parse("root").is_err() && Role::parse("owner").is_ok());
    }

    #[test]
    fn nobody_gives_what_he_does_not_have() {
        for (giver, given) in [(Role::Admin, Role::Owner), (Role::Admin, Role::Billing), (Role::Viewer, Role::Viewer)] {
            assert!(!giver.may_grant(given), "{giver:?} {given:?}");
        }
        assert!(Role::Owner.may_grant(Role::Billing) && Role::Developer.may_grant(Role::Viewer));
        assert!(!Role::Admin.may(Permission::Money) && Role::Billing.may(Permission::Money));
    }

    #[test]
    fn a_scope_lies_in_another_one_or_names_where_it_does_not() {
        let models = |names: &[&str]| Scopes {
            models: names.iter().map(|&name| name.to_owned()).collect(),
            ..Scopes::default()
        };
        for (inner, outer, expected) in [
            (models(&[]), models(&[]), None),
            (models(&["a"]), models(&[]), None),
            (models(&[]), models(&["a"]), Some("models")),
            (models(&["qwen3-x", "qwen3*"]), models(&["qwen*"]), None),
            (models(&["qwen*"]), models(&["qwen3*"]), Some("models")),
            (models(&["a*"]), models(&["a"]), Some("models")),
        ] {
            assert_eq!(inner.beyond(&outer), expected, "{inner:?} {outer:?}");
        }
        let unknown = Scopes { dialects: vec!["latin".to_owned()], ..Scopes::default() };
        assert!(unknown.check().unwrap_err().to_string().contains("\"latin\""));
    }

    #[test]
    fn an_empty_scope_allows_all_and_a_star_any_ending() {
        let scopes = Scopes { models: vec!["qwen3*".to_owned(), "mine".to_owned()], ..Scopes::default() };
        assert!(scopes.allows_dialect("openai") && scopes.allows_bucket("b"));
        assert!(scopes.allows_model("qwen3-0.6b") && scopes.allows_model("mine"));
        assert!(!scopes.allows_model("mine2") && !scopes.allows_model("other"));
        let long = Scopes { buckets: vec!["x".repeat(300)], ..Scopes::default() };
        assert!(long.check().is_err() && scopes.check().is_ok());
    }
}
