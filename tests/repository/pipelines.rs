//! The scripts in pipelines/ and the launch lines in README.md and docs/, run as a user runs them, on films of a second made on the
//! spot: frames, times, sound and colours.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

const WIDTH: usize = 160;
const HEIGHT: usize = 90;
const FRAMES: usize = 20;
/// The subject is a square of so many pixels, `SPEED` a second to the right from `LEFT`, `TOP` from above.
const SIDE: usize = 40;
const SPEED: usize = 50;
const LEFT: usize = 20;
const TOP: usize = 25;

/// `program` with the plugin that was built with this test, and a registry of its own.
fn with_plugin(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    static PLUGIN: Once = Once::new();
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let plugins = tmp.join("plugins");
    PLUGIN.call_once(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_harmonize")).with_file_name("deps").join("libgstharmonize.so");
        assert!(built.exists(), "no {}", built.display());
        fs::create_dir_all(&plugins).unwrap();
        let _ = fs::remove_file(plugins.join("libgstharmonize.so"));
        std::os::unix::fs::symlink(built, plugins.join("libgstharmonize.so")).unwrap();
    });
    let mut command = Command::new(program);
    command.current_dir(folder).env("GST_PLUGIN_PATH", plugins).env("GST_REGISTRY", tmp.join("registry"));
    command
}

