//! The crate through its public interface: the suite on every store, and what is particular to each.

#[cfg(test)]
mod every_store;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod simulation;
