//! The reference evaluation and its tables, against figures computed independently with numpy and PIL.

use anyhow::Result;
use gstharmonize::lab::eval::dataset::{self, Subset};
use gstharmonize::lab::eval::reference::{self, Stages};
use gstharmonize::lab::eval::tables::Figures;
use gstharmonize::lab::eval::{Background, Measured, ReferenceReport};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;
use std::path::Path;
use tch::Tensor;

fn real(x: u32, y: u32) -> [u32; 3] {
    [(3 * x + 2 * y) % 200, (x * y / 16) % 180, 60 + (x + 2 * y) % 90]
}

/// A picture whose foreground is an ellipse, darker than the real one; its background is brighter by 3.
fn write_picture(subset: &Path, name: &str, width: u32, height: u32, radius: u32) {
    let inside = |x: u32, y: u32| {
        let (x, y) = (x.abs_diff(width / 2), y.abs_diff(height / 2));
        x * x + 2 * y * y < radius * radius
    };
    let composite = |x, y| real(x, y).map(|v| if inside(x, y) { v * 4 / 5 + 30 } else { v + 3 } as u8);
    // PNG under iHarmony4's names: the decoder goes by content.
    let save =
        |picture: RgbImage, path: &str| picture.save_with_format(subset.join(path), image::ImageFormat::Png).unwrap();
    for part in ["composite_images", "masks", "real_images"] {
        fs::create_dir_all(subset.join(part)).unwrap();
    }
    save(RgbImage::from_fn(width, height, |x, y| Rgb(composite(x, y))), &format!("composite_images/{name}_1_1.jpg"));
    save(RgbImage::from_fn(width, height, |x, y| Rgb(real(x, y).map(|v| v as u8))), &format!("real_images/{name}.jpg"));
    GrayImage::from_fn(width, height, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]))
        .save(subset.join(format!("masks/{name}_1.png")))
        .unwrap();
}

/// Foregrounds of 1.4, 6.6 and 57.1 per cent.
fn pictures(root: &Path) -> Vec<Subset> {
    write_picture(&root.join("HOne"), "a", 320, 200, 20);
    write_picture(&root.join("HOne"), "b", 300, 400, 60);
    write_picture(&root.join("HTwo"), "c", 700, 500, 300);
    fs::write(root.join("HOne/HOne_test.txt"), "a_1_1.jpg\nb_1_1.jpg\n").unwrap();
    fs::write(root.join("HTwo/HTwo_test.txt"), "c_1_1.jpg\n").unwrap();
    dataset::subsets(root).unwrap()
}

/// Stages whose arithmetic is easily done again elsewhere.
struct Plain {
    refinement: bool,
}

impl Stages for Plain {
    fn decoders(&self) -> Vec<&'static str> {
        vec!["Plain", "Plain++"]
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, _seed: u64) -> Result<Vec<Tensor>> {
        Ok(vec![composite * 0.9 + mask * 0.05 + 0.013, composite * 0.8 + 0.1])
    }

    fn has_refinement(&self) -> bool {
        self.refinement
    }

    fn refine(&self, harmonized: &Tensor, mask: &Tensor, composite: &Tensor) -> Result<Tensor> {
        Ok(harmonized * 0.7 + composite * 0.2 + mask * 0.05 + 0.05)
    }
}

const SIZES: [u32; 2] = [512, 64];

fn report(subsets: &[Subset], stages: &dyn Stages, seed: u64, jobs: usize) -> ReferenceReport {
    let measured = reference::evaluate(subsets, stages, &SIZES, seed, jobs, || {}).unwrap();
    let rows = reference::rows(stages, &SIZES);
    ReferenceReport::new("plain", seed, &SIZES, &rows, subsets, &measured).unwrap()
}

