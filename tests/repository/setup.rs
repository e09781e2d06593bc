//! The way from a fresh clone to a build: setup.sh on a machine of stand-ins, build.rs, the Makefile's help, the scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Exit success, and stdout with stderr after it.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn write_script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder with setup.sh and a PATH on which apt, cargo, python and the NVIDIA tools are stand-ins that note their calls.
struct Machine(TempDir);

impl Machine {
    fn bare() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for file in ["setup.sh", "Cargo.toml"] {
            fs::copy(repository().join(file), machine.path(file)).unwrap();
        }
        let tool = |name: &str, text: &str| write_script(&machine.path(&format!("bin/{name}")), text);
        tool("cargo", "echo cargo 1.95.0");
        tool("id", "echo 0");
        tool("dpkg", "");
        // Only ffmpeg is missing, until apt-get has installed something.
        tool("dpkg-query", r#"[ "${@: -1}" != ffmpeg ] || [ -e installed ] && echo installed"#);
        tool("apt-get", r#"echo "apt-get ${*:6}" >>log; [ "$6" != install ] || touch installed"#);
        tool("python3", "echo venv >>log; mkdir -p .venv/bin; cp bin/venv-python .venv/bin/python");
        // pip's stand-in puts down each wheel's libraries, and the check of what is there finds the wheels it was asked for.
        tool(
            "venv-python",
            r#"site=.venv/site
            all=$*
            case $all in
                -c*) echo $site ;;
                *pip*install*)
                    echo "pip ${all##*:all: }" >>log
                    mkdir -p $site/torch/{include,lib} $site/nvidia/cu13/lib
                    touch $site/torch/lib/lib{torch.so,torch_cpu.so,c10.so,gomp.so.1} $site/nvidia/cu13/lib/lib{cudart,cupti}.so.13
                    echo "$all" >$site/wheels ;;
                *pip*check*) ;;
                *) for wheel in "${@:2}"; do grep -q "$wheel" $site/wheels || exit 1; done ;;
            esac"#,
        );
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn setup(&self, variables: &[(&str, &str)]) -> (bool, String) {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new("bash");
        command.arg(self.path("setup.sh")).env("PATH", path).env_remove("LIBTORCH").env("CUDA", "no");
        run(command.envs(variables.iter().copied()))
    }

    /// What has been installed since the last call, a line a call.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log
    }
}

#[test]
fn setup_installs_what_is_missing_and_nothing_twice() {
    let machine = Machine::bare();
    let (success, text) = machine.setup(&[]);
    assert!(success, "{text}");
    assert!(text.contains("installing ffmpeg\n"), "{text}");
    let log = machine.log();
    let calls: Vec<_> = log.lines().collect();
    assert_eq!(calls.len(), 4, "{log}");
    assert_eq!(calls[0], "apt-get update");
    assert_eq!(calls[1], "apt-get install --no-install-recommends ffmpeg");
    assert_eq!(calls[2], "venv");
    assert_eq!(calls[3], "pip --no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85");
    for file in ["libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"] {
        assert!(machine.path(".venv/libtorch/lib").join(file).exists(), "{file} is not linked");
    }
    assert!(machine.path(".venv/libtorch/include").is_dir());

    let (success, text) = machine.setup(&[]);
    assert!(success, "{text}");
    assert_eq!(text.lines().count(), 1, "a second run has nothing to tell but that all is ready: {text}");
    assert_eq!(machine.log(), "");
}

#[test]
fn setup_fetches_everything_for_a_driver_and_again_when_one_came_later() {
    let machine = Machine::bare();
    assert!(machine.setup(&[("CUDA", "yes")]).0);
    assert!(machine.log().trim_end().ends_with("pip torch==2.11.0"), "the wheel with all it depends on");

    let machine = Machine::bare();
    assert!(machine.setup(&[]).0);
    machine.log();
    // The driver's own tool on PATH is what `auto` looks for, beside the kernel's word.
    write_script(&machine.path("bin/nvidia-smi"), "");
    write_script(&machine.path(".venv/bin/python"), "exit 1");
    let (success, text) = machine.setup(&[("CUDA", "auto")]);
    assert!(success && text.contains("NVIDIA driver"), "{text}");
    assert!(machine.log().contains("pip torch==2.11.0"));
}

#[test]
fn setup_mends_an_interrupted_run() {
    let machine = Machine::bare();
    assert!(machine.setup(&[]).0);
    machine.log();
    fs::remove_file(machine.path(".venv/libtorch/lib/libc10.so")).unwrap();
    fs::write(machine.path(".venv/site/wheels"), "torch==2.11.0").unwrap();
    assert!(machine.setup(&[]).0);
    assert!(machine.log().contains("pip"), "two wheels were missing");
    assert!(machine.path(".venv/libtorch/lib/libc10.so").exists());
}

#[test]
fn setup_fails_with_one_sentence() {
    let machine = Machine::bare();
    let fails = |variables: &[(&str, &str)], sentence: &str| {
        let (success, text) = machine.setup(variables);
        assert!(
            !success && text.contains(sentence) && text.lines().count() == 1,
            "not one line with {sentence:?}: {text}"
        );
    };
    fails(&[("LIBTORCH", "/nonexistent")], "LIBTORCH is set to /nonexistent");
    fails(&[("CUDA", "maybe")], "CUDA=maybe is not one of auto, yes, no");
    write_script(&machine.path("bin/cargo"), "echo cargo 1.63.0");
    fails(&[], "Rust 1.92 or newer is needed and 1.63.0 is here");
    write_script(&machine.path("bin/cargo"), "exit 127");
    fails(&[], "none is here: install it from https://rustup.rs");
    assert_eq!(machine.log(), "", "a machine that can't go on is left as it was");
}

