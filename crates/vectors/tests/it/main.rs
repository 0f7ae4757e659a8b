//! The crate through its public interface.

#[cfg(test)]
mod engine;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod trips;
