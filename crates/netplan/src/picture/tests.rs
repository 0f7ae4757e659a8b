use super::{Page, Part, heat_map, plan_page, stacked, table, topology, uplinks_page};
use crate::model::preset as model;
use crate::plan::{Cluster, ServeRequest, failures, serve};
use crate::study::{UplinksRequest, uplinks};
use crate::topology::{PRESETS, preset};

/// Every tag that is opened is closed, in order; the few that never are closed are known.
#[track_caller]
fn balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let (inside, _) = piece.split_once('>').unwrap();
        let name = inside.split([' ', '/', '\n']).next().unwrap();
        if let Some(closed) = inside.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "</{closed}>");
        } else if !inside.ends_with('/') && !["!doctype", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!html.contains("http") && !html.contains("<script"), "a page needs nothing else");
    assert!(!html.contains("NaN") && !html.contains("inf\""), "no figure is none");
}

#[test]
fn every_fabric_can_be_drawn() {
    for (name, _) in PRESETS {
        let fabric = preset(name, Some(256)).unwrap();
        let svg = topology(&fabric, &[fabric.node_count() - 1]);
        balanced(&svg);
        assert!(svg.len() < 200_000, "{name}: {} bytes", svg.len());
    }
}

#[test]
fn foreign_text_is_text() {
    let mut page = Page::default();
    page.heading("<b>&", "\"x\"");
    page.section("t", "c", &table(&[vec!["a".to_owned(), "<i>".to_owned()]]));
    page.section("t", "c", &stacked(&[Part::new("<p>", 1.0, "'".to_owned()), Part::new("q", 0.0, String::new())]));
    let html = page.finish("</title>");
    balanced(&html);
    assert!(html.contains("&lt;b&gt;&amp;") && html.contains("&lt;/title&gt;"));
}

#[test]
fn a_plan_makes_a_whole_page() {
    let request = ServeRequest::default();
    for (name, cluster) in [("qwen3-235b-a22b", "8x8xH100-400G"), ("1t-moe-guessed", "1x8xH100-400G")] {
        let (model, cluster) = (model(name).unwrap(), Cluster::named(cluster).unwrap());
        let plan = serve(&model, &cluster, &request).unwrap();
        let fabric = cluster.topology().unwrap();
        let table = failures(&model, &cluster, &request, &plan, &fabric).unwrap();
        let html = plan_page(&model, &cluster, &request, &plan, &table, &fabric).unwrap();
        balanced(&html);
        assert!(html.contains(name) && html.len() < 2_000_000);
    }
}

/// What the picture is about, on the real pod: 15,360 GPUs.
#[test]
fn hashing_is_about_four_and_a_half_times_slower_than_planning() {
    let fabric = preset("hpn7", None).unwrap();
    let request = UplinksRequest { draws: 3, ..UplinksRequest::default() };
    let found = uplinks(&fabric, &request).unwrap();
    assert_eq!(found.flows, 30_720);
    let (hashed, planned) = (found.hashed_mean_s() / found.ideal_s, found.planned_ways_s / found.ideal_s);
    assert!((4.0..5.6).contains(&hashed) && planned < 1.13, "{hashed} {planned}");
    assert!((3.8..5.2).contains(&found.ratio()), "{}", found.ratio());
    let html = uplinks_page(&fabric, &found, request.ways);
    balanced(&html);
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    let heat = heat_map(&fabric, &found.hashed_load, found.ideal_s);
    assert!(heat.fullest_s > 4.0 * heat.mean_s);
}
