//! README.md and docs/: short where they are to be short, and nothing in them that isn't there: paths, links, tests, commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// README is read before anything else.
const MAX_WORDS: usize = 1000;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page by its path in the repository.
struct Page {
    name: String,
    text: String,
}

impl Page {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), text }
    }

    fn folder(&self) -> PathBuf {
        repository().join(&self.name).parent().unwrap().to_owned()
    }

    /// Lines in and out of fenced blocks; those in one without their fences.
    fn lines(&self, fenced: bool) -> Vec<&str> {
        let mut inside = false;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            inside ^= is_fence;
            !is_fence && inside == fenced
        });
        lines.collect()
    }

    /// The text between backticks, outside of fenced blocks.
    fn code(&self) -> Vec<String> {
        let prose = self.lines(false).join("\n");
        prose.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Targets of links and pictures, outside of fenced blocks.
    fn links(&self) -> Vec<String> {
        let prose = self.lines(false).join("\n");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }

    /// What a link can name after `#`, as GitHub makes it of the headings.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.lines(false).into_iter().filter_map(|line| line.strip_prefix('#'));
        let slug = |heading: &str| -> String {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            kept.chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        };
        headings.map(slug).collect()
    }

    /// Commands in fenced blocks, each on one line, without remarks.
    fn commands(&self) -> Vec<String> {
        let joined = self.lines(true).join("\n").replace("\\\n", " ");
        let lines = joined.lines().map(|line| line.split(" #").next().unwrap());
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.is_empty())
            .collect()
    }
}

/// README and the pages of docs/.
fn pages() -> Vec<Page> {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let mut names: Vec<String> = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".md"));
    names.sort();
    for wanted in ["ARCHITECTURE.md", "cli.md", "formats.md", "live.md", "properties.md", "timing.md"] {
        assert!(names.iter().any(|name| name == wanted), "no docs/{wanted}");
    }
    let names = ["README.md".to_owned()].into_iter().chain(names.into_iter().map(|name| format!("docs/{name}")));
    names.map(|name| Page::read(&name)).collect()
}

#[test]
fn readme_is_short() {
    let words = Page::read("README.md").text.split_whitespace().count();
    assert!(words <= MAX_WORDS, "README.md has {words} words");
}

