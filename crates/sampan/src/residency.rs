//! Where data may be kept and computed on, as the accounts and the routing policy say: read again every few
//! seconds, and `sampan admin residency`.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use meta::{Database, Residence, Residences, Resident};
use route::{Border, Bound, Keeps, Level, Place, Region, Residency, Router};
use serde_json::json;

use crate::machine::{print, say};
use crate::model::table;

/// How often settings are read again.
const READ: Duration = Duration::from_secs(2);
/// The word for an empty list.
const NOWHERE: &str = "nowhere";

#[derive(Subcommand)]
pub(crate) enum ResidencyCommand {
    /// List all settings.
    Ls,
    /// Set both settings of an organisation, project, key, bucket or model; what is not named allows everything.
    /// Servers that run take it up within seconds.
    Set {
        /// organisation, project, key, bucket or model.
        level: String,
        /// Its name or id.
        name: String,
        /// Where data may be kept: regions and jurisdictions with commas between, or `nowhere`.
        #[arg(long, value_delimiter = ',', value_name = "PLACES")]
        data_region: Vec<String>,
        /// Where it may be computed on.
        #[arg(long, value_delimiter = ',', value_name = "PLACES")]
        compute_scope: Vec<String>,
    },
}

pub(crate) async fn run(is_json: bool, database: &Database, command: &ResidencyCommand) -> anyhow::Result<()> {
    match command {
        ResidencyCommand::Ls => list(is_json, &Residences::read(database).await?.all),
        ResidencyCommand::Set { level, name, data_region, compute_scope } => {
            let regions = Region::defaults();
            let is_known = |place: &&String| regions.iter().any(|region| region.lies_in(place)) || **place == NOWHERE;
            for place in data_region.iter().chain(compute_scope).filter(|place| !is_known(place)) {
                say(&format!("hint: {place:?} is no region or jurisdiction that is there without a policy"));
            }
            let (data, compute) = (places(data_region), places(compute_scope));
            let level = Resident::parse(level)?;
            Ok(Residences::set(database, level, name, data.as_deref(), compute.as_deref()).await?)
        }
    }
}

fn places(named: &[String]) -> Option<Vec<String>> {
    match named {
        [] => None,
        [one] if one == NOWHERE => Some(Vec::new()),
        several => Some(several.to_vec()),
    }
}

fn list(is_json: bool, all: &[Residence]) -> anyhow::Result<()> {
    if is_json {
        let row = |found: &Residence| {
            json!({
                "level": found.level.name(), "id": found.id, "name": found.name, "data_region": found.data_region,
                "compute_scope": found.compute_scope,
            })
        };
        return print(&format!("{:#}\n", serde_json::Value::from_iter(all.iter().map(row))));
    }
    let shown = |places: &Option<Vec<String>>| match places.as_deref() {
        None => "anywhere".to_owned(),
        Some([]) => NOWHERE.to_owned(),
        Some(places) => places.join(", "),
    };
    let mut rows = table(&["LEVEL", "NAME", "ID", "DATA KEPT", "COMPUTED"]);
    for found in all {
        let names = [found.level.name().to_owned(), found.name.clone(), found.id.clone()];
        rows.add_row(names.into_iter().chain([shown(&found.data_region), shown(&found.compute_scope)]));
    }
    print(&format!("{rows}\n"))
}

/// The region of this name. One that nobody has described is under no law that is known.
pub(crate) fn region(name: &str) -> Option<Region> {
    let described = Region::defaults().into_iter().find(|region| region.name == name);
    let bare = || Region {
        name: name.to_owned(),
        latitude: 0.0,
        longitude: 0.0,
        jurisdictions: Vec::new(),
        price_permille: 1000,
        carbon_g_per_kwh: route::CARBON_G_PER_KWH_UNKNOWN,
    };
    (!name.is_empty()).then(|| described.unwrap_or_else(bare))
}

/// What is held to the settings on this machine.
pub(crate) struct Borders {
    /// Its models, which keep nothing.
    pub(crate) models: Border,
    /// Its vector buckets, which are kept where they are searched; and what else it keeps.
    pub(crate) buckets: Border,
}

impl Borders {
    /// Around a machine that stands in this region.
    pub(crate) fn around(home: Option<Region>) -> Self {
        let models = Border::around(Place { computes: home.clone(), keeps: Keeps::Nothing });
        let keeps = home.clone().map_or(Keeps::Unknown, Keeps::In);
        Self { buckets: models.at(Place { computes: home, keeps }), models }
    }

    /// As the API asks it of a bucket. The model of a bucket's texts is asked for itself.
    pub(crate) fn of_buckets(&self) -> api::buckets::Border {
        let border = self.buckets.clone();
        Arc::new(move |caller, bucket| border.admits(caller, Some(bucket), ""))
    }

    /// As the API asks it of responses, files and batches.
    pub(crate) fn of_kept(&self) -> api::MayKeep {
        let border = self.buckets.clone();
        Arc::new(move |caller, model| border.admits_kept(caller, model))
    }
}

/// Puts the settings of the accounts and of the policy in force, until the process ends.
pub(crate) struct Watch {
    pub(crate) database: Database,
    pub(crate) border: Border,
    pub(crate) router: Option<Arc<Router>>,
    /// Those of the policy.
    pub(crate) configured: Residency,
}

impl Watch {
    /// Once, before the first request.
    ///
    /// # Errors
    /// If the database cannot be read: nobody is served without knowing where they may be.
    pub(crate) async fn start(self) -> anyhow::Result<()> {
        let mut known = Residences::read(&self.database).await?;
        self.put(&known);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(READ).await;
                match Residences::read(&self.database).await {
                    Ok(found) if found == known => {}
                    Ok(found) => {
                        self.put(&found);
                        known = found;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "settings of residency cannot be read; those of before stay in force");
                    }
                }
            }
        });
        Ok(())
    }

    fn put(&self, found: &Residences) {
        let mut residency = self.configured.clone();
        for (project, organisation) in &found.organisations {
            residency.set_organisation(project, organisation);
        }
        for setting in &found.all {
            residency.add(bound(setting));
        }
        if let Some(router) = &self.router {
            router.set_residency(residency.clone());
        }
        self.border.set(residency);
    }
}

fn bound(setting: &Residence) -> Bound {
    let level = match setting.level {
        Resident::Organisation => Level::Organisation,
        Resident::Project => Level::Project,
        Resident::Key => Level::Key,
        Resident::Bucket => Level::Bucket,
        Resident::Model => Level::Model,
    };
    let (data_region, compute_scope) = (setting.data_region.clone(), setting.compute_scope.clone());
    Bound { level, name: setting.id.clone(), data_region, compute_scope }
}

#[cfg(test)]
mod tests {
    use super::{places, region};

    #[test]
    fn nowhere_is_an_empty_list_and_nothing_is_anywhere() {
        let named = |names: &[&str]| places(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!((named(&[]), named(&["nowhere"])), (None, Some(Vec::new())));
        assert_eq!(named(&["EU", "tokyo"]).unwrap(), ["EU", "tokyo"]);
    }

    #[test]
    fn a_region_that_nobody_described_is_under_no_known_law() {
        assert!(region("").is_none() && region("paris").unwrap().lies_in("EU"));
        let own = region("attic").unwrap();
        assert!(own.lies_in("attic") && !own.lies_in("EU"));
    }
}
