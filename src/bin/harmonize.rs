use clap::Parser;
#[derive(Parser)]
enum Cli {
    Train(gstharmonize::train::Args),
}
fn main() -> anyhow::Result<()> {
    let Cli::Train(a) = Cli::parse();
    gstharmonize::train::run(&a)
}
