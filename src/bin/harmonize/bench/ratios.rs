//! What the rows say of one another, and of the targets of the full-resolution stage.

use super::rounds::{BenchPart, BenchRow, median};
use super::target::Target;
use serde::Serialize;

/// One part's time over another's in the same round.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    pub of: BenchPart,
    pub to: BenchPart,
    /// Median over the rounds.
    pub ratio: f64,
    pub rounds: Vec<f64>,
}

/// The ratios that anyone asks for, of all that was measured.
pub fn all(rows: &[BenchRow]) -> Vec<Ratio> {
    let find = |part: &BenchPart| rows.iter().find(|row| row.part == *part);
    let others = |of: &'_ BenchRow| counterparts(&of.part).iter().filter_map(find).collect::<Vec<_>>();
    rows.iter().flat_map(|of| others(of).into_iter().map(|to| ratio(of, to)).collect::<Vec<_>>()).collect()
}

fn ratio(of: &BenchRow, to: &BenchRow) -> Ratio {
    let rounds: Vec<f64> = of.rounds_ms.iter().zip(&to.rounds_ms).map(|(of, to)| of / to).collect();
    Ratio { of: of.part.clone(), to: to.part.clone(), ratio: median(&rounds), rounds }
}

/// What a part is set beside.
fn counterparts(part: &BenchPart) -> Vec<BenchPart> {
    let others: &[&str] = match part.what {
        "proxy" | "apply" | "apply full" => &["memcpy"],
        "element" => &["compositor", "lut3d+maskedmerge"],
        "element, no inference" => &["memcpy", "compositor", "videobalance"],
        "lut3d" | "lut3d+maskedmerge" => &["apply"],
        _ => &[],
    };
    let mut parts: Vec<_> = others.iter().map(|what| BenchPart { what, ..part.clone() }).collect();
    if matches!(part.what, "proxy" | "apply" | "apply full" | "element, no inference") {
        parts.extend(eight_bits(part.format).iter().map(|format| BenchPart { format: Some(format), ..part.clone() }));
        if part.size == UHD {
            parts.push(BenchPart { size: HD.into(), ..part.clone() });
        }
    }
    parts
}

/// The formats of 8 bits that differ from this one in depth alone.
fn eight_bits(format: Option<&str>) -> &'static [&'static str] {
    match format {
        Some("P010_10LE" | "P010_10BE") => &["NV12", "I420"],
        Some("I420_10LE" | "I420_10BE" | "I420_12LE" | "I420_12BE") => &["I420"],
        Some("RGBA64_LE" | "RGBA64_BE") => &["RGBA"],
        Some("ARGB64" | "ARGB64_LE" | "ARGB64_BE") => &["ARGB", "RGBA"],
        Some("BGRA64_LE" | "BGRA64_BE") => &["BGRA", "RGBA"],
        Some("AYUV64") => &["AYUV"],
        Some("GRAY16_LE" | "GRAY16_BE") => &["GRAY8"],
        _ => &[],
    }
}

const HD: &str = "1920x1080";
const UHD: &str = "3840x2160";

/// Milliseconds of 1080p.
const TIMES: [(&str, &str, f64); 4] =
    [("apply", "I420", 0.8), ("apply full", "RGBA", 2.0), ("proxy", "I420", 0.35), ("proxy", "RGBA", 0.35)];

/// The targets that were measured; they are for 30 % foreground on two cores.
pub fn targets(rows: &[BenchRow], ratios: &[Ratio]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (what, format, most) in TIMES {
        let part = BenchPart { what, size: HD.into(), format: Some(format) };
        for row in rows.iter().filter(|row| row.part == part) {
            let ms = row.median_ms;
            targets.push(Target::new(
                part.to_string(),
                format!("{ms:.3} ms"),
                format!("at most {most:.2} ms"),
                ms <= most,
            ));
        }
    }
    let hd = |ratio: &&Ratio, of: &str, to: &str| {
        ratio.of.size == HD && ratio.to.size == HD && ratio.of.what == of && ratio.to.what == to
    };
    for ratio in ratios.iter().filter(|r| hd(r, "lut3d", "apply") && r.of.format == Some("I420")) {
        targets.push(at_least(ratio, 40.0));
    }
    for ratio in ratios.iter().filter(|r| hd(r, "element, no inference", "compositor")) {
        targets.push(at_most(ratio, 1.0));
    }
    for what in ["proxy", "apply", "apply full", "element, no inference"] {
        let of_size = ratios.iter().filter(|r| r.of.what == what && r.of.size == UHD && r.to.size == HD);
        targets.extend(of_size.max_by(|a, b| a.ratio.total_cmp(&b.ratio)).map(|worst| at_most(worst, 4.4)));
    }
    for what in ["proxy", "apply", "apply full"] {
        let of_depth = ratios.iter().filter(|r| hd(r, what, what) && r.of.format != r.to.format);
        targets.extend(of_depth.map(|ratio| at_most(ratio, 2.5)));
    }
    targets
}