/// The script `name`.
fn script(name: &str, folder: &Path) -> Command {
    let mut command = with_plugin(repository().join("pipelines").join(name), folder);
    command.env("SIZE", format!("{WIDTH}x{HEIGHT}"));
    command
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs to its end, at most a minute, and returns what was printed.
fn finish(command: &mut Command) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if waits.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal("KILL", pid);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

fn signal(name: &str, pid: u32) {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
}

/// A live script that has come to PLAYING.
struct Live(Child);

impl Live {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let live = Self(child);
        assert!(lines.any(|line| line.contains("Setting pipeline to PLAYING")), "{command:?} does not play");
        // Or it would stop for want of a reader.
        thread::spawn(move || lines.for_each(drop));
        live
    }

    /// What Ctrl-C does.
    fn interrupt(mut self) {
        signal("INT", self.0.id());
        for _ in 0..100 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return assert!(status.success(), "{status}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("it does not end");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn probe(folder: &Path, args: &[&str], file: &str) -> Vec<String> {
    let output = run("ffprobe", &[&["-v", "error", "-of", "csv=p=0"], args, &[file]].concat(), folder);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Seconds at which the packets of `stream` are shown, in that order.
fn times(folder: &Path, stream: &str, file: &str) -> Vec<f64> {
    let times = probe(folder, &["-select_streams", stream, "-show_entries", "packet=pts_time"], file);
    let mut times: Vec<f64> = times.iter().map(|time| time.parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The name of each stream's codec.
fn codecs(folder: &Path, file: &str) -> Vec<String> {
    probe(folder, &["-show_entries", "stream=codec_name"], file)
}

/// Every frame as RGB. All are of BT.709; ffmpeg looks for that in ProRes' own header, which leaves it to the film's.
fn decode(folder: &Path, file: &str) -> Vec<Vec<u8>> {
    let raw = ["-vf", "scale=in_color_matrix=bt709:in_range=tv", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let output = run("ffmpeg", &[&["-v", "error", "-i", file], &raw[..]].concat(), folder);
    output.stdout.chunks(3 * WIDTH * HEIGHT).map(<[u8]>::to_vec).collect()
}

/// Mean of each colour over the pixels `wanted` of frame `n`.
fn mean(frame: &[u8], wanted: impl Fn(usize, usize) -> bool) -> [f64; 3] {
    let (mut sums, mut count) = ([0.0; 3], 0.0);
    for (i, pixel) in frame.chunks(3).enumerate().filter(|(i, _)| wanted(i % WIDTH, i / WIDTH)) {
        assert!(i < WIDTH * HEIGHT);
        sums.iter_mut().zip(pixel).for_each(|(sum, p)| *sum += f64::from(*p));
        count += 1.0;
    }
    sums.map(|sum| sum / count)
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Well inside the subject of frame `n`, and well outside.
fn inside(n: usize) -> impl Fn(usize, usize) -> bool {
    let left = LEFT + n * SPEED / 25;
    move |x, y| (left + 6..left + SIDE - 6).contains(&x) && (TOP + 6..TOP + SIDE - 6).contains(&y)
}

fn outside(n: usize) -> impl Fn(usize, usize) -> bool {
    let left = LEFT + n * SPEED / 25;
    move |x, y| !(left - 6..left + SIDE + 6).contains(&x) || !(TOP - 6..TOP + SIDE + 6).contains(&y)
}

/// fill.mp4, the subject on mid-grey; key.mp4, its matte in limited range; green.mp4, it on green; plate.mp4; plate.png;
/// composite.mp4, with sound, and mute.mp4, without.
fn films() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let encode = "-c:v libx264 -preset ultrafast -qp 4 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    let encode: Vec<_> = encode.split(' ').collect();
    let ffmpeg = |args: &[&str]| drop(run("ffmpeg", &[&["-v", "error", "-nostdin"], args].concat(), &path));
    let source = |colour: &str, side: &str| format!("color={colour}:s={side}:r=25:d=0.8");
    let square = |colour: &str, ground: &str, name: &str| {
        let (ground, square) = (source(ground, "160x90"), source(colour, "40x40"));
        let graph = format!("overlay=x={LEFT}+{SPEED}*t:y={TOP},scale=out_color_matrix=bt709:out_range=tv");
        let inputs = ["-f", "lavfi", "-i", &ground, "-f", "lavfi", "-i", &square, "-filter_complex", &graph];
        ffmpeg(&[&inputs[..], &encode, &[name]].concat());
    };
    square("0xd09060", "0x808080", "fill.mp4");
    square("white", "black", "key.mp4");
    square("0xd09060", "0x28a848", "green.mp4");
    square("0xd09060", "0x304878", "mute.mp4");
    let plate = source("0x304878", "160x90");
    let bt709 = ["-vf", "scale=out_color_matrix=bt709:out_range=tv"];
    ffmpeg(&[&["-f", "lavfi", "-i", &plate], &bt709[..], &encode, &["plate.mp4"]].concat());
    ffmpeg(&["-f", "lavfi", "-i", &plate, "-frames:v", "1", "plate.png"]);
    ffmpeg(&[
        "-i",
        "mute.mp4",
        "-f",
        "lavfi",
        "-i",
        "sine=r=48000:d=0.8",
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        "composite.mp4",
    ]);
    (folder, path)
}

/// Checks that the film has the plate around the subject, the subject as it was (within `moved` of 255) with strength=0,
/// and another one without.
fn check_overlaid(folder: &Path, plain: &str, harmonized: &str, moved: f64) {
    let (source, plate) = (decode(folder, "mute.mp4"), decode(folder, "plate.mp4"));
    let (plain, harmonized) = (decode(folder, plain), decode(folder, harmonized));
    assert_eq!((plain.len(), harmonized.len()), (FRAMES, FRAMES));
    for n in 0..FRAMES {
        let plate = mean(&plate[n], outside(n));
        for film in [&plain, &harmonized] {
            let found = mean(&film[n], outside(n));
            assert!(distance(found, plate) < 3.0, "frame {n}: {found:?} around the subject, not {plate:?}");
        }
        let (subject, found) = (mean(&source[n], inside(n)), mean(&plain[n], inside(n)));
        assert!(distance(subject, found) < moved, "frame {n}: the subject is {found:?}, not {subject:?}");
        let found = mean(&harmonized[n], inside(n));
        assert!(distance(subject, found) > 5.0, "frame {n}: the subject stays {found:?}");
    }
}

fn check_grid(times: &[f64]) {
    assert_eq!(times.len(), FRAMES);
    for (n, time) in times.iter().enumerate() {
        assert!((time - times[0] - n as f64 * 0.04).abs() < 0.001, "frame {n} at {time}");
    }
}

/// Where a film was harmonized: other colours inside the subject, the same around it.
fn check_matched(folder: &Path, file: &str) {
    let (source, made) = (&decode(folder, "mute.mp4")[9], &decode(folder, file)[9]);
    let inside = distance(mean(source, inside(9)), mean(made, inside(9)));
    let outside = distance(mean(source, outside(9)), mean(made, outside(9)));
    assert!(inside > 5.0 && outside < 3.0, "{file}: {inside} inside, {outside} outside");
}

/// The pages that show launch lines.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    [repository().join("README.md")].into_iter().chain(docs).collect()
}

#[test]
fn launch_lines_of_the_pages_run_as_they_stand() {
    let (_films, folder) = films();
    let mut run = 0;
    for page in pages() {
        let joined = fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        for line in joined.lines().filter(|line| line.starts_with("gst-launch-1.0")) {
            let mut shell = with_plugin("bash", &folder);
            let foreground = if line.contains("key=green") { "green.mp4" } else { "fill.mp4" };
            let files = [("COMPOSITE", "composite.mp4"), ("BG", "plate.mp4"), ("MASK", "key.mp4"), ("OUT", "line.mp4")];
            finish(shell.args(["-c", line]).env("FG", foreground).envs(files));
            check_grid(&times(&folder, "v", "line.mp4"));
            check_matched(&folder, "line.mp4");
            fs::remove_file(folder.join("line.mp4")).unwrap();
            run += 1;
        }
    }
    assert!(run >= 3, "{run} launch lines");
}

#[test]
fn a_composite_and_its_mask() {
    let (_films, folder) = films();
    for (out, strength) in [("plain.mp4", "strength=0"), ("out.mp4", "strength=1")] {
        finish(script("composite-and-mask.sh", &folder).args(["composite.mp4", "key.mp4", out, strength]));
        check_grid(&times(&folder, "v", out));
    }
    check_overlaid(&folder, "plain.mp4", "out.mp4", 4.0);
}

#[test]
fn green_screen_from_a_file() {
    let (_films, folder) = films();
    for (out, strength) in [("plain.mp4", "harmonize::strength=0"), ("out.mp4", "harmonize::strength=1")] {
        finish(script("greenscreen.sh", &folder).args(["green.mp4", "plate.mp4", out, strength]));
        check_grid(&times(&folder, "v", out));
    }
    // Taking spill out touches the subject as well.
    check_overlaid(&folder, "plain.mp4", "out.mp4", 7.0);
}

#[test]
fn fill_and_key() {
    let (_films, folder) = films();
    for (out, strength) in [("plain.mp4", "strength=0"), ("out.mp4", "strength=1")] {
        finish(script("fill-and-key.sh", &folder).args(["fill.mp4", "key.mp4", "plate.mp4", out, strength]));
        check_grid(&times(&folder, "v", out));
    }
    check_overlaid(&folder, "plain.mp4", "out.mp4", 4.0);
}

/// A subject that is gone, or an older one, where one of the inputs has ended before its last frame was drawn. It takes luck to
/// be seen, so it is tried several times.
#[test]
fn a_foreground_over_a_background_to_the_last_frame() {
    let (_films, folder) = films();
    let script = |out: &str, strength: &str| {
        let args = ["fill.mp4", "key.mp4", "plate.mp4", out, strength];
        finish(script("foreground-over-background.sh", &folder).args(args));
        check_grid(&times(&folder, "v", out));
    };
    script("out.mp4", "strength=1");
    for _ in 0..8 {
        script("plain.mp4", "strength=0");
        check_overlaid(&folder, "plain.mp4", "out.mp4", 6.0);
        let frames = decode(&folder, "plain.mp4");
        let [before, last] = [FRAMES - 2, FRAMES - 1].map(|n| mean(&frames[n], inside(n)));
        assert!(distance(before, last) < 2.0, "the subject is {last:?} in the last frame and {before:?} before it");
    }
}

#[test]
fn post_keeps_the_sound_and_tells_how_far_it_is() {
    let (_films, folder) = films();
    let expected = [("out.mov", ["prores", "pcm_s24le"]), ("out.mp4", ["h264", "aac"])];
    for (out, wanted) in expected {
        let text = finish(script("post.sh", &folder).args(["composite.mp4", "key.mp4", out]));
        assert!(text.contains("harmonized (00:00:0"), "no progress: {text}");
        assert_eq!(codecs(&folder, out), wanted);
        check_grid(&times(&folder, "v", out));
        let sound = times(&folder, "a", out);
        let (first, last) = (sound[0], sound[sound.len() - 1]);
        assert!(first.abs() < 0.05 && (0.7..0.85).contains(&last), "{out}: sound from {first} to {last}");
        check_matched(&folder, out);
    }
    finish(script("post.sh", &folder).args(["mute.mp4", "key.mp4", "mute-out.mov"]));
    assert_eq!(codecs(&folder, "mute-out.mov"), ["prores"]);
}

#[test]
fn green_screen_live() {
    let (_films, folder) = films();
    let live = Live::start(script("greenscreen-live.sh", &folder).args(["test", "plate.png", "out.ts"]));
    thread::sleep(Duration::from_secs(3));
    live.interrupt();
    let times = times(&folder, "v", "out.ts");
    assert!(times.len() >= 30, "{} frames in three seconds", times.len());
    assert!(times.windows(2).all(|w| w[1] > w[0]), "{times:?}");
    let (plate, frames) = (decode(&folder, "plate.mp4"), decode(&folder, "out.ts"));
    // Somewhere there is a ball; everywhere else the picture, not a trace of green.
    let plate = mean(&plate[0], |_, _| true);
    for frame in &frames[frames.len() / 2..] {
        let is_plate =
            |x: usize, y: usize| distance([0, 1, 2].map(|c| f64::from(frame[3 * (y * WIDTH + x) + c])), plate) < 20.0;
        let around = (0..WIDTH * HEIGHT).filter(|i| is_plate(i % WIDTH, i / WIDTH)).count();
        let share = around as f64 / (WIDTH * HEIGHT) as f64;
        assert!((0.80..0.98).contains(&share), "{share} of the frame is the plate");
        assert!(distance(mean(frame, is_plate), plate) < 4.0);
    }
}

#[test]
fn overlay_over_rtp() {
    let (_films, folder) = films();
    let part = |args: &[&str]| Live::start(script("rtp-overlay.sh", &folder).args(args).env("PORT", "16000"));
    let receiver = part(&["receive", "out.mkv"]);
    let overlay = part(&["overlay", "test", "strength=0"]);
    let sender = part(&["send"]);
    thread::sleep(Duration::from_secs(5));
    receiver.interrupt();
    drop((overlay, sender));
    assert_eq!(codecs(&folder, "out.mkv"), ["h264", "opus"]);
    for stream in ["v", "a"] {
        let times = times(&folder, stream, "out.mkv");
        assert!(times.len() >= 60, "{} packets of {stream} in five seconds", times.len());
        assert!(times.windows(2).all(|w| w[1] > w[0]), "{times:?}");
    }
    // Colour bars, where no ball is: the white one's upper corner and the blue one's, in most frames.
    let frames = decode(&folder, "out.mkv");
    let bars = |frame: &Vec<u8>| {
        let corner = |left: usize| mean(frame, |x, y| (left..left + 8).contains(&x) && (2..10).contains(&y));
        distance(corner(4), [255.0; 3]) < 20.0 && distance(corner(WIDTH - 12), [0.0, 0.0, 255.0]) < 30.0
    };
    let seen = frames.iter().filter(|frame| bars(frame)).count();
    assert!(2 * seen > frames.len(), "colour bars in {seen} of {} frames", frames.len());
}

#[test]
fn a_soak_passes_and_fails() {
    let (_films, folder) = films();
    let soak = |args: &[&str], lost: &str| {
        let mut command = script("soak.sh", &folder);
        command.args(args).envs([("STEP", "1"), ("LOST", lost)]);
        command
    };
    // How many frames a busy machine loses is not for a test to say.
    let text = finish(&mut soak(&["0.06", "soak.csv"], "100000"));
    assert!(text.contains("soak: passed"), "{text}");
    let csv = fs::read_to_string(folder.join("soak.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let column =
        |name: &str| head.iter().position(|title| *title == name).unwrap_or_else(|| panic!("no {name}: {csv}"));
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.iter().map(|cell| cell.parse().unwrap_or_else(|_| panic!("{csv}"))).collect()).collect();
    assert!(rows.len() >= 2 && rows.iter().all(|row| row.len() == head.len()), "{csv}");
    let (out, resident) = (column("frames-out"), column("resident-kB"));
    assert!(rows.windows(2).all(|w| w[1][out] > w[0][out]) && rows.iter().all(|row| row[resident] > 50e3), "{csv}");

    for (args, lost, why) in
        [(&["1", "x.csv"][..], "-1", "frames were lost"), (&["1", "x.csv", "model=none"], "0", "Can't load model none")]
    {
        let output = soak(args, lost).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("soak: FAILED") && text.contains(why), "{text}");
    }
}
