//! Data sets, metrics and the report, against figures computed independently with numpy and PIL.

use crate::shared;
use gstharmonize::lab::eval::dataset::{self, Subset};
use gstharmonize::lab::eval::metrics::{self, Metrics};
use gstharmonize::lab::eval::{self, Background, EvalSample, Measured, Method, Report, Size};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;
use std::path::Path;

/// Textures that alias, so that a wrong filter shows.
fn composite(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7 + y * 3 + 20) % 256, (x * y + 11 * x) % 251, (x * x + y * 6) % 241].map(|v| v as u8))
    })
}

fn real(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7 + y * 3) % 256, (x * y) % 251, (x * x + y * 5) % 241].map(|v| v as u8))
    })
}

fn ellipse(width: i32, height: i32) -> Vec<bool> {
    let inside = |x: i32, y: i32| (x - width / 2).pow(2) * 4 + (y - height / 2).pow(2) * 9 < 36 * 36;
    (0..height).flat_map(|y| (0..width).map(move |x| inside(x, y))).collect()
}

/// One method with one background.
fn evaluate(
    subsets: &[Subset],
    size: Size,
    background: Background,
    jobs: usize,
    harmonize: impl Fn(&RgbImage, &GrayImage) -> anyhow::Result<RgbImage> + Sync,
) -> anyhow::Result<Vec<Vec<Option<Measured>>>> {
    let method = Method::new("some", |sample: &EvalSample| harmonize(&sample.composite, &sample.mask));
    eval::evaluate(subsets, &[method], size, &[background], jobs, || {})
}

/// The composite's and the method's figures.
fn figures(measured: &Measured) -> [Metrics; 2] {
    [measured.rows[0][0], measured.rows[1][0]]
}

fn assert_close(measured: Metrics, [mse, fmse, psnr, fpsnr, ssim, fssim]: [f64; 6], tolerance: [f64; 6]) {
    let measured = [measured.mse, measured.fmse, measured.psnr, measured.fpsnr, measured.ssim, measured.fssim];
    for ((measured, expected), tolerance) in
        measured.into_iter().zip([mse, fmse, psnr, fpsnr, ssim, fssim]).zip(tolerance)
    {
        assert!((measured - expected).abs() <= tolerance, "{measured} instead of {expected}");
    }
}

#[test]
fn metrics_agree_with_numpy() {
    let (mut picture, real) = (composite(37, 29), real(37, 29));
    for (x, y, pixel) in picture.enumerate_pixels_mut().filter(|(_, y, _)| y % 2 == 0) {
        *pixel = Rgb(real.get_pixel(x, y).0.map(|v| v / 2 + 40));
    }
    let measured = metrics::measure(&picture, &real, &ellipse(37, 29));
    let numpy = [3531.578440509, 3706.638095238, 12.651115040, 12.441001759, 0.517341598, 0.449614966];
    assert_close(measured, numpy, [1e-8; 6]);
}

#[test]
fn metrics_by_hand() {
    // Two pixels, one of them foreground and off by (3, 0, 6): 45 over 6 samples, or over the foreground's 3.
    let real = RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap();
    let picture = RgbImage::from_raw(2, 1, vec![13, 20, 24, 40, 50, 60]).unwrap();
    let measured = metrics::measure(&picture, &real, &[true, false]);
    assert_eq!((measured.mse, measured.fmse), (7.5, 15.0));
    assert!((measured.psnr - 39.380191).abs() < 1e-6 && (measured.fpsnr - 36.369891).abs() < 1e-6, "{measured:?}");

    let same = metrics::measure(&real, &real, &[true, true]);
    assert_eq!((same.mse, same.psnr, same.fpsnr), (0.0, metrics::PSNR_CEILING, metrics::PSNR_CEILING));
    assert!((same.ssim - 1.0).abs() < 1e-12 && (same.fssim - 1.0).abs() < 1e-12);
}

