//! Checks that libtorch is there in the version tch was written for, and writes its folder into the rpath: without one the
//! plugin scanner can't resolve libtorch and blacklists the plugin.

use std::path::{Path, PathBuf};

/// The libtorch that tch 0.24 takes; `setup.sh` fetches the same.
const WANTED: &str = "2.11.0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let root = PathBuf::from(std::env::var_os("LIBTORCH").unwrap_or_else(|| ".venv/libtorch".into()));
    match find(&root) {
        Ok(lib) => {
            // Missing counts as changed: a libtorch removed later is named here, not by the linker.
            println!("cargo::rerun-if-changed={}", lib.join("libtorch_cpu.so").display());
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
        }
        Err(missing) => {
            // torch-sys compiles against the same folder at the same time and fails with a page of C++ errors: come after it.
            std::thread::sleep(std::time::Duration::from_secs(3));
            println!("cargo::error={missing}: run `make setup`, or set LIBTORCH to a libtorch {WANTED} folder");
        }
    }
}

/// The absolute lib/ folder of the libtorch in `root`, or what is wrong with it.
fn find(root: &Path) -> Result<PathBuf, String> {
    let lib = root.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        return Err(format!("no libtorch in {} (lib/libtorch_cpu.so is not there)", root.display()));
    }
    match version(root) {
        Some(found) if found == WANTED => {}
        Some(found) => return Err(format!("the libtorch in {} is {found}, not {WANTED}", root.display())),
        None => return Err(format!("the libtorch in {} has no headers in include/torch", root.display())),
    }
    lib.canonicalize().map_err(|err| format!("can't read {}: {err}", lib.display()))
}

/// The version in libtorch's own headers, which moved between releases.
fn version(root: &Path) -> Option<String> {
    ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"].iter().find_map(|header| {
        let text = std::fs::read_to_string(root.join("include").join(header)).ok()?;
        let definition = text.split("define TORCH_VERSION ").nth(1)?;
        definition.split('"').nth(1).map(str::to_owned)
    })
}
