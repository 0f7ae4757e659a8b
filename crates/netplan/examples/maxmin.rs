//! Solves a max-min problem from a file, as `bench/netplan/simgrid.cpp` does in SimGrid, and prints how long it took.
//!
//! The file: the number of links and of flows; a capacity a line; then a line a flow: bytes, start, count, links.
#![expect(clippy::unwrap_used, reason = "a measuring tool that says so by panicking where its file is wrong")]
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Instant;

use netplan::flow::{Flows, Options, simulate};

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let mut words = text.split_ascii_whitespace();
    let mut number = || words.next().unwrap().parse::<f64>().unwrap();
    let (links, count) = (number() as usize, number() as usize);
    let capacities: Vec<f64> = (0..links).map(|_| number()).collect();
    let mut flows = Flows::default();
    for _ in 0..count {
        let (bytes, start_s, length) = (number(), number(), number() as usize);
        let path: Vec<u32> = (0..length).map(|_| number() as u32).collect();
        flows.push(bytes, start_s, &path);
    }
    let start = Instant::now();
    let outcome = simulate(&capacities, &flows, &Options::default()).unwrap();
    println!("sampan {:.3} ms, makespan {:.9} s", start.elapsed().as_secs_f64() * 1e3, outcome.makespan_s);
}
