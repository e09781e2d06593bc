//! The Python that `make tools` puts the tools into, or the one in HARMONIZE_PYTHON.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One that has `module`; where there is none, says on stderr that the test is skipped.
pub fn python(module: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-tools/bin/python");
    let python = std::env::var_os("HARMONIZE_PYTHON").map_or(tools, PathBuf::from);
    let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    // Not eprintln!, which is shown for failing tests only.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {} has no {module}: run `make tools`", python.display());
    None
}
