//! Flow of real films, by OpenCV's DIS in a Python process of its own (flow.py).

use super::flow::Flow;
use anyhow::{Context, Result, anyhow, bail, ensure};
use image::{RgbImage, imageops};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("flow.py");

/// The estimator for the frames of one film. The same frames give the same flow.
#[derive(Debug)]
pub struct Dis {
    python: PathBuf,
    child: Child,
    frames: Option<ChildStdin>,
    flows: BufReader<ChildStdout>,
    /// OpenCV's.
    version: String,
    size: [usize; 2],
    began: bool,
}

impl Dis {
    /// Starts `python` for frames of this size. An error where it isn't there or has no OpenCV.
    pub fn start(python: &Path, width: u32, height: u32) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, &width.to_string(), &height.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {} to measure motion ({REMEDY})", python.display()))?;
        let frames = child.stdin.take();
        let flows = BufReader::new(child.stdout.take().context("a process without output")?);
        let size = [width as usize, height as usize];
        let mut dis =
            Self { python: python.to_owned(), child, frames, flows, version: String::new(), size, began: false };
        let mut version = String::new();
        dis.flows.read_line(&mut version)?;
        if version.is_empty() {
            let cause = dis.last_words().unwrap_or_else(|| "it said nothing".into());
            bail!("{} can't measure motion: {cause} ({REMEDY})", python.display());
        }
        dis.version = version.trim().to_owned();
        Ok(dis)
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// From the frame before to this one, and back; `None` for the first.
    pub fn next(&mut self, frame: &RgbImage) -> Result<Option<[Flow; 2]>> {
        let size = [frame.width() as usize, frame.height() as usize];
        ensure!(size == self.size, "a frame of {size:?} in a film of {:?}", self.size);
        self.exchange(frame).map_err(|error| {
            let failed = format!("{} failed to measure motion", self.python.display());
            match self.last_words() {
                Some(cause) => anyhow!("{failed}: {cause}"),
                None => error.context(failed),
            }
        })
    }

    fn exchange(&mut self, frame: &RgbImage) -> Result<Option<[Flow; 2]>> {
        self.frames.as_mut().context("the process was ended")?.write_all(&imageops::grayscale(frame))?;
        if !std::mem::replace(&mut self.began, true) {
            return Ok(None);
        }
        Ok(Some([self.flow()?, self.flow()?]))
    }

    fn flow(&mut self) -> Result<Flow> {
        let [width, height] = self.size;
        let mut bytes = vec![0; 8 * width * height];
        self.flows.read_exact(&mut bytes)?;
        let component = |bytes: &[u8]| bytes.first_chunk().copied().map_or(f32::NAN, f32::from_ne_bytes);
        Flow::new(width, height, bytes.chunks_exact(8).map(|v| [component(v), component(&v[4..])]).collect())
    }

    /// Ends the process, and gives the last line of what it said on stderr.
    fn last_words(&mut self) -> Option<String> {
        drop(self.frames.take());
        // It may be writing what nobody reads any more; one that failed is gone already.
        let _ = self.child.kill();
        let mut text = String::new();
        // What is not UTF-8 is no sentence of Python's.
        let _ = self.child.stderr.take()?.read_to_string(&mut text);
        text.trim().lines().next_back().map(str::to_owned)
    }
}

/// What helps where there is no Python or no OpenCV in it.
const REMEDY: &str = "run `make tools` in the checkout, or pip install opencv-python-headless into a Python that --python or \
                      HARMONIZE_PYTHON names, or leave flow out with --no-flow";

impl Drop for Dis {
    fn drop(&mut self) {
        // It ends with its input; one that hangs in the middle of a frame is not waited for.
        drop(self.frames.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
