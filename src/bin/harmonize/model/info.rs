//! `harmonize model info`: a model's parts in a table.

use anyhow::{Result, bail};
use gstharmonize::harmonizers::{self, ModelPart};

/// Problems of a part that are printed; its others are counted.
const SHOWN: usize = 8;

/// Show what a model holds and whether it would play
///
/// Names, shapes and kinds in the files are held against what each config.json asks for; the weights themselves are not read,
/// so that this takes no longer for gigabytes. Whether they are finite numbers shows when the model is loaded.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize model info compact
  harmonize model info DiffHarmony/checkpoints
You should see a line for each part that ends in ok, or what is missing, surplus or of another shape below it. A part that the
folder's decoder does without is not used, whatever is wrong with it. The exit code is 1 when the model won't play, with the
first reason on stderr.")]
pub struct Args {
    /// A built-in model (compact, gift, star), or a model folder
    #[arg(value_name = "NAME|FOLDER")]
    model: String,
}

pub fn run(args: &Args) -> Result<()> {
    let info = harmonizers::info(&args.model)?;
    row("part", "class", "parameters", "tensors", "kinds", "MB", "");
    for part in &info.parts {
        print(part);
    }
    let sum = |of: fn(&ModelPart) -> u64| info.parts.iter().map(of).sum::<u64>();
    let (parameters, tensors) = (sum(|part| part.parameters), sum(|part| part.tensors as u64));
    row("total", "", &thousands(parameters), &tensors.to_string(), "", &megabytes(sum(|part| part.bytes)), "");
    if let Some(problem) = info.problem() {
        bail!("{} won't play: {problem}", args.model);
    }
    println!("{}", info.setup.unwrap_or_default());
    Ok(())
}

fn print(part: &ModelPart) {
    let kinds: Vec<_> = part.kinds.iter().map(String::as_str).collect();
    let numbers = [thousands(part.parameters), part.tensors.to_string(), megabytes(part.bytes)];
    // The scheduler has no file of weights, and neither has what is missing.
    let [parameters, tensors, size] = if part.bytes == 0 { ["-"; 3] } else { numbers.each_ref().map(String::as_str) };
    let verdict = match (part.is_unused, part.problems.len()) {
        (false, 0) => "ok".into(),
        (true, 0) => "not used".into(),
        (false, n) => problems(n),
        (true, n) => format!("not used, {}", problems(n)),
    };
    row(&part.name, &part.class, parameters, tensors, &kinds.join(" "), size, &verdict);
    for problem in part.problems.iter().take(SHOWN) {
        println!("  {problem}");
    }
    if part.problems.len() > SHOWN {
        println!("  and {} more", part.problems.len() - SHOWN);
    }
}

fn problems(number: usize) -> String {
    format!("{number} problem{}", if number == 1 { "" } else { "s" })
}

fn row(part: &str, class: &str, parameters: &str, tensors: &str, kinds: &str, size: &str, verdict: &str) {
    let line = format!("{part:<14} {class:<22} {parameters:>13} {tensors:>8}  {kinds:<6} {size:>8}  {verdict}");
    println!("{}", line.trim_end());
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// 859,535,364
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
