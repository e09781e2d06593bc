//! Finds libtorch before anything else needs it and writes its folder into the rpath: without one the plugin scanner
//! can't resolve libtorch and blacklists the plugin.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(std::env::var_os("LIBTORCH").unwrap_or_else(|| ".venv/libtorch".into()));
    let lib = root.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        println!(
            "cargo::error=libtorch 2.11.0 is not in {} (no lib/libtorch_cpu.so there): run `make setup`, or set LIBTORCH to a libtorch 2.11.0 folder",
            root.display()
        );
        std::process::exit(1);
    }
    let lib = lib.canonicalize().unwrap_or(lib);
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
