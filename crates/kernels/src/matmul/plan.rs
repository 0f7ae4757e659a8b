//! Which rows are packed how, and which matrix meets them.

use super::rows::{Role, Roles};
use super::{Gathered, kind_for};
use crate::activations::{Kind, TILE};
use crate::layout::LANES;
use crate::{Cpu, Matrix};

/// What a call works out before it begins; kept for its memory.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(super) sets: Vec<Set>,
    pub(super) tasks: Vec<Planned>,
    /// The rows of each role, if a call has both.
    prompt: Vec<u32>,
    generated: Vec<u32>,
}

/// One matrix of a call and rows that it meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) job: usize,
    pub(super) set: Set,
    /// Where the outputs begin.
    pub(super) start: usize,
}

/// Rows of `x` that are packed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) kind: Kind,
    /// The first word in the buffer of the kind.
    pub(super) start: usize,
    pub(super) count: usize,
    pub(super) members: Members,
    /// Whether an earlier product has packed them.
    pub(super) is_packed: bool,
}

/// Which rows are in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Members {
    All,
    Prompt,
    Generated,
    /// Those of a gathered job.
    Job(usize),
}

impl Set {
    pub(super) fn tiles(&self) -> usize {
        self.count.div_ceil(TILE)
    }

    /// Where tile `index` lies in the buffer, and how many columns it has.
    pub(super) fn tile(&self, index: usize, words: usize) -> (std::ops::Range<usize>, usize) {
        let stride = TILE.min(self.count - index * TILE);
        let start = self.start + index * TILE * words;
        (start..start + stride * words, stride)
    }
}

impl Plans {
    pub(super) fn group<'a>(
        &mut self,
        cpu: &Cpu,
        roles: Roles<'_>,
        count: usize,
        jobs: impl Iterator<Item = &'a Matrix>,
    ) {
        self.sets.clear();
        self.tasks.clear();
        let only = self.split(roles);
        for (job, matrix) in jobs.enumerate() {
            let [prompt, generated] = [Role::Prompt, Role::Generated].map(|role| kind_for(cpu, matrix, role));
            let kind = match only {
                Some(Role::Prompt) => Some(prompt),
                Some(Role::Generated) => Some(generated),
                None => Some(prompt).filter(|_| prompt == generated),
            };
            let sets = match kind {
                Some(kind) => [Some((kind, Members::All, count)), None],
                None => [
                    Some((prompt, Members::Prompt, self.prompt.len())),
                    Some((generated, Members::Generated, self.generated.len())),
                ],
            };
            for (kind, members, count) in sets.into_iter().flatten() {
                let set = self.set(kind, members, count, matrix.columns(), |known| *known == members);
                self.tasks.push(Planned { job, set, start: 0 });
            }
        }
    }

    /// Returns the length of all outputs.
    pub(super) fn gathered(&mut self, cpu: &Cpu, jobs: &[Gathered<'_>]) -> usize {
        self.sets.clear();
        self.tasks.clear();
        let mut start = 0;
        for (index, job) in jobs.iter().enumerate() {
            let kind = kind_for(cpu, job.weights, job.role);
            // While one token is decoded, all of its experts have the same row.
            let is_shared = |known: &Members| matches!(known, Members::Job(j) if jobs[*j].rows == job.rows);
            let set = self.set(kind, Members::Job(index), job.rows.len(), job.weights.columns(), is_shared);
            self.tasks.push(Planned { job: index, set, start });
            start += job.rows.len() * job.weights.rows();
        }
        start
    }

    /// The rows of a set, if they are not simply all.
    pub(super) fn rows<'a>(&'a self, set: &Set, jobs: &[Gathered<'a>]) -> Option<&'a [u32]> {
        match set.members {
            Members::All => None,
            Members::Prompt => Some(&self.prompt),
            Members::Generated => Some(&self.generated),
            Members::Job(job) => Some(jobs[job].rows),
        }
    }

    /// Sorts the rows by role; returns the role if all have the same.
    fn split(&mut self, roles: Roles<'_>) -> Option<Role> {
        let roles = match roles {
            Roles::All(role) => return Some(role),
            Roles::Each(roles) => roles,
        };
        let first = *roles.first().unwrap_or(&Role::Prompt);
        if roles.iter().all(|role| *role == first) {
            return Some(first);
        }
        self.prompt.clear();
        self.generated.clear();
        for (row, role) in roles.iter().enumerate() {
            match role {
                Role::Prompt => self.prompt.push(row as u32),
                Role::Generated => self.generated.push(row as u32),
            }
        }
        None
    }

    /// The set of this kind whose members are the same, or a new one.
    fn set(
        &mut self,
        kind: Kind,
        members: Members,
        count: usize,
        columns: usize,
        is_same: impl Fn(&Members) -> bool,
    ) -> Set {
        if let Some(set) = self.sets.iter().find(|set| set.kind == kind && is_same(&set.members)) {
            return *set;
        }
        let of_kind = self.sets.iter().rfind(|set| set.kind == kind);
        let start = of_kind.map_or(0, |set| set.start + set.count * kind.words(columns)).next_multiple_of(LANES);
        let set = Set { kind, start, count, members, is_packed: false };
        self.sets.push(set);
        set
    }
}
