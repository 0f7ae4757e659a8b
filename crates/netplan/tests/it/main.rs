//! The crate through its public API, against results of other programs in `fixtures/hpn`.

#[cfg(test)]
mod references;
mod smoke;
