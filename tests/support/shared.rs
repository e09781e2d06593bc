//! Where reference data lies that the repository doesn't hold: `../shared`, or the folder in HARMONIZE_SHARED.

use std::io::Write;
use std::path::PathBuf;

/// The folder `name` of the reference data; where it is missing, says on stderr that the test is skipped.
pub fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HARMONIZE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let folder = root.join(name);
    if folder.exists() {
        return Some(folder);
    }
    // Not eprintln!, which is shown for failing tests only.
    let _ =
        writeln!(std::io::stderr(), "SKIPPED: needs the reference data in {}, which is not there", folder.display());
    None
}