fn at_most(ratio: &Ratio, most: f64) -> Target {
    Target::new(name(ratio), format!("{:.2} times", ratio.ratio), format!("at most {most}"), ratio.ratio <= most)
}

fn at_least(ratio: &Ratio, least: f64) -> Target {
    Target::new(name(ratio), format!("{:.1} times", ratio.ratio), format!("at least {least}"), ratio.ratio >= least)
}

pub fn name(Ratio { of, to, .. }: &Ratio) -> String {
    format!("{of} over {to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(what: &'static str, size: &str, format: &'static str, rounds_ms: [f64; 3]) -> BenchRow {
        let part = BenchPart { what, size: size.into(), format: Some(format) };
        BenchRow {
            part,
            median_ms: median(&rounds_ms),
            p95_ms: 0.0,
            rounds_ms: rounds_ms.into(),
            disturbed: Vec::new(),
        }
    }

    /// All that has a target, in times that meet it by a hair where `slower` is 1.
    fn rows(slower: f64) -> Vec<BenchRow> {
        let ms = |ms: f64| [0.5 * ms, ms, 3.0 * ms].map(|ms| slower * ms);
        vec![
            row("apply", HD, "I420", ms(0.8)),
            row("apply", HD, "P010_10LE", ms(1.9)),
            row("apply", UHD, "I420", ms(3.5).map(|ms| slower * ms)),
            row("apply full", HD, "RGBA", ms(2.0)),
            row("apply full", HD, "RGBA64_LE", ms(4.9).map(|ms| slower * ms)),
            row("proxy", HD, "I420", ms(0.35)),
            row("element, no inference", HD, "I420", ms(7.0)),
            row("compositor", HD, "I420", ms(7.1).map(|ms| ms / slower)),
            row("lut3d", HD, "I420", ms(32.1).map(|ms| ms / slower)),
        ]
    }

    fn verdicts(slower: f64) -> Vec<(String, bool)> {
        let rows = rows(slower);
        let targets = serde_json::to_value(targets(&rows, &all(&rows))).unwrap();
        let verdict = |t: &serde_json::Value| (t["what"].as_str().unwrap().into(), t["met"].as_bool().unwrap());
        targets.as_array().unwrap().iter().map(verdict).collect()
    }

    #[test]
    fn targets_are_met_up_to_their_bounds() {
        let named = |met| {
            [
                ("apply 1920x1080 I420", met),
                ("apply full 1920x1080 RGBA", met),
                ("proxy 1920x1080 I420", met),
                ("lut3d 1920x1080 I420 over apply 1920x1080 I420", met),
                ("element, no inference 1920x1080 I420 over compositor 1920x1080 I420", met),
                ("apply 3840x2160 I420 over apply 1920x1080 I420", met),
                ("apply 1920x1080 P010_10LE over apply 1920x1080 I420", true),
                ("apply full 1920x1080 RGBA64_LE over apply full 1920x1080 RGBA", met),
            ]
            .map(|(what, met)| (what.to_owned(), met))
        };
        assert_eq!(verdicts(1.0), named(true));
        assert_eq!(verdicts(1.05), named(false));
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let (of, to) = (row("apply", HD, "RGBA", [2.0, 8.0, 3.0]), row("memcpy", HD, "RGBA", [1.0, 2.0, 3.0]));
        let ratios = all(&[of, to]);
        assert_eq!(
            ratios.iter().map(|r| (r.ratio, r.rounds.clone())).collect::<Vec<_>>(),
            [(2.0, vec![2.0, 4.0, 1.0])]
        );
    }
}
