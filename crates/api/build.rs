//! A new file of the console is a reason to build again; without this only changed ones would be.

fn main() {
    println!("cargo::rerun-if-changed=../../console");
}
