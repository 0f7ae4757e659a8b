//! The commands of `sampan admin` about who there is.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    /// Organisations: each has its members and projects, and sees nothing of the others.
    Organisation {
        #[command(subcommand)]
        command: OrganisationCommand,
    },
    /// Projects: what uses models, kept apart from others.
    Project {
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// Members of organisations.
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Keys of projects.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a further owner's key and keep it in DIR/admin.key.
    Recover,
}

#[derive(Subcommand)]
pub(crate) enum OrganisationCommand {
    /// Make an organisation.
    New {
        /// Its name.
        name: String,
    },
    /// List organisations.
    Ls,
    /// Close an organisation: the keys of its projects open nothing any more.
    Close {
        /// Its name or id.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project.
    New {
        /// Its name.
        name: String,
        /// The organisation's name or id.
        #[arg(long, default_value = meta::FIRST)]
        organisation: String,
    },
    /// List projects.
    Ls {
        /// One organisation's, by name or id.
        #[arg(long)]
        organisation: Option<String>,
    },
    /// Close a project: its keys open nothing any more.
    Close {
        /// Its name or id.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum MemberCommand {
    /// Let somebody join an organisation.
    New(MakeMember),
    /// List members.
    Ls {
        /// One organisation's, by name or id.
        #[arg(long)]
        organisation: Option<String>,
    },
    /// Give a member another role.
    Role {
        /// Its id from `member ls`.
        id: String,
        /// owner, admin, developer, viewer or billing.
        role: String,
    },
    /// Remove a member.
    Remove {
        /// Its id from `member ls`.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct MakeMember {
    /// The name among people.
    pub(super) name: String,
    /// The address by which a sign-in is recognised.
    #[arg(long)]
    pub(super) email: Option<String>,
    /// owner, admin, developer, viewer or billing.
    #[arg(long, default_value = "developer")]
    pub(super) role: String,
    /// The organisation's name or id.
    #[arg(long, default_value = meta::FIRST)]
    pub(super) organisation: String,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key. It is printed once, and nowhere kept.
    New(NewArguments),
    /// List keys.
    Ls {
        /// One project's, by name or id.
        #[arg(long)]
        project: Option<String>,
    },
    /// Revoke a key: from now on it opens nothing.
    Revoke {
        /// Its id from `key ls`.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct NewArguments {
    /// Its name among people.
    pub(super) name: String,
    /// The project that it acts for, by name or id.
    #[arg(long, default_value = meta::FIRST)]
    pub(super) project: String,
    /// owner, admin, developer, viewer or billing.
    #[arg(long, default_value = "developer")]
    pub(super) role: String,
    /// Good for these models only, separated by commas; a trailing * stands for any ending.
    #[arg(long, value_delimiter = ',')]
    pub(super) models: Vec<String>,
    /// Good for these APIs only: openai, anthropic, ollama, cohere, dashscope, s3vectors, ossvectors, admin.
    #[arg(long, value_delimiter = ',')]
    pub(super) dialects: Vec<String>,
    /// Good for these vector buckets only; a trailing * stands for any ending.
    #[arg(long, value_delimiter = ',')]
    pub(super) buckets: Vec<String>,
    /// Where its data may lie. Default: where the project's may.
    #[arg(long, value_name = "REGION")]
    pub(super) data_region: Option<String>,
    /// Where its requests may be computed. Default: where the project's may.
    #[arg(long, value_name = "SCOPE")]
    pub(super) compute_scope: Option<String>,
    /// Ends after so many days.
    #[arg(long)]
    pub(super) days: Option<u64>,
}
