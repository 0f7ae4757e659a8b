//! Where data may be kept and where it may be computed on: hard limits, never preferences.
//!
//! Two settings that are independent of each other, at five levels. All that are set hold at once, so a level can only
//! narrow what another one allows. A request that has nowhere to go is refused, and the refusal names the setting.

use std::collections::HashMap;
use std::sync::Arc;

use chat::Caller;
use serde::Serialize;

use crate::Region;

/// What a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The organisation that the caller's project belongs to.
    Organisation,
    /// The project that pays.
    Project,
    /// The key that was shown.
    Key,
    /// The vector bucket whose content is worked on.
    Bucket,
    /// The model that is asked for.
    Model,
}

impl Level {
    /// Its name in configuration and refusals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Key => "key",
            Self::Bucket => "bucket",
            Self::Model => "model",
        }
    }
}

/// Names of regions and jurisdictions, one of which has to hold. Empty: nowhere at all.
pub type Places = Vec<String>;

/// The settings of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// What it belongs to.
    pub level: Level,
    /// Its name.
    pub name: String,
    /// Where data may be kept; `None`: anywhere.
    pub data_region: Option<Places>,
    /// Where it may be computed on; `None`: anywhere.
    pub compute_scope: Option<Places>,
}

/// Where an upstream keeps what it is sent and what it answers, beyond the answer itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeps {
    /// Nowhere.
    Nothing,
    /// In this region.
    In(Region),
    /// Nobody has said.
    Unknown,
}

/// Where something stands and keeps its data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// Where it computes; `None`: nobody has said.
    pub computes: Option<Region>,
    /// Where it keeps data.
    pub keeps: Keeps,
}

impl Bound {
    /// Whether this place is inside.
    ///
    /// # Errors
    /// Why not, as a sentence for people. A place of which nobody has said where it is is never inside.
    pub fn admits(&self, place: &Place) -> Result<(), String> {
        if let Some(scope) = &self.compute_scope {
            inside("compute_scope", scope, place.computes.as_ref()).map_err(|why| self.refusal(&why))?;
        }
        self.admits_kept(&place.keeps)
    }

    /// Whether data may be kept where this place keeps it, wherever it is computed on.
    ///
    /// # Errors
    /// As [`Self::admits`].
    pub fn admits_kept(&self, keeps: &Keeps) -> Result<(), String> {
        match (&self.data_region, keeps) {
            (None, _) | (Some(_), Keeps::Nothing) => Ok(()),
            (Some(allowed), Keeps::In(region)) => inside("data_region", allowed, Some(region)),
            (Some(allowed), Keeps::Unknown) => inside("data_region", allowed, None),
        }
        .map_err(|why| self.refusal(&why))
    }

    fn refusal(&self, why: &str) -> String {
        format!("{} {}: {why}", self.level.as_str(), self.name)
    }
}

fn inside(setting: &str, allowed: &Places, region: Option<&Region>) -> Result<(), String> {
    let allowed_words = if allowed.is_empty() { "nowhere".to_owned() } else { allowed.join(", ") };
    match region {
        Some(region) if allowed.iter().any(|place| region.lies_in(place)) => Ok(()),
        Some(region) => Err(format!(
            "{setting} is {allowed_words}; {} ({}) is outside",
            region.name,
            region.jurisdictions.join(", ")
        )),
        None => Err(format!("{setting} is {allowed_words}; nobody has said where this one is")),
    }
}

/// All settings, by what they belong to.
#[derive(Debug, Clone, Default)]
pub struct Residency {
    bounds: HashMap<(Level, String), Vec<Arc<Bound>>>,
    /// The organisation of each project.
    organisations: HashMap<String, String>,
}

impl Residency {
    /// Adds settings of a thing. If it has some already, from another place, both hold.
    pub fn add(&mut self, bound: Bound) {
        self.bounds.entry((bound.level, bound.name.clone())).or_default().push(Arc::new(bound));
    }

    /// Says which organisation a project belongs to.
    pub fn set_organisation(&mut self, project: &str, organisation: &str) {
        self.organisations.insert(project.to_owned(), organisation.to_owned());
    }

