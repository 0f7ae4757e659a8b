//! The links between regions, and what a request to each of them waits for its bytes.

use std::collections::HashMap;

use netplan::sites::{Way, ways};
use netplan::topology::{Builder, CableSpec, NodeKind, Place};
use serde::Serialize;

use crate::Region;

/// The slowest and the fastest link that is believed, in megabits a second.
const MBPS: std::ops::RangeInclusive<f64> = 0.001..=1e7;
/// The longest round trip that is believed: more than to the Moon and back.
const ROUND_TRIP_MS_MAX: f64 = 10_000.0;

/// A link between two regions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// Its ends.
    pub between: [String; 2],
    /// There and back, as `ping` shows it.
    pub round_trip_ms: f64,
    /// What it carries each way.
    pub mbps: f64,
    /// Packets that it loses, in hundredths.
    pub loss_percent: f64,
}

/// How requests reach the regions from here.
///
/// A region that no link leads to is as far as light needs in glass, and as wide as can be.
#[derive(Debug, Clone, Default)]
pub struct Network {
    links: Vec<Link>,
    ways: HashMap<String, Way>,
    names: Vec<String>,
}

/// How a request of so many bytes reaches a region.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reach {
    /// The regions on the way, both ends included; empty if only the distance is known.
    pub via: Vec<String>,
    /// There and back.
    pub round_trip_ms: f64,
    /// What its bytes take beyond that.
    pub bytes_ms: f64,
}

impl Network {
    /// The ways from `home` over these links. The errors are all that is wrong with them, a sentence each.
    pub(crate) fn new(home: Option<&Region>, regions: &[Region], links: Vec<Link>) -> Result<Self, Vec<String>> {
        if links.is_empty() {
            return Ok(Self::default());
        }
        let names: Vec<String> = regions.iter().map(|region| region.name.clone()).collect();
        let number = |name: &str| names.iter().position(|known| known == name);
        let mut wrong: Vec<String> = links.iter().filter_map(|link| fault(link, &names)).collect();
        let home = home.and_then(|home| number(&home.name));
        if home.is_none() {
            wrong.push("link: the ways begin at this machine: say where it stands with home".to_owned());
        }
        let (Some(home), true) = (home, wrong.is_empty()) else { return Err(wrong) };
        let mut builder = Builder::named("regions", 1);
        names.iter().for_each(|_| _ = builder.node(NodeKind::Endpoint, Place::default()));
        for link in &links {
            let ends = link.between.each_ref().map(|name| number(name).unwrap_or_default() as u32);
            let loss = (link.loss_percent / 100.0) as f32;
            let one_way_ns = (link.round_trip_ms / 2.0 * 1e6) as u32;
            builder.cable(ends[0], ends[1], CableSpec { loss, ..CableSpec::gbps(link.mbps / 1e3, one_way_ns) });
        }
        let topology = builder.finish().map_err(|error| vec![format!("link: {error}")])?;
        let found = names.iter().cloned().zip(ways(&topology, home as u32));
        let ways = found.filter_map(|(name, way)| Some((name, way?))).collect();
        Ok(Self { links, ways, names })
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// How a request with so many bytes reaches a region; `None`: nobody has said where this machine stands.
    #[must_use]
    pub fn reach(&self, home: Option<&Region>, region: &Region, bytes: u64) -> Option<Reach> {
        let Some(way) = self.ways.get(&region.name) else {
            let round_trip_ms = home?.round_trip_ms(region);
            return Some(Reach { via: Vec::new(), round_trip_ms, bytes_ms: 0.0 });
        };
        let via = way.sites.iter().map(|&site| self.names[site as usize].clone()).collect();
        let bytes_ms = (way.message_s(bytes) - way.round_trip_s) * 1e3;
        Some(Reach { via, round_trip_ms: way.round_trip_s * 1e3, bytes_ms })
    }
}

fn fault(link: &Link, regions: &[String]) -> Option<String> {
    let whose = format!("link {} - {}", link.between[0], link.between[1]);
    if let Some(name) = link.between.iter().find(|name| !regions.contains(name)) {
        return Some(format!("{whose}: there is no region {name:?}"));
    }
    if link.between[0] == link.between[1] {
        return Some(format!("{whose}: its ends are the same"));
    }
    let believed = (0.0..=ROUND_TRIP_MS_MAX).contains(&link.round_trip_ms)
        && MBPS.contains(&link.mbps)
        && (0.0..100.0).contains(&link.loss_percent);
    (!believed).then(|| {
        format!(
            "{whose}: round_trip_ms is 0 to {ROUND_TRIP_MS_MAX}, mbps {} to {}, loss_percent 0 to less than 100",
            MBPS.start(),
            MBPS.end()
        )
    })
}