#[test]
fn scaling_agrees_with_pil() {
    // [x, y] and the RGB that PIL's resize((256, 256), BILINEAR) has there.
    type EvalSample = ([u32; 2], [u8; 3]);
    let sizes: [(u32, u32, [EvalSample; 5]); 3] = [
        (
            401,
            307,
            [
                ([0, 0], [24, 4, 1]),
                ([255, 255], [150, 119, 94]),
                ([17, 90], [21, 148, 169]),
                ([128, 128], [95, 105, 125]),
                ([200, 31], [23, 88, 61]),
            ],
        ),
        (
            97,
            60,
            [
                ([0, 0], [20, 0, 0]),
                ([255, 255], [101, 194, 171]),
                ([17, 90], [125, 194, 162]),
                ([128, 128], [190, 171, 90]),
                ([200, 31], [57, 94, 81]),
            ],
        ),
        (
            640,
            200,
            [
                ([0, 0], [27, 11, 2]),
                ([255, 255], [219, 186, 149]),
                ([17, 90], [22, 129, 103]),
                ([128, 128], [44, 149, 88]),
                ([200, 31], [13, 147, 112]),
            ],
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (width, height, samples) in sizes {
        // PNG under iHarmony4's names: the decoder goes by content.
        let subset = folder.path().join(format!("{width}"));
        write_subset(&subset, "Scaled", &[("a_1_1", 50)]);
        composite(width, height)
            .save_with_format(subset.join("composite_images/a_1_1.jpg"), image::ImageFormat::Png)
            .unwrap();
        let file = GrayImage::from_fn(width, height, |x, y| Luma([((x * 5 + y * 11) % 256) as u8]));
        file.save(subset.join("masks/a_1.png")).unwrap();
        let subsets = dataset::subsets(&subset).unwrap();
        let check = |picture: &RgbImage, mask: &GrayImage| {
            for (x, y, pixel) in mask.enumerate_pixels() {
                // PIL's NEAREST takes floor((x + 0.5) * width / 256).
                let nearest = file.get_pixel((2 * x + 1) * width / 512, (2 * y + 1) * height / 512).0[0];
                assert_eq!(pixel.0[0], if nearest >= 128 { 255 } else { 0 }, "mask of {width}x{height} at {x},{y}");
            }
            for ([x, y], pil) in samples {
                let ours = picture.get_pixel(x, y).0;
                assert_eq!(ours, pil, "{width}x{height} at {x},{y}");
            }
            Ok(picture.clone())
        };
        evaluate(&subsets, Size::Square256, Background::Real, 1, check).unwrap();
    }
}

/// A subset of pictures of 40 x 20 whose foreground is the left `share` per cent: real grey 100, composite 110 on the
/// foreground and 103 beside it.
fn write_subset(folder: &Path, name: &str, pictures: &[(&str, u32)]) {
    for part in ["composite_images", "masks", "real_images"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let mut list = String::new();
    for (picture, share) in pictures {
        let inside = |x: u32| x * 100 < share * 40;
        let (id_label, _) = picture.rsplit_once('_').unwrap();
        let (id, _) = id_label.rsplit_once('_').unwrap();
        let save = |picture: RgbImage, path: &Path| picture.save_with_format(path, image::ImageFormat::Png).unwrap();
        save(
            RgbImage::from_fn(40, 20, |x, _| Rgb([if inside(x) { 110 } else { 103 }; 3])),
            &folder.join(format!("composite_images/{picture}.jpg")),
        );
        save(RgbImage::from_pixel(40, 20, Rgb([100; 3])), &folder.join(format!("real_images/{id}.jpg")));
        // 127 is still background, 128 foreground.
        GrayImage::from_fn(40, 20, |x, _| Luma([if inside(x) { 128 } else { 127 }]))
            .save(folder.join(format!("masks/{id_label}.png")))
            .unwrap();
        list += &format!("{name}/composite_images/{picture}.jpg\n");
    }
    fs::write(folder.join(format!("{name}_test.txt")), list + "\n").unwrap();
}

/// Halves the foreground's distance to grey 100.
fn halve(composite: &RgbImage, mask: &GrayImage) -> anyhow::Result<RgbImage> {
    let mut picture = composite.clone();
    for (pixel, mask) in picture.pixels_mut().zip(mask.pixels()) {
        assert!([0, 255].contains(&mask.0[0]));
        if mask.0[0] == 255 {
            pixel.0 = pixel.0.map(|v| 100 + (v - 100) / 2);
        }
    }
    Ok(picture)
}

fn two_subsets(root: &Path) -> Vec<Subset> {
    write_subset(&root.join("one"), "HOne", &[("a_b_1_1", 5), ("c_2_7", 50)]);
    write_subset(&root.join("two"), "HTwo", &[("d_1_1", 10)]);
    fs::create_dir(root.join("neither")).unwrap();
    dataset::subsets(root).unwrap()
}

#[test]
fn reads_one_subset_or_a_parent_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = two_subsets(folder.path());
    assert_eq!(
        subsets.iter().map(|s| (s.name.as_str(), s.triples.len())).collect::<Vec<_>>(),
        [("HOne", 2), ("HTwo", 1)]
    );
    let triple = &subsets[0].triples[0];
    assert!(triple.composite.ends_with("composite_images/a_b_1_1.jpg"));
    assert!(triple.mask.ends_with("masks/a_b_1.png") && triple.real.ends_with("real_images/a_b.jpg"));
    assert_eq!(dataset::subsets(&folder.path().join("two")).unwrap(), [subsets[1].clone()]);
}

#[test]
fn a_data_set_that_does_not_fit_is_refused_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |path: &Path| format!("{:#}", dataset::subsets(path).unwrap_err());
    assert!(refused(&root.join("nowhere")).contains("nowhere: no such folder"));
    assert!(refused(root).contains("composite_images"));

    two_subsets(root);
    fs::remove_file(root.join("one/masks/c_2.png")).unwrap();
    let sentence = refused(root);
    assert!(sentence.contains("HOne_test.txt") && sentence.contains("masks/c_2.png: no such file"), "{sentence}");
    fs::write(root.join("one/HOne_test.txt"), "noname.jpg\n").unwrap();
    assert!(refused(root).contains("noname.jpg: not named ID_LABEL_N.jpg"));
    fs::write(root.join("one/HOne_test.txt"), "\n").unwrap();
    assert!(refused(root).contains("the list is empty"));
    fs::remove_file(root.join("one/HOne_test.txt")).unwrap();
    assert!(refused(root).contains("NAME_test.txt"));
}

#[test]
fn backgrounds_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = two_subsets(folder.path());
    let measured = |size, background| {
        let measured = evaluate(&subsets, size, background, 2, halve).unwrap()[0][1].clone().unwrap();
        let [composite, harmonized] = figures(&measured);
        (composite, harmonized, measured.foreground)
    };
    // Half the picture is foreground, 10 off and then 5; the other half is 3 off unless the real one is pasted.
    let (composite, harmonized, foreground) = measured(Size::Native, Background::Real);
    assert_eq!((composite.mse, composite.fmse, harmonized.mse, harmonized.fmse), (50.0, 100.0, 12.5, 25.0));
    assert_eq!(foreground, 0.5);
    let (composite, harmonized, _) = measured(Size::Native, Background::Composite);
    assert_eq!((composite.mse, composite.fmse, harmonized.mse, harmonized.fmse), (54.5, 100.0, 17.0, 25.0));
    // Scaled up, the edge between the two halves is soft and the mask is not.
    let (composite, _, foreground) = measured(Size::Square256, Background::Real);
    assert!((95.0..100.0).contains(&composite.fmse) && foreground == 0.5, "{composite:?}");
}

