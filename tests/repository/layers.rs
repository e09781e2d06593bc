//! The house's floors: what a folder of src may import, and that no files import each other in a circle. Read off the `use` lines;
//! those of unit tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The folders and files of src, what each may import from the others.
const LAYERS: [(&str, &[&str]); 13] = [
    ("bands", &[]),
    ("simd", &[]),
    ("recycle", &[]),
    ("diffusion", &[]),
    ("frame", &["bands", "recycle", "simd"]),
    ("transfer", &["bands", "frame", "recycle", "simd"]),
    ("nets", &["diffusion", "simd"]),
    ("harmonizers", &["diffusion", "frame", "nets", "transfer"]),
    ("engine", &["diffusion", "frame", "harmonizers", "recycle", "transfer"]),
    ("pictures", &["engine", "frame", "transfer"]),
    ("lab", &["diffusion", "engine", "frame", "harmonizers", "nets", "pictures", "transfer"]),
    ("elements", &["bands", "diffusion", "engine", "frame", "harmonizers", "recycle", "simd", "transfer"]),
    (
        "bin",
        &["bands", "diffusion", "elements", "engine", "frame", "harmonizers", "lab", "nets", "pictures", "transfer"],
    ),
];

/// Modules by their paths, `["frame", "mask"]`, with the paths that each imports from this crate.
type Modules = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// `use` trees spelled out: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn spelled_out(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((stem, branches)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let branches = branches.strip_suffix('}').unwrap_or_else(|| panic!("{tree} is no use tree"));
    let (mut depth, mut branch, mut all) = (0, String::new(), Vec::new());
    for c in branches.chars().chain([',']) {
        match c {
            ',' if depth == 0 => all.push(std::mem::take(&mut branch)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                branch.push(c);
            }
        }
    }
    let filled = all.iter().filter(|branch| !branch.trim().is_empty());
    filled.flat_map(|branch| spelled_out(&format!("{stem}{}", branch.trim()))).collect()
}

/// The imports of a file's text, each as a path from the library's root; those of other crates are left out. A program's own root is
/// its folder in bin.
fn imports(module: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let root = if module.first().is_some_and(|name| name == "bin") { &module[..2] } else { &[] };
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = lines.join("\n");
    let mut all = BTreeSet::new();
    for statement in code.split(';') {
        let start = statement.rfind("\nuse ").map(|at| at + 5);
        let public = statement.rfind("\npub use ").map(|at| at + 9);
        let inner = statement.rfind("\npub(super) use ").map(|at| at + 16);
        let Some(start) = [start, public, inner].into_iter().flatten().max() else { continue };
        for path in spelled_out(&statement[start..].split_whitespace().collect::<Vec<_>>().join(" ")) {
            let mut parts: Vec<String> = path.split("::").map(str::to_owned).collect();
            let mut from = match &*parts[0] {
                "crate" => root.to_vec(),
                "gstharmonize" => Vec::new(),
                "self" | "super" => module.to_vec(),
                _ => continue,
            };
            while parts.first().is_some_and(|part| ["crate", "gstharmonize", "self", "super"].contains(&&**part)) {
                if parts.remove(0) == "super" {
                    from.pop();
                }
            }
            from.extend(parts);
            all.insert(from);
        }
    }
    all
}

fn read(folder: &Path, path: &[String], modules: &mut Modules) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "tests" {
            continue;
        }
        let inner: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
        if file.is_dir() {
            read(&file, &inner, modules);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let module = if ["mod", "main", "lib"].contains(&&*name) { path.to_vec() } else { inner };
            let text = format!("\n{}", fs::read_to_string(&file).unwrap());
            modules.entry(module.clone()).or_default().extend(imports(&module, &text));
        }
    }
}

/// Every module of src with the modules that it imports from.
fn modules() -> Modules {
    let mut modules = Modules::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut modules);
    assert!(modules.len() > 100, "{} modules", modules.len());
    let known: BTreeSet<Vec<String>> = modules.keys().cloned().collect();
    let module_of = |mut path: Vec<String>| {
        while !known.contains(&path) {
            path.pop();
        }
        path
    };
    for imported in modules.values_mut() {
        *imported = std::mem::take(imported).into_iter().map(module_of).collect();
    }
    modules
}

#[test]
fn a_folder_imports_from_those_that_it_may_alone() {
    let mut checked = 0;
    for (module, imported) in modules() {
        let Some(own) = module.first() else { continue };
        let (_, may) = LAYERS.iter().find(|(name, _)| name == own).unwrap_or_else(|| panic!("{own} is on no floor"));
        for other in imported.iter().filter(|other| other.first().is_some_and(|name| name != own)) {
            let its = &*other[0];
            assert!(may.contains(&its), "{} imports from {}", module.join("::"), other.join("::"));
            checked += 1;
        }
        // Training, evaluation and conversion know nothing of each other.
        let other = imported.iter().find(|other| own == "lab" && other[0] == "lab" && other.get(1) != module.get(1));
        assert_eq!(other, None, "{} imports from it", module.join("::"));
    }
    assert!(checked > 200, "{checked} imports");
}

/// A module knows those that it is in, whose items it adds to; but a harmonizer knows nothing of the list that it is in.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = modules();
    for (module, imported) in &mut left {
        let is_strict = module.starts_with(&["harmonizers".to_owned()]);
        imported.retain(|other| if is_strict { other != module } else { !module.starts_with(other) });
    }
    // What imports from nothing that is left is in no circle.
    loop {
        let free: Vec<Vec<String>> =
            left.iter().filter(|(_, imported)| imported.is_empty()).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|module| drop(left.remove(module)));
        left.values_mut().for_each(|imported| imported.retain(|other| !free.contains(other)));
    }
    let left: Vec<String> = left.keys().map(|module| module.join("::")).collect();
    assert!(left.is_empty(), "in a circle, or importing from one: {left:?}");
}

/// The crates that a build of the library with `features` alone is made of.
fn crates(features: &str) -> BTreeSet<String> {
    let tree = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--no-default-features"];
    let mut cargo = Command::new(env!("CARGO"));
    let out = cargo.args(tree).args(["--features", features]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8(out.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn a_feature_brings_nothing_that_it_does_without() {
    const LAB: [&str; 4] = ["clap", "image", "indicatif", "plotters"];
    let plugin = crates("plugin");
    assert!(plugin.contains("gstreamer") && plugin.contains("tch"), "{plugin:?}");
    assert!(LAB.iter().chain(&["gstreamer-app"]).all(|name| !plugin.contains(*name)), "{plugin:?}");
    // Where models are trained there is libtorch, and neither GStreamer nor fonts.
    let trainer = crates("trainer");
    assert!(trainer.contains("tch") && trainer.contains("clap"), "{trainer:?}");
    assert!(trainer.iter().all(|name| !name.starts_with("gst") || name == env!("CARGO_PKG_NAME")), "{trainer:?}");
    assert!(["glib", "plotters"].iter().all(|name| !trainer.contains(*name)), "{trainer:?}");
}
