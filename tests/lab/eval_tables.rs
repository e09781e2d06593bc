//! The tables of an evaluation: cells, groups and intervals, from figures that are known.

use gstharmonize::lab::eval::dataset::{Subset, Triple};
use gstharmonize::lab::eval::metrics::Metrics;
use gstharmonize::lab::eval::tables::Figures;
use gstharmonize::lab::eval::{Background, Measured, Report, Size};
use std::time::Duration;

fn metrics(mse: f64) -> Metrics {
    Metrics { mse, fmse: 10.0 * mse, psnr: 40.0 - mse, fpsnr: 30.0 - mse, ssim: 0.9, fssim: 0.8 }
}

/// A picture whose composite has `mse` against the real background's and twice that with its own; a method halves each, another
/// leaves three.
fn picture(foreground: f64, mse: f64) -> Option<Measured> {
    let row = |mse: f64| vec![metrics(mse), metrics(2.0 * mse)];
    let rows = vec![row(mse), row(mse / 2.0), vec![metrics(3.0); 2]];
    Some(Measured { foreground, rows, took: vec![Duration::from_millis(5), Duration::from_millis(500)] })
}

fn subset(name: &str, pictures: usize) -> Subset {
    let triple = |i: usize| Triple {
        composite: format!("{name}/composite_images/p_{i}_1.jpg").into(),
        mask: format!("{name}/masks/p_{i}.png").into(),
        real: format!("{name}/real_images/p.jpg").into(),
    };
    Subset { name: name.to_owned(), triples: (0..pictures).map(triple).collect() }
}

fn report(backgrounds: &[Background]) -> Report {
    let subsets = [subset("HOne", 3), subset("HTwo", 1)];
    let measured = [vec![picture(0.02, 2.0), None, picture(0.5, 6.0)], vec![picture(0.03, 1.0)]];
    let names = ["halving", "best-affine"].map(str::to_owned);
    Report::new(&names, Size::Square256, backgrounds, &subsets, &measured).unwrap()
}

#[test]
fn markdown_has_the_posters_tables() {
    let text = report(&[Background::Real]).markdown();
    let table = |lines: &[&str]| lines.join("\n") + "\n\n";
    let by_subset = table(&[
        "| | HOne (2) | HTwo (1) | all (3) |",
        "|---|---|---|---|",
        "| untouched | 36.00/4.00/40.00 | 39.00/1.00/10.00 | 37.00/3.00/30.00 |",
        "| halving | 38.00/2.00/20.00 | 39.50/0.50/5.00 | 38.50/1.50/15.00 |",
        "| best-affine | 37.00/3.00/30.00 | 37.00/3.00/30.00 | 37.00/3.00/30.00 |",
    ]);
    let by_share = table(&[
        "| | 0-5% (2) | 5-15% (0) | 15-100% (1) |",
        "|---|---|---|---|",
        "| untouched | 38.50/1.50/15.00 | - | 34.00/6.00/60.00 |",
        "| halving | 39.25/0.75/7.50 | - | 37.00/3.00/30.00 |",
        "| best-affine | 37.00/3.00/30.00 | - | 37.00/3.00/30.00 |",
    ]);
    // Half of whatever is drawn is left; three of two draws between 2 and 6, of one, and of three between 1 and 6. Then the median picture, and how
    // many are worse than untouched.
    let left = table(&[
        "| | HOne (2) | HTwo (1) | all (3) |",
        "|---|---|---|---|",
        "| halving | 0.500 [0.500, 0.500]; 0.500; 0 | 0.500 [0.500, 0.500]; 0.500; 0 | 0.500 [0.500, 0.500]; 0.500; 0 |",
        "| best-affine | 0.750 [0.500, 1.500]; 1.000; 1 | 3.000 [3.000, 3.000]; 3.000; 1 | 1.000 [0.500, 3.000]; 1.500; 2 |",
    ]);
    for part in [&by_subset, &by_share, &left] {
        assert!(text.contains(part), "{part}in\n{text}");
    }
    assert!(text.starts_with("At 256x256, the real background pasted; a cell is PSNR/MSE/fMSE"), "{text}");
    let means = "| | PSNR | MSE | fMSE |\n|---|---|---|---|\n| untouched | 37.00 [34.00, 39.00] | 3.00 [1.00, 6.00] |";
    assert!(text.contains(means), "{text}");
    assert!(text.contains("no foreground at this size: 1\n") && text.contains("best-affine knows the real picture"));
    assert!(text.ends_with("reach.\n") && !text.contains("\n\n\n"), "{text}");
}

