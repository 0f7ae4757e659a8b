//! Regions: where a machine stands, whose law holds there, and what that costs.

use serde::Serialize;

/// A place where something is computed or kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Region {
    /// Its name in configuration, for example `frankfurt`.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Whose law holds there: an ISO 3166-1 code, and unions of states such as `EU`. In capitals.
    pub jurisdictions: Vec<String>,
    /// Prices there, in thousandths of the pool's own.
    pub price_permille: u32,
    /// Grams of CO2 equivalents a kilowatt-hour of the grid.
    pub carbon_g_per_kwh: u32,
}

/// Radius of the sphere that has the Earth's volume, in kilometres (IUGG).
const EARTH_KM: f64 = 6_371.0;
/// Kilometres that light goes in glass in a millisecond: its speed divided by a refractive index of 1.47.
const GLASS_KM_PER_MS: f64 = 204.0;

/// The default regions: name, coordinates, jurisdictions, grams of CO2 equivalents a kilowatt-hour.
///
/// Coordinates are the cities', rounded to a hundredth of a degree. Codes are ISO 3166-1; `EU` by membership. Carbon is
/// Our World in Data's carbon intensity of electricity of the whole country in 2023 (United Arab Emirates: 2022), as
/// codecarbon at commit b05965e holds it, rounded. All of it is replaced by a `[[region]]` of the same name.
#[rustfmt::skip]
const DEFAULTS: [(&str, f64, f64, &[&str], u32); 10] = [
    ("hangzhou",   30.27,  120.16, &["CN"],       582),
    ("singapore",   1.35,  103.82, &["SG"],       471),
    ("tokyo",      35.68,  139.69, &["JP"],       485),
    ("dubai",      25.20,   55.27, &["AE"],       561),
    ("frankfurt",  50.11,    8.68, &["DE", "EU"], 381),
    ("paris",      48.86,    2.35, &["FR", "EU"],  56),
    ("amsterdam",  52.37,    4.90, &["NL", "EU"], 268),
    ("sao-paulo", -23.55,  -46.63, &["BR"],        98),
    ("queretaro",  20.59, -100.39, &["MX"],       507),
    ("virginia",   39.04,  -77.49, &["US"],       369),
];

/// What a kilowatt-hour of a grid causes that nobody has described: the world's mean of 2023 by the same source.
pub const CARBON_G_PER_KWH_UNKNOWN: u32 = 481;

impl Region {
    /// The regions that exist without being configured. Prices are a thousand thousandths everywhere: what a region
    /// costs is in a vendor's price list and not here.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let region =
            |&(name, latitude, longitude, jurisdictions, carbon_g_per_kwh): &(&str, f64, f64, &[&str], u32)| {
                let jurisdictions = jurisdictions.iter().map(|&code| code.to_owned()).collect();
                Self {
                    name: name.to_owned(),
                    latitude,
                    longitude,
                    jurisdictions,
                    price_permille: 1_000,
                    carbon_g_per_kwh,
                }
            };
        DEFAULTS.iter().map(region).collect()
    }

    /// Whether a place by this name holds it: its own name, or a jurisdiction.
    #[must_use]
    pub fn lies_in(&self, place: &str) -> bool {
        self.name == place || self.jurisdictions.iter().any(|code| code == place)
    }

    /// Kilometres along the surface (haversine).
    #[must_use]
    pub fn distance_km(&self, other: &Self) -> f64 {
        let radians = |degrees: f64| degrees.to_radians();
        let (north, east) = (radians(other.latitude - self.latitude), radians(other.longitude - self.longitude));
        let cosines = radians(self.latitude).cos() * radians(other.latitude).cos();
        let half = (north / 2.0).sin().powi(2) + cosines * (east / 2.0).sin().powi(2);
        2.0 * EARTH_KM * half.sqrt().min(1.0).asin()
    }

    /// The least that a question and its answer take over this distance, in milliseconds: light in glass, there and
    /// back, along the surface. Real networks take longer.
    #[must_use]
    pub fn round_trip_ms(&self, other: &Self) -> f64 {
        2.0 * self.distance_km(other) / GLASS_KM_PER_MS
    }
}

#[cfg(test)]
mod tests {
    use super::Region;

    fn named(name: &str) -> Region {
        Region::defaults().into_iter().find(|region| region.name == name).unwrap()
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        // Great-circle distances between the cities, to the nearest 50 km.
        let check = |from: &str, to: &str, km: f64| {
            let found = named(from).distance_km(&named(to));
            assert!((found - km).abs() < 50.0, "{from} to {to}: {found} km");
            assert!((found - named(to).distance_km(&named(from))).abs() < 1e-6);
        };
        check("frankfurt", "paris", 480.0);
        check("tokyo", "singapore", 5_320.0);
        check("paris", "paris", 0.0);
        let trip = named("frankfurt").round_trip_ms(&named("virginia"));
        assert!((60.0..70.0).contains(&trip), "{trip}");
    }

    #[test]
    fn a_region_lies_in_itself_and_under_its_laws() {
        let frankfurt = named("frankfurt");
        assert!(["frankfurt", "DE", "EU"].iter().all(|place| frankfurt.lies_in(place)));
        assert!(["paris", "FR", "eu", ""].iter().all(|place| !frankfurt.lies_in(place)));
    }
}