#[test]
fn readme_leads_to_every_page() {
    let links = Page::read("README.md").links();
    for page in pages().iter().skip(1) {
        assert!(links.iter().any(|link| link.split('#').next() == Some(&page.name)), "no link to {}", page.name);
    }
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        for link in page.links().into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { repository().join(&page.name) } else { page.folder().join(path) };
            let is_there = target.exists();
            let is_found = || {
                let name = target.canonicalize().unwrap();
                let name =
                    name.strip_prefix(repository().canonicalize().unwrap()).unwrap().to_str().unwrap().to_owned();
                Page::read(&name).anchors().contains(anchor)
            };
            if !is_there || (!anchor.is_empty() && !is_found()) {
                dead.push(format!("{}: {link}", page.name));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

/// What looks like a path in the repository: one that begins with a folder of it, or a file's name with an ending that sources have.
fn is_path(code: &str) -> bool {
    const FOLDERS: [&str; 10] =
        ["src", "tests", "docs", "models", "pipelines", "benches", "distributed", "examples", ".ci", ".cargo"];
    const FILES: [&str; 8] =
        ["Cargo.toml", "Cargo.lock", "Makefile", "meson.build", "setup.sh", "build.rs", "README.md", "CHANGELOG.md"];
    let is_plain = code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let begins = code.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
    is_plain && (begins || code.ends_with(".rs") || FILES.contains(&code))
}

#[test]
fn paths_that_are_named_are_there() {
    let (mut missing, mut seen) = (BTreeSet::new(), 0);
    for page in pages() {
        for path in page.code().into_iter().filter(|code| is_path(code)) {
            seen += 1;
            if !repository().join(&path).exists() {
                missing.insert(format!("{}: {path}", page.name));
            }
        }
    }
    assert!(seen > 40, "{seen} paths");
    assert!(missing.is_empty(), "not there:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Every file of Rust below `folder`, in one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names in backticks in the table of promises are functions, each a test.
#[test]
fn each_promise_has_a_test() {
    let mut text = String::new();
    ["tests", "src"].iter().for_each(|folder| sources(&repository().join(folder), &mut text));
    let architecture = Page::read("docs/ARCHITECTURE.md");
    let (_, promises) = architecture.text.split_once("\n## Promises").expect("a heading Promises");
    let promises = promises.split("\n## ").next().unwrap();
    let rows: Vec<&str> = promises.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert_eq!(rows.len(), 6, "a row for each of six promises");
    for row in rows {
        let guards = row.rsplit('|').nth(1).unwrap();
        let names: Vec<&str> = guards.split('`').skip(1).step_by(2).filter(|name| !name.contains('/')).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(text.contains(&format!("#[test]\nfn {name}() {{")), "no test {name}: {row}");
        }
    }
}

/// `cargo test --test NAME`, wherever it is said.
#[test]
fn test_binaries_that_are_named_are_there() {
    let mut missing = BTreeSet::new();
    for page in pages() {
        let words: Vec<&str> = page.text.split(|c: char| c.is_whitespace() || "`.),:".contains(c)).collect();
        for name in words.windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1]) {
            let tests = repository().join("tests");
            if !tests.join(name).join("main.rs").exists() && !tests.join(format!("{name}.rs")).exists() {
                missing.insert(format!("{}: {name}", page.name));
            }
        }
    }
    assert!(missing.is_empty(), "no such test binaries: {missing:?}");
}

/// A command of the command line, up to its remarks, pipes and what follows.
fn arguments(command: &str) -> Vec<&str> {
    command.split_whitespace().skip(1).take_while(|word| !["|", "&&", ">", ";"].contains(word)).collect()
}

/// Each is one that the command line takes, names and values of its options included.
#[test]
fn commands_are_those_of_the_command_line() {
    let mut seen = 0;
    let others = ["models/README.md", "benches/README.md", "distributed/README.md"].map(Page::read);
    for page in pages().iter().chain(&others) {
        for command in page.commands().iter().filter(|command| command.starts_with("harmonize ")) {
            let mut asked = Command::new(env!("CARGO_BIN_EXE_harmonize"));
            let command = command.replace("$(nproc)", "2");
            let output = asked.args(arguments(&command)).arg("--help").current_dir(repository()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {command}: {error}", page.name);
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} commands");
}

/// docs/cli.md's blocks that say what is to be seen, run one after the other in a folder with the files that they name.
#[test]
fn commands_that_need_no_data_set_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = |program: &mut Command| {
        let output = program.current_dir(here).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program:?}: {text}");
        text
    };
    // A frame every other second, so that the second 60 lies within a short film.
    let square = |over: &str, ground: &str| {
        let source = |colour: &str, size: &str| format!("color={colour}:s={size}:r=1/2:d=64");
        format!("{}[a];{}[b];[a][b]overlay=30:14", source(ground, "96x54"), source(over, "24x24"))
    };
    let composite = square("0xd09060", "0x304878");
    let films = [("composite.mp4", &composite), ("actor.mp4", &composite), ("mask.mp4", &square("white", "black"))];
    for (name, graph) in films {
        let sound = ["-f", "lavfi", "-i", "sine=r=48000:d=64"];
        let codec = ["-c:v", "libx264", "-qp", "4", "-pix_fmt", "yuv420p"];
        let mut ffmpeg = Command::new("ffmpeg");
        run(ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", graph]).args(sound).args(codec).arg(name));
    }
    for (film, picture) in [("composite.mp4", "composite.png"), ("mask.mp4", "mask.png"), ("mask.mp4", "street.png")] {
        run(Command::new("ffmpeg").args(["-v", "error", "-i", film, "-frames:v", "1", picture]));
    }
    let page = Page::read("docs/cli.md");
    let bin = Path::new(env!("CARGO_BIN_EXE_harmonize")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let blocks: Vec<&str> = page.text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    for block in &blocks {
        let mut shell = Command::new("bash");
        run(shell.args(["-e", "-c", block]).env("PATH", &path));
    }
    assert!(blocks.len() >= 3, "{} blocks", blocks.len());
    for made in ["sheet.png", "harmonized.png", "graded.png"] {
        assert!(here.join(made).exists(), "no {made}");
    }
    for film in ["harmonized.mp4", "actor-in-the-street.mp4", "harmonized.mkv"] {
        let count =
            ["-v", "error", "-count_packets", "-select_streams", "v:0", "-show_entries", "stream=nb_read_packets"];
        let frames = run(Command::new("ffprobe").args(count).args(["-of", "csv=p=0", film]));
        assert_eq!(frames.trim(), "32", "frames of {film}");
    }
    let look = fs::read_to_string(here.join("look.cube")).unwrap();
    assert!(look.contains("LUT_3D_SIZE 33"), "{look}");
}
