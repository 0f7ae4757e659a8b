use meta::{Database, Error, FIRST, RESIDENCE_SCHEMA, Residences, Resident};

use crate::support::{directory, fresh};

fn places(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn settings_stand_with_what_they_belong_to() {
    let fresh = fresh().await;
    let database = Database::open(fresh.place.clone(), &[meta::SCHEMA, RESIDENCE_SCHEMA]).await.unwrap();
    let (directory, _) = directory(database.clone());
    let key = directory.first_start().await.unwrap().unwrap().id;
    let read = || Residences::read(&database);
    let none = read().await.unwrap();
    assert!(none.all.is_empty() && none.organisations.len() == 1);
    let (eu, nowhere) = (places(&["EU", "tokyo"]), Vec::new());
    for (level, name) in [
        (Resident::Organisation, FIRST),
        (Resident::Project, FIRST),
        (Resident::Key, key.as_str()),
        (Resident::Bucket, "films"),
        (Resident::Model, "qwen3:0.6b"),
    ] {
        Residences::set(&database, level, name, Some(&eu), Some(&nowhere)).await.unwrap();
        assert_eq!(Resident::parse(level.name()).unwrap(), level);
    }
    let all = read().await.unwrap().all;
    assert_eq!(all.len(), 5);
    for found in &all {
        assert_eq!((&found.data_region, &found.compute_scope), (&Some(eu.clone()), &Some(Vec::new())), "{found:?}");
    }
    assert_eq!((&all[2].id, &all[3].name), (&key, &"films".to_owned()));
    Residences::set(&database, Resident::Bucket, "films", None, None).await.unwrap();
    Residences::set(&database, Resident::Key, &key, None, Some(&eu)).await.unwrap();
    let all = read().await.unwrap().all;
    assert_eq!((all.len(), &all[2].data_region), (4, &None));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_no_place_is_refused() {
    let fresh = fresh().await;
    let database = Database::open(fresh.place.clone(), &[meta::SCHEMA, RESIDENCE_SCHEMA]).await.unwrap();
    let set = async |level, name: &str, place: &str| {
        Residences::set(&database, level, name, Some(&places(&[place])), None).await
    };
    assert!(matches!(set(Resident::Project, "nobody", "EU").await, Err(Error::Missing { .. })));
    for (name, place) in [("", "EU"), ("b", "E U"), ("b", "EU,US"), ("b", ""), ("b\n", "EU"), ("b", "'; --")] {
        assert!(matches!(set(Resident::Bucket, name, place).await, Err(Error::Wrong { .. })), "{name} {place}");
    }
    assert!(Resident::parse("planet").is_err());
}
