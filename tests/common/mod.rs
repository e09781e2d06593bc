//! What tests share.

use std::path::PathBuf;

/// A folder of the data that lies beside the checkout (or where HARMONIZE_SHARED says); says on stderr when it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HARMONIZE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is missing", path.display());
        return None;
    }
    Some(path)
}