/// A libtorch folder that has what build.rs looks at.
fn libtorch(version: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("include/torch/headeronly");
    fs::create_dir_all(&headers).unwrap();
    fs::create_dir_all(folder.path().join("lib")).unwrap();
    fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(
        headers.join("version.h"),
        format!("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION \\\n  \"{version}\"\n"),
    )
    .unwrap();
    folder
}

#[test]
fn build_script_names_a_libtorch_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("build");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    let (success, text) = run(compile.args(["--edition=2024", "-o"]).arg(&program).arg(repository().join("build.rs")));
    assert!(success, "{text}");
    let build = |libtorch: &Path| run(Command::new(&program).env("LIBTORCH", libtorch)).1;

    let good = libtorch("2.11.0");
    let lines = build(good.path());
    let rpath = format!("cargo::rustc-link-arg=-Wl,-rpath,{}/lib", good.path().canonicalize().unwrap().display());
    assert!(lines.contains(&rpath) && !lines.contains("cargo::error"), "{lines}");

    let old = libtorch("2.10.0");
    let lines = build(old.path());
    assert!(
        lines.contains(&format!("cargo::error=the libtorch in {} is 2.10.0, not 2.11.0: run", old.path().display())),
        "{lines}"
    );
    assert!(!lines.contains("rpath"), "{lines}");

    let lines = build(Path::new("/nonexistent"));
    assert_eq!(lines.matches("cargo::error").count(), 1, "{lines}");
    assert!(lines.contains("cargo::error=no libtorch in /nonexistent"), "{lines}");
    assert!(lines.contains("run `make setup`"), "{lines}");
}

#[test]
fn rustc_runs_only_where_libtorch_is() {
    let wrapper = |libtorch: &Path| {
        run(Command::new(repository().join(".cargo/rustc-with-libtorch"))
            .args(["echo", "rustc"])
            .env("LIBTORCH", libtorch))
    };
    assert_eq!(wrapper(libtorch("2.11.0").path()), (true, "rustc\n".into()));
    let (success, text) = wrapper(Path::new("/nonexistent"));
    assert!(!success && text.starts_with("no libtorch in /nonexistent") && text.lines().count() == 1, "{text}");
}

#[test]
fn help_has_a_line_for_every_target() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let targets = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    // Plain `make` is help.
    let (success, help) = run(Command::new("make").args(["-s", "-C"]).arg(repository()));
    assert!(success, "{help}");
    for target in targets.split_whitespace() {
        let line = help.lines().find(|line| line.trim_start().starts_with(&format!("make {target} ")));
        assert!(line.is_some_and(|line| line.split_whitespace().count() > 2), "no help for {target}: {help}");
    }
    for target in ["setup", "build", "demo", "test", "bench", "install", "clean"] {
        assert!(targets.split_whitespace().any(|t| t == target), "no target {target}");
    }
}

fn scripts() -> Vec<PathBuf> {
    let pipelines = fs::read_dir(repository().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = pipelines.filter(|path| path.is_file()).collect();
    scripts.extend([repository().join("setup.sh"), repository().join(".ci/run")]);
    scripts
}

#[test]
fn scripts_parse() {
    for script in scripts() {
        let (success, text) = run(Command::new("bash").arg("-n").arg(&script));
        assert!(success, "{}: {text}", script.display());
    }
}

/// The gst-launch-1.0 commands in `text`, each on one line, without the scripts' place for more properties.
fn launch_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ").replace(" \"$@\"", "");
    let lines = joined.lines().filter(|line| line.starts_with("gst-launch-1.0"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// README's and those of docs/, which `pipelines` runs as they stand.
#[test]
fn readme_and_docs_show_the_launch_lines_of_the_scripts() {
    let readme = launch_lines(&fs::read_to_string(repository().join("README.md")).unwrap());
    let shipped: Vec<_> = scripts().iter().flat_map(|path| launch_lines(&fs::read_to_string(path).unwrap())).collect();
    assert_eq!(readme.len(), 3);
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.flat_map(|path| launch_lines(&fs::read_to_string(path).unwrap()));
    for line in readme.into_iter().chain(docs) {
        assert!(shipped.contains(&line), "not in pipelines/: {line}");
    }
}

#[test]
fn scripts_explain_themselves_when_arguments_are_missing() {
    let folder = fs::read_dir(repository().join("pipelines")).unwrap();
    let names =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name.ends_with(".sh"));
    // These do something without arguments.
    for name in names.filter(|name| !["demo.sh", "soak.sh"].contains(&name.as_str())) {
        let (success, text) = run(&mut Command::new(repository().join("pipelines").join(&name)));
        assert!(!success && text.contains(&format!("pipelines/{name} ")) && text.contains("You see"), "{name}: {text}");
    }
    let (success, text) = run(Command::new(repository().join("pipelines/demo.sh")).args(["/nonexistent.mp4", "", ""]));
    assert!(!success && text.contains("can't read '/nonexistent.mp4'"), "{text}");
}