#[test]
fn report_means_buckets_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = two_subsets(folder.path());
    let report = |jobs| {
        let measured = evaluate(&subsets, Size::Native, Background::Composite, jobs, halve).unwrap();
        let report =
            Report::new(&["compact".to_owned()], Size::Native, &[Background::Composite], &subsets, &measured).unwrap();
        serde_json::to_value(report).unwrap()
    };
    let mut json = report(1);
    // Shares 5 %, 50 % and 10 %: a share of 5 % is in the middle bucket.
    let mse = |share: f64| share * 100.0 + (1.0 - share) * 9.0;
    let close = |value: &serde_json::Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    let [composite, harmonized] = [0, 1].map(|row| json["tables"]["composite"][row].clone());
    assert_eq!((&composite["name"], &harmonized["name"]), (&"untouched".into(), &"compact".into()));
    assert!(close(&composite["subsets"]["HOne"]["mse"], (mse(0.05) + mse(0.5)) / 2.0), "{json}");
    assert!(close(&composite["all"]["mse"], (mse(0.05) + mse(0.5) + mse(0.1)) / 3.0), "{json}");
    assert!(close(&harmonized["by_foreground"]["5-15%"]["fmse"], 25.0), "{json}");
    assert!(close(&harmonized["by_foreground"]["5-15%"]["fmse_ratio"], 0.25), "{json}");
    assert_eq!(json["images"]["by_foreground"], serde_json::json!({"0-5%": 0, "5-15%": 2, "15-100%": 1}));
    assert_eq!(harmonized["by_foreground"]["0-5%"], serde_json::Value::Null);

    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "fitting images pictures published seconds_per_image size skipped tables");
    assert_eq!(keys(&json["tables"]), "composite");
    assert_eq!(
        keys(&harmonized["all"]),
        "fmse fmse_ratio fmse_ratio_interval fmse_ratio_median fpsnr fssim intervals mse psnr ssim worse"
    );
    assert_eq!(keys(&harmonized["all"]["intervals"]), "fmse mse psnr");
    assert_eq!((&json["size"], &json["fitting"]), (&"native".into(), &false.into()));
    assert!(json["seconds_per_image"]["compact"].as_f64().unwrap() > 0.0);

    // Each picture's own.
    let pictures = json["pictures"].as_array().unwrap();
    let named = |key: &str| pictures.iter().map(|picture| picture[key].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (named("subset"), named("name")),
        (vec!["HOne", "HOne", "HTwo"], vec!["a_b_1_1.jpg", "c_2_7.jpg", "d_1_1.jpg"])
    );
    assert!(close(&pictures[2]["foreground"], 0.1), "{json}");
    let metrics = &pictures[1]["metrics"]["composite"];
    assert_eq!(keys(metrics), "compact untouched");
    assert!(close(&metrics["untouched"]["mse"], mse(0.5)) && close(&metrics["compact"]["fmse"], 25.0), "{json}");

    let mut other = report(3);
    for json in [&mut json, &mut other] {
        json["seconds_per_image"] = 0.into();
    }
    assert_eq!(json, other, "the number of jobs changes the figures");
}