#[test]
fn tables_agree_with_numpy_and_pil() {
    const ROWS: [&str; 9] = [
        "composite",
        "Plain-512",
        "Plain-512 + refinement",
        "Plain++-512",
        "Plain++-512 + refinement",
        "Plain-64",
        "Plain-64 + refinement",
        "Plain++-64",
        "Plain++-64 + refinement",
    ];
    // Real background: all pictures, then HOne alone; the composite's background: all. PSNR, MSE and fMSE each.
    const ALL: [[f64; 3]; 9] = [
        [36.6828, 35.2111, 173.1675],
        [33.1554, 80.3115, 389.8065],
        [29.0063, 211.3127, 1013.2914],
        [32.5856, 89.4828, 444.8917],
        [28.8927, 214.2130, 1040.6415],
        [29.8445, 194.6754, 844.7753],
        [27.9087, 286.8467, 1304.5653],
        [29.5708, 201.5841, 896.6835],
        [27.8183, 286.8945, 1331.3798],
    ];
    const HONE: [[f64; 3]; 9] = [
        [40.7676, 7.0290, 179.6033],
        [37.2701, 15.8872, 401.6500],
        [33.1572, 40.5194, 1036.0320],
        [36.6351, 18.5128, 464.7930],
        [33.0106, 41.8351, 1071.7451],
        [34.2397, 36.9567, 820.7052],
        [32.1799, 54.0726, 1298.3415],
        [33.8965, 39.2813, 884.4969],
        [32.0378, 55.2724, 1340.5381],
    ];
    const COMPOSITE: [[f64; 3]; 9] = [
        [33.6624, 42.3342, 173.1675],
        [31.3588, 87.4346, 389.8065],
        [28.1448, 218.4358, 1013.2914],
        [30.9607, 96.6060, 444.8917],
        [28.0559, 221.3361, 1040.6415],
        [28.6815, 201.7986, 844.7753],
        [27.1627, 293.9698, 1304.5653],
        [28.4884, 208.7072, 896.6835],
        [27.0981, 294.0176, 1331.3798],
    ];
    let folder = tempfile::tempdir().unwrap();
    let report = report(&pictures(folder.path()), &Plain { refinement: true }, 0, 2);
    let check = |figures: Option<Figures>, [psnr, mse, fmse]: [f64; 3], what: &str| {
        let found = figures.unwrap().mean;
        for (found, expected) in [(found.mse, mse), (found.fmse, fmse)] {
            // The refinement's input is scaled in floating point: a value here and there is cut to the next code below.
            assert!((found - expected).abs() <= 1e-4 * expected, "{what}: {found} instead of {expected}");
        }
        assert!((found.psnr - psnr).abs() < 5e-4, "{what}: PSNR {} instead of {psnr}", found.psnr);
    };
    for (i, name) in ROWS.into_iter().enumerate() {
        let [real, composite] = Background::ALL.map(|background| &report.tables.rows[background.name()][i]);
        assert_eq!((real.name.as_str(), composite.name.as_str()), (name, name));
        check(real.groups.all, ALL[i], name);
        check(real.groups.subsets["HOne"], HONE[i], name);
        check(composite.groups.all, COMPOSITE[i], name);
    }
    // One picture in each bucket: a's, b's and c's figures; c is all of HTwo.
    let composite = &report.tables.rows["real"][0].groups;
    assert_eq!(composite.by_foreground.large, composite.subsets["HTwo"]);
    check(composite.by_foreground.small, [43.9998, 2.5888, 186.8506], "0-5%");
    assert_eq!(report.tables.images.by_foreground().map(|(_, &images)| images), [1, 1, 1]);
}

#[test]
fn text_and_json_hold_every_table() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = pictures(folder.path());
    let full = report(&subsets, &Plain { refinement: true }, 7, 1);
    let text = full.to_string();
    let line = |start: &str, nth: usize| {
        let found = text.lines().filter(|line| line.starts_with(start)).nth(nth);
        found.unwrap_or_else(|| panic!("no line {nth} with {start} in\n{text}")).split_whitespace().collect::<Vec<_>>()
    };
    assert!(text.contains("model plain, seed 7, at 256x256, real background pasted, PSNR/MSE/fMSE"), "{text}");
    assert!(text.contains("composite background pasted"), "{text}");
    assert_eq!(line("      ", 0), ["HOne", "(2)", "HTwo", "(1)", "all", "(3)"]);
    assert_eq!(line("      ", 1), ["0-5%", "(1)", "5-15%", "(1)", "15-100%", "(1)"]);
    assert_eq!(line("composite ", 0), ["composite", "40.77/7.03/179.60", "28.51/91.58/160.30", "36.68/35.21/173.17"]);
    // Both tables of the real background come before those of the composite's.
    assert_eq!(line("composite ", 1)[3], "28.51/91.58/160.30");
    assert_eq!(line("composite ", 2)[3], "33.66/42.33/173.17");
    assert!(text.contains(" s a picture at 64, ") && text.ends_with(" s a picture at 512"), "{text}");

    let markdown = full.markdown();
    assert!(markdown.starts_with("model plain, seed 7, at 256x256, real background pasted; a cell is"), "{markdown}");
    assert!(
        markdown.contains("| composite | 40.77/7.03/179.60 | 28.51/91.58/160.30 | 36.68/35.21/173.17 |"),
        "{markdown}"
    );

    let json = serde_json::to_value(&full).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "images model seconds_per_image seed size skipped tables");
    assert_eq!(json["images"]["subsets"], serde_json::json!({"HOne": 2, "HTwo": 1}));
    assert_eq!(json["tables"]["composite"].as_array().unwrap().len(), 9);
    let row = &json["tables"]["real"][2];
    assert_eq!((keys(row), &row["name"]), ("all by_foreground name subsets".into(), &"Plain-512 + refinement".into()));
    assert_eq!(
        keys(&row["by_foreground"]["5-15%"]),
        "fmse fmse_ratio fmse_ratio_interval fmse_ratio_median fpsnr fssim intervals mse psnr ssim worse"
    );

    let rows = reference::rows(&Plain { refinement: false }, &SIZES);
    assert_eq!(rows, ["composite", "Plain-512", "Plain++-512", "Plain-64", "Plain++-64"]);
    let without = report(&subsets, &Plain { refinement: false }, 7, 1);
    for (short, long) in [(0, 0), (1, 1), (2, 3), (3, 5), (4, 7)] {
        assert_eq!(without.tables.rows["real"][short], full.tables.rows["real"][long]);
    }
}

