//! GStreamer Editing Services render our elements as effects, asked for from Python as applications like Pitivi do.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Exit and output of effects.py with `effect`; `None` where GES isn't there.
fn render(effect: &str) -> Option<(ExitStatus, String)> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ges");
    let built = Path::new(env!("CARGO_BIN_EXE_harmonize")).with_file_name("deps").join("libgstharmonize.so");
    assert!(built.exists(), "no {}", built.display());
    std::fs::create_dir_all(&tmp).unwrap();
    let plugin = tmp.join("libgstharmonize.so");
    let _ = std::fs::remove_file(&plugin);
    std::os::unix::fs::symlink(built, &plugin).unwrap();
    // The distribution's own, which alone has its `gi`.
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/repository/effects.py");
    let mut command = Command::new(python);
    command.arg(script).arg(effect).env("GST_PLUGIN_PATH", &tmp).env("GST_REGISTRY", tmp.join("registry"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.code() == Some(77) {
        // Not eprintln!, which is shown for failing tests only.
        let _ = writeln!(std::io::stderr(), "SKIPPED: needs GES for Python, gir1.2-ges-1.0 and python3-gi: {text}");
        return None;
    }
    Some((output.status, format!("{text}{}", String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn each_element_is_an_effect_that_keeps_every_frame() {
    // An effect has one input: the clip is the background, what goes over it comes with the effect.
    let over = "harmonizebin name=h repeat-after-eos=true \
                videotestsrc num-buffers=1 ! video/x-raw,format=RGBA,width=16,height=16,framerate=25/1 ! h.foreground";
    let keyed = over.replace("name=h", "name=h key=green");
    for effect in ["harmonize", "alphamask", over, &keyed] {
        let Some((status, text)) = render(effect) else { return };
        assert!(status.success() && text.contains(&format!("{effect} 50")), "{effect}: {status}\n{text}");
    }
    // With an input that nothing can be linked to, GES says so.
    let Some((status, text)) = render("harmonizebin") else { return };
    assert!(!status.success() && text.contains("harmonizebin: (gerror"), "{status}\n{text}");
}