#[test]
fn a_failure_names_its_picture() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = two_subsets(folder.path());
    let run = |size, harmonize: fn(&RgbImage, &GrayImage) -> anyhow::Result<RgbImage>| {
        format!("{:#}", evaluate(&subsets, size, Background::Real, 2, harmonize).unwrap_err())
    };
    let sentence = run(Size::Native, |_, _| anyhow::bail!("no model"));
    assert!(sentence.contains(".jpg: some: no model"), "{sentence}");
    let sentence = run(Size::Native, |_, _| Ok(RgbImage::new(1, 1)));
    assert!(sentence.contains("another size"), "{sentence}");

    GrayImage::from_pixel(20, 10, Luma([255])).save(&subsets[0].triples[1].mask).unwrap();
    assert!(run(Size::Native, halve).contains("differ in size"));
}

#[test]
fn a_mask_without_foreground_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let subsets = two_subsets(folder.path());
    let report = |size| {
        let measured = evaluate(&subsets, size, Background::Real, 2, halve).unwrap();
        Report::new(&["compact".to_owned()], size, &[Background::Real], &subsets, &measured)
    };
    // Scaling 640 to 256 by nearest neighbour takes every second or third column, the first not among them.
    let triple = &subsets[0].triples[1];
    let wide = |inside: u8| GrayImage::from_fn(640, 320, |x, _| Luma([if x == 0 { inside } else { 0 }]));
    wide(255).save(&triple.mask).unwrap();
    for path in [&triple.composite, &triple.real] {
        RgbImage::from_pixel(640, 320, Rgb([105; 3])).save_with_format(path, image::ImageFormat::Png).unwrap();
    }
    let native = report(Size::Native).unwrap();
    assert_eq!((native.tables.images.all, native.tables.skipped.len()), (3, 0));
    assert!(!native.to_string().contains("not measured"), "{native}");
    let small = report(Size::Square256).unwrap();
    assert_eq!((small.tables.images.all, small.tables.images.subsets["HOne"]), (2, 1));
    assert_eq!(small.tables.skipped, [triple.composite.display().to_string()]);
    // The one picture left in the subset is 10 off and then 5.
    let [before, after] = [0, 1].map(|row| small.tables.rows["real"][row].groups.subsets["HOne"].unwrap().mean);
    assert!(before.fmse > 3.0 * after.fmse, "{before:?} {after:?}");
    let text = small.to_string();
    assert!(text.contains("foreground at this size: 1\n") && text.contains("c_2_7.jpg"), "{text}");

    for triple in subsets.iter().flat_map(|subset| &subset.triples) {
        GrayImage::new(40, 20).save(&triple.mask).unwrap();
    }
    assert!(report(Size::Square256).unwrap_err().to_string().contains("nothing to measure"));
}

