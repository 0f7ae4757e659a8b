//! Rows of activations, and what they are for.

/// What a row of activations is for. It decides how quantised weights are multiplied ([`crate::Precision::Fast`]), and
/// so a row's last bits: they depend on its own role, and never on the rows beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A row of a prompt, which as a rule comes with many others and is bound by arithmetic.
    Prompt,
    /// A row that was generated, which as a rule comes alone and is bound by memory.
    Generated,
}

/// Rows of activations `[n, columns]` and their roles.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(super) x: &'a [f32],
    pub(super) roles: Roles<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Roles<'a> {
    All(Role),
    Each(&'a [Role]),
}

impl<'a> Rows<'a> {
    /// Rows that are all of a prompt.
    #[must_use]
    pub fn prompt(x: &'a [f32]) -> Self {
        Self { x, roles: Roles::All(Role::Prompt) }
    }

    /// Rows that were all generated.
    #[must_use]
    pub fn generated(x: &'a [f32]) -> Self {
        Self { x, roles: Roles::All(Role::Generated) }
    }

    /// Rows of both kinds; there is a role for each.
    #[must_use]
    pub fn mixed(x: &'a [f32], roles: &'a [Role]) -> Self {
        Self { x, roles: Roles::Each(roles) }
    }

    /// Other numbers in the same roles.
    #[must_use]
    pub fn with<'b>(self, x: &'b [f32]) -> Rows<'b>
    where
        'a: 'b,
    {
        Rows { x, roles: self.roles }
    }

    /// The activations.
    #[must_use]
    pub fn numbers(self) -> &'a [f32] {
        self.x
    }

    /// How many rows of `columns` numbers there are.
    ///
    /// # Panics
    /// If they are not whole, or some have no role.
    pub(super) fn count(self, columns: usize) -> usize {
        assert!(self.x.len().is_multiple_of(columns), "x is whole rows of {columns}");
        let count = self.x.len() / columns;
        if let Roles::Each(roles) = self.roles {
            assert_eq!(roles.len(), count, "every row has a role");
        }
        count
    }

    /// What row `row` is for.
    ///
    /// # Panics
    /// If every row has its own role and there is no such row.
    #[must_use]
    pub fn role(self, row: usize) -> Role {
        match self.roles {
            Roles::All(role) => role,
            Roles::Each(roles) => roles[row],
        }
    }
}
