//! The crate through its public interface.

#[cfg(test)]
mod changes;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod rest;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod trips;
