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
            Permission::Manage => matches!(self, Self::Owner | Self::Admin),
        }
    }
}

/// What a key is good for; empty lists allow everything of their kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scopes {
    /// Dialects by name: `openai`, `anthropic`, `ollama`, `dashscope`, `s3vectors`, `ossvectors`, `admin`.
    pub dialects: Vec<String>,
    /// Models by name; a trailing `*` stands for any ending.
    pub models: Vec<String>,
    /// Vector buckets by name; a trailing `*` stands for any ending.
    pub buckets: Vec<String>,
}

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

    /// Refuses lists that are too long.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn check(&self) -> Result<()> {
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
    fn an_empty_scope_allows_all_and_a_star_any_ending() {
        let scopes = Scopes { models: vec!["qwen3*".to_owned(), "mine".to_owned()], ..Scopes::default() };
        assert!(scopes.allows_dialect("openai") && scopes.allows_bucket("b"));
        assert!(scopes.allows_model("qwen3-0.6b") && scopes.allows_model("mine"));
        assert!(!scopes.allows_model("mine2") && !scopes.allows_model("other"));
        let long = Scopes { buckets: vec!["x".repeat(300)], ..Scopes::default() };
        assert!(long.check().is_err() && scopes.check().is_ok());
    }
}
