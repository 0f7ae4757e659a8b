//! A crate uses crates of lower layers only; neighbours never.

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// The layers, lowest first. A crate that is not named here may not exist.
pub const LAYERS: [&[&str]; 6] = [
    &["base", "kernels"],
    &["store", "meta", "chat", "netplan", "fabric", "oidc"],
    &["models", "vectors", "ledger", "hub", "jobs", "physical"],
    &["engine", "route", "video", "agents", "train"],
    &["api"],
    &["sampan"],
];

/// Crates that stand beside the layers: nobody may use them.
pub const BESIDE: [&str; 1] = ["xtask"];

/// The layer of a crate of this workspace, 0 the lowest.
#[must_use]
pub fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// What `cargo metadata` says of this workspace.
///
/// # Errors
/// If cargo cannot be run or answers something else.
pub fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .current_dir(crate::root())
        .other_options(["--offline".to_owned()])
        .exec()
        .or_else(|_| MetadataCommand::new().current_dir(crate::root()).exec().context("run cargo metadata"))
}

/// Every edge of the workspace that does not point down, as a sentence.
#[must_use]
pub fn violations(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    let is_ours = |name: &str| members.iter().any(|package| package.name.as_str() == name);
    let mut found = Vec::new();
    for package in &members {
        let name = package.name.as_str();
        if BESIDE.contains(&name) {
            continue;
        }
        let Some(layer) = layer_of(name) else {
            found.push(format!("crate {name} stands in no layer; add it to xtask/src/layers.rs and ARCHITECTURE.md"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| is_ours(&dependency.name)) {
            let below = layer_of(&dependency.name).is_some_and(|lower| lower < layer);
            let itself_in_tests = dependency.name == name && dependency.kind == DependencyKind::Development;
            if !below && !itself_in_tests {
                found.push(format!("{name} (layer {layer}) uses {}, which is not below it", dependency.name));
            }
        }
    }
    found
}

/// All names that `from` reaches through normal dependencies inside the workspace.
#[must_use]
pub fn reachable(metadata: &Metadata, from: &str) -> Vec<String> {
    let members = metadata.workspace_packages();
    let mut reached = vec![from.to_owned()];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        next += 1;
        let Some(package) = members.iter().find(|package| package.name.as_str() == name) else { continue };
        for dependency in package.dependencies.iter().filter(|edge| edge.kind == DependencyKind::Normal) {
            let ours = members.iter().any(|member| member.name.as_str() == dependency.name);
            if ours && !reached.contains(&dependency.name) {
                reached.push(dependency.name.clone());
            }
        }
    }
    reached.remove(0);
    reached
}
