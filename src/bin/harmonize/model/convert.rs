//! `harmonize model convert`: PyTorch's pickles to safetensors, and the text encoder's one answer.

use anyhow::{Context, Result, ensure};
use gstharmonize::harmonizers::diffharmony::{Folder, null_text};
use gstharmonize::lab::convert::{self, FoundPickle};
use gstharmonize::nets::config::few;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::path::{Path, PathBuf};

/// Turn a model folder's PyTorch files into safetensors
///
/// Reads .bin, .pt, .pth, .ckpt and .pkl files that torch.save wrote with a reader that runs no code, whatever they ask for, and
/// writes each one's tensors, bit for bit, into a safetensors file beside it. Where there is a text encoder, stores its encoding
/// of the empty prompt, the only one that is used, as null_text.safetensors. What is there already is left as it is.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize model convert DiffHarmony/checkpoints
  harmonize model convert DiffHarmony/checkpoints --remove
You should see one line a file: what became of it, or why it was left alone. The disk needs as much room again as the files
have, until --remove has taken them away.")]
pub struct Args {
    /// The folder that holds base/ (or unet/), or one that holds config.json and its weights
    folder: PathBuf,

    /// Remove each PyTorch file once its safetensors file is written
    #[arg(long)]
    remove: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = &args.folder;
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let short = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    for found in convert::find(folder)? {
        match found {
            FoundPickle::Skipped { path, why } => println!("{}: skipped, {why}", short(&path)),
            FoundPickle::Weights { pickle, safetensors } => {
                println!("{}: {}", short(&pickle), convert_one(&pickle, &safetensors)?);
                if args.remove {
                    fs::remove_file(&pickle).with_context(|| format!("can't remove {}", pickle.display()))?;
                }
            }
        }
    }
    if Folder::is_one(folder) {
        let base = Folder::base(folder);
        if let Some(text) = store_null_text(&base)? {
            println!("{}: {text}", short(&base.join(null_text::FILE)));
        }
    }
    Ok(())
}

fn convert_one(pickle: &Path, safetensors: &Path) -> Result<String> {
    let bar = ProgressBar::new(0).with_message(pickle.display().to_string());
    // A template that doesn't parse leaves indicatif's own look.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let converted = convert::convert(pickle, safetensors, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let converted = converted?;
    let name = safetensors.file_name().unwrap_or_default().display();
    let dropped = match &converted.dropped[..] {
        [] => String::new(),
        names => format!("; left out {}, which is no weight", few(names)),
    };
    Ok(format!("now {name}, {} tensors, {:.1} MB{dropped}", converted.tensors, converted.bytes as f64 / 1e6))
}

/// What happened, if anything.
fn store_null_text(base: &Path) -> Result<Option<String>> {
    if base.join(null_text::FILE).exists() {
        return Ok(Some("it is there".into()));
    }
    if !base.join(null_text::TEXT_ENCODER).is_dir() {
        return Ok(None);
    }
    let text = null_text::compute(base)?;
    null_text::write(base, &text)?;
    Ok(Some(format!("the empty prompt's encoding, {:?}", text.size())))
}