/// One number from the seed, all over the picture.
struct Noisy;

impl Stages for Noisy {
    fn decoders(&self) -> Vec<&'static str> {
        vec!["Noisy"]
    }

    fn harmonize(&self, composite: &Tensor, _mask: &Tensor, seed: u64) -> Result<Vec<Tensor>> {
        Ok(vec![composite * 0.0 + (seed >> 11) as f64 / (1u64 << 53) as f64])
    }

    fn has_refinement(&self) -> bool {
        false
    }

    fn refine(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Tensor> {
        anyhow::bail!("there is no refinement")
    }
}

#[test]
fn noise_depends_on_the_seed_and_the_picture_s_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut subsets = pictures(folder.path());
    for name in ["d", "e"] {
        write_picture(&folder.path().join("HTwo"), name, 320, 200, 20);
    }
    fs::write(folder.path().join("HTwo/HTwo_test.txt"), "d_1_1.jpg\ne_1_1.jpg\nc_1_1.jpg").unwrap();
    subsets = [vec![subsets.remove(0)], dataset::subsets(&folder.path().join("HTwo")).unwrap()].concat();
    let run = |subsets: &[Subset], seed, jobs| -> Vec<f64> {
        let measured = reference::evaluate(subsets, &Noisy, &[64], seed, jobs, || {}).unwrap();
        measured.into_iter().flatten().map(|m: Option<Measured>| m.unwrap().rows[1][0].fmse).collect()
    };
    let once = run(&subsets, 5, 1);
    assert_eq!(once, run(&subsets, 5, 3));
    // Pictures a, d and e are the same but for their names.
    assert!(once[0] != once[2] && once[2] != once[3] && once[0] != once[3], "{once:?}");
    let other = run(&subsets, 6, 1);
    assert!(once.iter().zip(&other).all(|(a, b)| a != b), "{once:?} {other:?}");
    subsets[1].triples.reverse();
    let reversed = run(&subsets[1..], 5, 1);
    assert_eq!(reversed, once[2..].iter().rev().copied().collect::<Vec<_>>());
}

/// Answers with what it is given.
struct Broken(fn(&Tensor) -> Vec<Tensor>);

impl Stages for Broken {
    fn decoders(&self) -> Vec<&'static str> {
        vec!["Broken"]
    }

    fn harmonize(&self, composite: &Tensor, _mask: &Tensor, _seed: u64) -> Result<Vec<Tensor>> {
        Ok(self.0(composite))
    }

    fn has_refinement(&self) -> bool {
        false
    }

    fn refine(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Tensor> {
        anyhow::bail!("there is no refinement")
    }
}

#[test]
fn an_answer_that_does_not_fit_is_an_error_that_names_its_picture() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = pictures(folder.path());
    let refused =
        |answer| format!("{:#}", reference::evaluate(&subsets, &Broken(answer), &[64], 0, 1, || {}).unwrap_err());
    let sentence = refused(|x| vec![x * f64::NAN]);
    assert!(sentence.contains("a_1_1.jpg: the model answered with values that are not finite"), "{sentence}");
    let sentence = refused(|x| vec![x.narrow(2, 0, 8)]);
    assert!(sentence.contains("a_1_1.jpg") && sentence.contains("[1, 3, 8, 64]"), "{sentence}");
    let sentence = refused(|_| vec![]);
    assert!(sentence.contains("a_1_1.jpg") && sentence.contains("answered with 0 pictures"), "{sentence}");
}

#[test]
fn a_mask_without_foreground_at_256_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = pictures(folder.path());
    // The nearest neighbours that 256 columns take of 700 don't include the first.
    let thin = GrayImage::from_fn(700, 500, |x, _| Luma([if x == 0 { 255 } else { 0 }]));
    thin.save(&subsets[1].triples[0].mask).unwrap();
    let left = report(&subsets, &Plain { refinement: false }, 0, 2);
    assert_eq!(left.tables.skipped, [subsets[1].triples[0].composite.display().to_string()]);
    assert_eq!((left.tables.images.all, left.tables.images.subsets["HTwo"]), (2, 0));
    let row = &left.tables.rows["real"][0].groups;
    assert_eq!((row.all, row.subsets["HTwo"]), (row.subsets["HOne"], None));
    let text = left.to_string();
    assert!(text.contains("foreground at this size: 1\n") && text.contains("c_1_1.jpg"), "{text}");
}