    /// Whether nothing is limited anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// All settings, ordered by level and name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Bound>> {
        let mut all: Vec<_> = self.bounds.values().flatten().cloned().collect();
        all.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
        all
    }

    /// The settings that hold for a request.
    #[must_use]
    pub fn of(&self, caller: Option<&Caller>, bucket: Option<&str>, model: &str) -> Vec<Arc<Bound>> {
        if self.is_empty() {
            return Vec::new();
        }
        let project = caller.map(|caller| &*caller.project);
        let organisation = project.and_then(|project| self.organisations.get(project)).map(String::as_str);
        let names = [
            (Level::Organisation, organisation),
            (Level::Project, project),
            (Level::Key, caller.map(|caller| &*caller.key)),
            (Level::Bucket, bucket),
            (Level::Model, Some(model)),
        ];
        let found = names.into_iter().filter_map(|(level, name)| Some(self.of_one(level, name?)));
        found.flatten().cloned().collect()
    }

    fn of_one(&self, level: Level, name: &str) -> &[Arc<Bound>] {
        self.bounds.get(&(level, name.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The settings of a model.
    #[must_use]
    pub fn of_model(&self, model: &str) -> &[Arc<Bound>] {
        self.of_one(Level::Model, model)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Keeps, Level, Place, Residency};
    use crate::Region;
    use chat::{Caller, Priority};

    fn region(name: &str) -> Region {
        Region::defaults().into_iter().find(|region| region.name == name).unwrap()
    }

    fn bound(data: Option<&[&str]>, compute: Option<&[&str]>) -> Bound {
        let places = |places: Option<&[&str]>| places.map(|all| all.iter().map(|&place| place.to_owned()).collect());
        let (data_region, compute_scope) = (places(data), places(compute));
        Bound { level: Level::Project, name: "acme".to_owned(), data_region, compute_scope }
    }

    #[test]
    fn the_two_settings_are_independent() {
        let check = |computes: Option<&str>, keeps: Keeps, data: Option<&[&str]>, compute: Option<&[&str]>| {
            bound(data, compute).admits(&Place { computes: computes.map(region), keeps })
        };
        let kept = |name: &str| Keeps::In(region(name));
        assert!(check(Some("paris"), kept("virginia"), None, Some(&["EU"])).is_ok());
        assert!(check(Some("paris"), kept("virginia"), Some(&["EU"]), Some(&["EU"])).is_err());
        assert!(check(Some("virginia"), Keeps::Nothing, Some(&["EU"]), None).is_ok());
        assert!(check(Some("virginia"), Keeps::Unknown, Some(&["EU"]), None).is_err());
        assert!(check(None, Keeps::Nothing, None, Some(&["EU"])).is_err());
        assert!(check(None, Keeps::Unknown, None, None).is_ok());
        assert!(check(Some("paris"), Keeps::Nothing, None, Some(&[])).is_err(), "an empty list is nowhere");
        let why = check(Some("tokyo"), Keeps::Nothing, None, Some(&["EU", "SG"])).unwrap_err();
        assert_eq!(why, "project acme: compute_scope is EU, SG; tokyo (JP) is outside");
    }

    #[test]
    fn every_level_that_is_set_holds() {
        let mut residency = Residency::default();
        let caller = Caller { project: "acme".into(), key: "k".into(), priority: Priority::Normal };
        assert!(residency.of(Some(&caller), None, "m").is_empty());
        residency.set_organisation("acme", "acme-group");
        for (level, name) in [
            (Level::Organisation, "acme-group"),
            (Level::Project, "acme"),
            (Level::Key, "k"),
            (Level::Bucket, "b"),
            (Level::Model, "m"),
            (Level::Project, "other"),
        ] {
            residency.add(Bound { level, name: name.to_owned(), ..bound(None, Some(&["EU"])) });
        }
        assert_eq!(residency.of(Some(&caller), Some("b"), "m").len(), 5);
        assert_eq!(residency.of(Some(&caller), None, "n").len(), 3);
        assert_eq!(residency.of(None, None, "m").len(), 1);
        assert_eq!(residency.all().len(), 6);
    }
}