#[test]
fn reads_diffharmony_s_own_list() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let subsets = two_subsets(root);
    // It counts although the subsets have lists of their own, or none.
    fs::remove_file(root.join("two/HTwo_test.txt")).unwrap();
    let list = |lines: &str| fs::write(root.join("test.jsonl"), lines).unwrap();
    list(
        r#"{"file_name": "two/composite_images/d_1_1.jpg", "text": ""}
        {"file_name": "one/composite_images/c_2_7.jpg", "text": ""}

"#,
    );
    let listed = dataset::subsets(root).unwrap();
    let names: Vec<&str> = listed.iter().map(|subset| subset.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(listed[0].triples, [subsets[0].triples[1].clone()]);
    assert_eq!(listed[1].triples, subsets[1].triples);

    let refused = || format!("{:#}", dataset::subsets(root).unwrap_err());
    list("{\"file_name\": \"two/composite_images/d_1_1.jpg\"}\nd_1_1.jpg\n");
    assert!(refused().contains("test.jsonl line 2"), "{}", refused());
    list(r#"{"file_name": "two/masks/d_1.png"}"#);
    assert!(
        refused().contains("test.jsonl line 1: two/masks/d_1.png is not named SUBSET/composite_images"),
        "{}",
        refused()
    );
    list(r#"{"file_name": "two/composite_images/d_1_9.jpg"}"#);
    assert!(refused().contains("d_1_9.jpg: no such file"), "{}", refused());
    list("\n");
    assert!(refused().contains("test.jsonl: the list is empty"), "{}", refused());
}

/// Four subsets, each with lists for training beside the one for testing, and lists of all beside the folders.
#[test]
fn reads_iharmony4_as_it_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut lists = String::new();
    for (name, id, side) in [
        ("HAdobe5k", "a0001", 3000),
        ("HCOCO", "c100220", 640),
        ("HFlickr", "f800", 1024),
        ("Hday2night", "d1000", 512),
    ] {
        let subset = root.join(name);
        write_subset(&subset, name, &[(&format!("{id}_117600_1"), 50)]);
        let (width, height) = (side, side * 2 / 3);
        let inside = |x: u32| x < width / 2;
        let save = |picture: RgbImage, path: &str| {
            picture.save_with_format(subset.join(path), image::ImageFormat::Jpeg).unwrap();
        };
        let grey = |x: u32| Rgb([if inside(x) { 110 } else { 100 }; 3]);
        save(RgbImage::from_fn(width, height, |x, _| grey(x)), &format!("composite_images/{id}_117600_1.jpg"));
        save(RgbImage::from_pixel(width, height, Rgb([100; 3])), &format!("real_images/{id}.jpg"));
        // HAdobe5k's masks are RGB.
        let mask = GrayImage::from_fn(width, height, |x, _| Luma([if inside(x) { 255 } else { 0 }]));
        let mask = image::DynamicImage::from(mask);
        let mask = if name == "HAdobe5k" { mask.into_rgb8().into() } else { mask };
        mask.save(subset.join(format!("masks/{id}_117600.png"))).unwrap();
        fs::write(subset.join(format!("{name}_train.txt")), "b1_1_1.jpg\n").unwrap();
        lists += &format!("{name}/composite_images/{id}_117600_1.jpg\n");
    }
    fs::write(root.join("IHD_test.txt"), lists).unwrap();
    fs::write(root.join("IHD_train.txt"), "HCOCO/composite_images/c1_1_1.jpg\n").unwrap();

    let subsets = dataset::subsets(root).unwrap();
    let names: Vec<&str> = subsets.iter().map(|subset| subset.name.as_str()).collect();
    assert_eq!(names, ["HAdobe5k", "HCOCO", "HFlickr", "Hday2night"]);
    for size in [Size::Square256, Size::Native] {
        for measured in evaluate(&subsets, size, Background::Real, 2, halve).unwrap() {
            let measured = measured[0].as_ref().unwrap();
            let ([composite, harmonized], foreground) = (figures(measured), measured.foreground);
            assert!((foreground - 0.5).abs() < 1e-3, "{foreground}");
            assert!((composite.fmse - 100.0).abs() < 2.0 && (harmonized.fmse - 25.0).abs() < 1.0, "{composite:?}");
        }
    }
}

#[test]
fn untouched_composites_of_the_validation_sets() {
    let Some(root) = shared::folder("data/val") else { return };
    let subsets = dataset::subsets(&root).unwrap();
    // PIL's decoder and scaling; decoders differ by a code value here and there.
    let pil = [
        ("HPeople", 50, [264.3498, 1144.6603, 25.7869, 19.3957, 0.9581, 0.8344]),
        ("HVal", 100, [177.3399, 1291.0044, 29.2797, 18.4926, 0.9732, 0.8127]),
    ];
    let measured = eval::evaluate(&subsets, &[], Size::Square256, &[Background::Real], 2, || {}).unwrap();
    for ((subset, measured), (name, images, figures)) in subsets.iter().zip(measured).zip(pil) {
        assert_eq!((subset.name.as_str(), measured.len()), (name, images));
        let mean =
            Metrics::mean(measured.iter().flatten().map(|m| m.rows[0][0]).collect::<Vec<_>>().into_iter()).unwrap();
        assert_close(mean, figures, [0.5, 2.0, 0.01, 0.01, 5e-4, 5e-4]);
    }
}