#[test]
fn both_backgrounds_have_tables() {
    let both = report(&Background::ALL);
    for (background, mse) in [("real", 3.0), ("composite", 6.0)] {
        let [untouched, halving] = [0, 1].map(|row| both.tables.rows[background][row].groups.all.unwrap());
        assert_eq!((untouched.mean.mse, halving.mean.mse, halving.share.fmse_ratio), (mse, mse / 2.0, 0.5));
        assert_eq!(both.pictures[2].metrics[background]["untouched"].mse, mse / 3.0);
    }
    assert_eq!(both.tables.rows["real"], report(&[Background::Real]).tables.rows["real"]);
    let (text, markdown) = (both.to_string(), both.markdown());
    let places = ["background real", "background composite"].map(|background| text.find(background).unwrap());
    assert!(places[0] < places[1], "{text}");
    assert!(markdown.contains("At 256x256, the real background") && markdown.contains("composite's own background"));
    assert!(markdown.contains("| untouched | 32.00/8.00/80.00 | 38.00/2.00/20.00 | 34.00/6.00/60.00 |"), "{markdown}");
}

#[test]
fn intervals_are_around_the_means_and_paired() {
    let pictures = (0..60).map(|i| picture(0.2, 1.0 + f64::from(i * 37 % 60) / 10.0)).collect();
    let names = ["halving", "best-affine"].map(str::to_owned);
    let report = Report::new(&names, Size::Native, &[Background::Real], &[subset("H", 60)], &[pictures]).unwrap();
    let rows: Vec<Figures> = report.tables.rows["real"].iter().map(|row| row.groups.all.unwrap()).collect();
    for Figures { mean, intervals, .. } in &rows[..2] {
        for (mean, [low, high]) in [(mean.psnr, intervals.psnr), (mean.mse, intervals.mse), (mean.fmse, intervals.fmse)]
        {
            assert!(low < mean && mean < high, "{mean} in {low}..{high}");
        }
    }
    assert!(rows[1].share.interval.iter().all(|end| (end - 0.5).abs() < 1e-12), "{:?}", rows[1].share);
    let share = rows[2].share;
    assert!(share.interval[0] < share.fmse_ratio && share.fmse_ratio < share.interval[1], "{share:?}");
    assert_eq!(rows[2].intervals.mse, [3.0, 3.0]);
}

#[test]
fn text_has_a_row_a_method_in_each_group() {
    let text = report(&[Background::Real]).to_string();
    let line = |start: &str, after: usize| {
        let at =
            text.lines().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{text}"));
        text.lines().nth(at + after).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("HOne", 0), "HOne (2) untouched 4.00 40.00 36.00 26.00 0.9000 0.8000");
    assert_eq!(line("HOne", 1), "halving 2.00 20.00 38.00 28.00 0.9000 0.8000 0.500 [0.500, 0.500] 0.500 0");
    assert_eq!(line("15-100%", 2), "best-affine 3.00 30.00 37.00 27.00 0.9000 0.8000 0.500 [0.500, 0.500] 0.500 0");
    assert!(!text.contains("5-15%"), "an empty group:\n{text}");
    assert!(text.contains("best-affine 500.0 ms, halving 5.0 ms a picture\nnot measured"), "{text}");
}
