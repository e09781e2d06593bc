//! distributed/render.py on a Ray cluster of two nodes on this machine: the frames of one process, whatever is taken away from the
//! cluster meanwhile.

#[path = "../support/films.rs"]
mod films;
#[allow(dead_code, reason = "one of its models does here")]
#[path = "../support/models.rs"]
mod models;
#[path = "../support/tools.rs"]
mod tools;

use films::frames;
use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    output
}

#[test]
fn a_cluster_that_loses_a_worker_and_a_node_makes_the_films_of_one_process() {
    let Some(python) = tools::python("ray") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let harmonize = env!("CARGO_BIN_EXE_harmonize");
    models::write(&folder.join("model"));
    let model =
        [Path::new("--model"), &folder.join("model"), Path::new("--device"), Path::new("cpu")].map(Path::to_owned);
    for (clip, picture) in [("beach", "testsrc2"), ("alley", "rgbtestsrc")] {
        let [composite, mask] = ["composite.mp4", "mask.mp4"].map(|name| folder.join("clips").join(clip).join(name));
        std::fs::create_dir_all(mask.parent().unwrap()).unwrap();
        let of = |source: &str| format!("{source}=size=160x90:rate=30000/1001");
        films::write(
            &composite,
            &of(picture),
            "0.9",
            &["-f", "lavfi", "-i", "sine=d=1", "-vf", "hue=h='360*t'", "-c:a", "aac"],
        );
        films::write(&mask, &of("mandelbrot"), "0.9", &["-vf", "format=gray,lutyuv=y='if(gt(val,40),255,0)'"]);
        let film = [Path::new("--composite"), &composite, Path::new("--mask"), &mask].map(Path::to_owned);
        let whole = folder.join(clip).with_extension("mkv");
        run(Command::new(harmonize).arg("video").args(film).args(&model).args(["--lossless", "-o"]).arg(whole));
    }

    // Every wait in it is bounded; this bounds their sum.
    let mut cluster = Command::new("timeout");
    cluster.arg("300").arg(python).arg(Path::new(ROOT).join("tests/distributed/cluster.py"));
    cluster.args([&folder.join("clips"), &folder.join("out"), Path::new(harmonize)]).args(&model);
    let said = String::from_utf8(run(&mut cluster).stdout).unwrap();
    assert_eq!(said.matches("taken away in the middle of a shard").count(), 2, "{said}");

    for clip in ["beach.mkv", "alley.mkv"] {
        let whole = frames(folder, clip);
        assert!(whole.len() > 20);
        for run in ["whole", "worker", "node"] {
            assert_eq!(frames(&folder.join("out").join(run), clip), whole, "{run}: {clip}");
        }
    }
    let pieces =
        std::fs::read_dir(folder.join("out/node")).unwrap().filter(|file| file.as_ref().unwrap().path().is_dir());
    assert_eq!(pieces.count(), 0, "pieces are left behind");
}
