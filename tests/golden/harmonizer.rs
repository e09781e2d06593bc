//! DiffHarmony as a harmonizer: what a stream's proxies become, by folders in each layout, with the reference's tiny weights.

use crate::process;
use crate::shared;
use gstharmonize::diffusion::{Noise, Scheduler};
use gstharmonize::engine::{Engine, Parameters, Request};
use gstharmonize::frame::{Mask, Proxy, Region};
use gstharmonize::harmonizers::{self, Harmonizer, ModelSpec, Precision, Run, Sampling};
use gstharmonize::pictures;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

fn golden() -> Option<PathBuf> {
    tch::set_num_threads(1);
    shared::folder("golden/diffharmony-tiny")
}

fn load(folder: &Path, precision: Precision) -> Arc<dyn Harmonizer> {
    harmonizers::load(folder.to_str().unwrap(), Device::Cpu, precision, &|| false).unwrap()
}

fn error(folder: &Path) -> String {
    match harmonizers::load(folder.to_str().unwrap(), Device::Cpu, Precision::F32, &|| false) {
        Ok(_) => panic!("loaded"),
        Err(error) => format!("{error:#}"),
    }
}

/// A folder with links to those of `parts` (name in it, source) and the text `config` as its config.json, if any.
fn folder(parts: &[(&str, PathBuf)], config: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in parts {
        symlink(source, folder.path().join(name)).unwrap();
    }
    if let Some(config) = config {
        fs::write(folder.path().join("config.json"), config).unwrap();
    }
    folder
}

/// A smooth composite and a mask with a soft edge, B x 3 x h x w and B x 1 x h x w.
fn scene(b: i64, h: i64, w: i64) -> (Tensor, Tensor) {
    let axis = |n: i64, shape: [i64; 4]| Tensor::linspace(0.0, 1.0, n, (Kind::Float, Device::Cpu)).view(shape);
    let (y, x) = (axis(h, [1, 1, h, 1]), axis(w, [1, 1, 1, w]));
    let channels = [&y * 0.5 + &x * 0.3, &x * 0.8 + &y * 0.1, (&x - &y).abs() * 0.6 + 0.2];
    let composite = Tensor::cat(&channels.map(|c| c.expand([1, 1, h, w], false)), 1).repeat([b, 1, 1, 1]);
    let distance = ((&x - 0.5).square() + (&y - 0.5).square()).sqrt();
    let mask: Tensor = ((distance * -1.0 + 0.35) * 10.0).clamp(0.0, 1.0);
    (composite, mask.expand([b, 1, h, w], false).contiguous())
}

fn harmonize(model: &dyn Harmonizer, scene: &(Tensor, Tensor), seed: u64, scheduler: Option<Scheduler>) -> Tensor {
    let _guard = tch::no_grad_guard();
    let noise = Noise::fixed(seed);
    model.harmonize(&scene.0, &scene.1, &Run::new(&noise, Sampling { scheduler, steps: 3 })).unwrap()
}

fn change(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn any_size_comes_back_in_its_size_with_the_background_untouched() {
    let Some(golden) = golden() else { return };
    let model = load(&golden, Precision::F32);
    for (h, w) in [(64, 128), (72, 128), (37, 101), (1, 5)] {
        let (composite, mask) = scene(1, h, w);
        let mask = if h == 1 { mask.ones_like() } else { mask };
        let out = harmonize(&*model, &(composite.shallow_clone(), mask.shallow_clone()), 1, None);
        assert_eq!(out.size(), composite.size());
        let outside = (&out - &composite) * mask.eq(0.0);
        assert_eq!(outside.abs().max().double_value(&[]), 0.0, "{h} x {w}");
        assert!(change(&out, &composite) > 0.01, "{h} x {w}: nothing was harmonized");
        assert!(out.min().double_value(&[]) >= 0.0 && out.max().double_value(&[]) <= 1.0);
    }
}

#[test]
fn noise_alone_is_random_and_a_batch_is_its_members() {
    let Some(golden) = golden() else { return };
    let model = load(&golden, Precision::F32);
    let one = scene(1, 64, 96);
    for method in Scheduler::ALL {
        let first = harmonize(&*model, &one, 7, Some(method));
        assert_eq!(first, harmonize(&*model, &one, 7, Some(method)), "{method}");
        assert!(change(&first, &harmonize(&*model, &one, 8, Some(method))) > 1e-3, "{method}");
    }
    let two = harmonize(&*model, &scene(2, 64, 96), 7, None);
    let first = harmonize(&*model, &one, 7, None);
    for i in 0..2 {
        assert!(change(&two.narrow(0, i, 1), &first) < 1e-5);
    }
}

#[test]
fn ddim_is_the_folder_s_own_sampler_and_every_other_differs() {
    let Some(golden) = golden() else { return };
    let model = load(&golden, Precision::F32);
    let scene = scene(1, 64, 96);
    let own = harmonize(&*model, &scene, 1, None);
    for method in Scheduler::ALL {
        let other = change(&own, &harmonize(&*model, &scene, 1, Some(method)));
        assert_eq!(other == 0.0, method == Scheduler::Ddim, "{method} differs by {other}");
    }
    let euler = folder(&parts(&golden, &["base"]), Some(r#"{"class": "diffharmony", "sampler": "euler"}"#));
    let plain = folder(&parts(&golden, &["base"]), None);
    let by = |folder: &tempfile::TempDir, method| harmonize(&*load(folder.path(), Precision::F32), &scene, 1, method);
    assert_eq!(by(&euler, None), by(&plain, Some(Scheduler::Euler)));
}

fn parts(golden: &Path, names: &[&'static str]) -> Vec<(&'static str, PathBuf)> {
    names.iter().map(|name| (*name, golden.join(name))).collect()
}

#[test]
fn the_harmony_vae_decodes_where_there_is_one_and_the_refinement_refines_where_there_is_none() {
    let Some(golden) = golden() else { return };
    let scene = scene(1, 64, 96);
    let by = |names: &[&'static str], config| {
        let folder = folder(&parts(&golden, names), config);
        harmonize(&*load(folder.path(), Precision::F32), &scene, 1, None)
    };
    let all = by(&["base", "refinement", "condition_vae"], None);
    assert_eq!(all, by(&["base", "condition_vae"], None));
    let plain = by(&["base"], None);
    let refined = by(&["base", "refinement"], None);
    assert!(change(&all, &plain) > 1e-3 && change(&refined, &plain) > 1e-3);
    let vae = Some(r#"{"class": "diffharmony", "decoder": "vae"}"#);
    assert_eq!(refined, by(&["base", "refinement", "condition_vae"], vae));
}

#[test]
fn a_plain_diffusers_folder_is_the_same_model() {
    let Some(golden) = golden() else { return };
    let base = golden.join("base");
    let plain = folder(&parts(&base, &["unet", "vae", "scheduler", "text_encoder"]), None);
    let released = folder(&parts(&golden, &["base"]), None);
    let scene = scene(1, 64, 64);
    let [a, b] = [&plain, &released].map(|f| harmonize(&*load(f.path(), Precision::F32), &scene, 1, None));
    assert_eq!(a, b);
}

/// Pipelines that were saved again with Euler's scheduler know neither key, and DDIM would clip latents to -1..1 without.
#[test]
fn a_scheduler_that_says_nothing_of_clipping_clips_no_latents() {
    let Some(golden) = golden() else { return };
    let base = golden.join("base");
    let silent = folder(&parts(&base, &["unet", "vae", "text_encoder"]), None);
    let config = fs::read_to_string(base.join("scheduler/scheduler_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let keys = config.as_object_mut().unwrap();
    assert!(keys.remove("clip_sample").is_some() && keys.remove("set_alpha_to_one").is_some());
    fs::create_dir(silent.path().join("scheduler")).unwrap();
    fs::write(silent.path().join("scheduler/scheduler_config.json"), config.to_string()).unwrap();
    let scene = scene(1, 64, 64);
    let by = |folder: &Path| harmonize(&*load(folder, Precision::F32), &scene, 1, None);
    assert_eq!(by(silent.path()), by(folder(&parts(&golden, &["base"]), None).path()));
}

#[test]
fn a_translucent_foreground_is_one_still() {
    let Some(golden) = golden() else { return };
    let model = load(&golden, Precision::F32);
    let (composite, mask) = scene(1, 64, 96);
    let full = harmonize(&*model, &(composite.shallow_clone(), mask.shallow_clone()), 1, None);
    let faint = harmonize(&*model, &(composite.shallow_clone(), &mask * 0.25), 1, None);
    assert!(change(&faint, &(&composite + (full - &composite) * 0.25)) < 1e-6);
}

#[test]
fn a_load_that_is_given_up_ends() {
    let Some(golden) = golden() else { return };
    let asked = std::cell::Cell::new(0);
    let after_one = || asked.replace(asked.get() + 1) == 1;
    let given_up = harmonizers::load(golden.to_str().unwrap(), Device::Cpu, Precision::F32, &after_one);
    assert!(format!("{:#}", given_up.err().unwrap()).contains("given up"));
    assert_eq!(asked.get(), 2, "the first network was loaded, and no other");
}

#[test]
fn taesd_decodes_what_the_autoencoder_encoded() {
    let (Some(golden), Some(taesd)) = (golden(), shared::folder("golden/taesd-tiny")) else { return };
    let mut all = parts(&golden, &["base"]);
    all.push(("taesd", taesd));
    let scene = scene(1, 64, 96);
    let by = |config| harmonize(&*load(folder(&all, config).path(), Precision::F32), &scene, 1, None);
    let fast = by(Some(r#"{"class": "diffharmony", "decoder": "taesd"}"#));
    assert!(change(&fast, &by(None)) > 1e-3);
    let missing = folder(&all[..1], Some(r#"{"class": "diffharmony", "decoder": "taesd"}"#));
    assert!(error(missing.path()).contains("decoder taesd"), "{}", error(missing.path()));
}

/// The golden folder's base with every weight in `kind`.
fn base_in(kind: Kind, golden: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let base = golden.join("base");
    for (part, file) in [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ] {
        let folder = copy.path().join(part);
        fs::create_dir(&folder).unwrap();
        symlink(base.join(part).join("config.json"), folder.join("config.json")).unwrap();
        let tensors = Tensor::read_safetensors(base.join(part).join(file)).unwrap();
        let tensors: Vec<_> = tensors.into_iter().map(|(name, t)| (name, t.to_kind(kind))).collect();
        Tensor::write_safetensors(&tensors, folder.join(file)).unwrap();
    }
    symlink(base.join("scheduler"), copy.path().join("scheduler")).unwrap();
    copy
}

#[test]
fn weights_of_every_kind_compute_in_every_precision() {
    let Some(golden) = golden() else { return };
    let scene = scene(1, 64, 96);
    let exact = harmonize(&*load(folder(&parts(&golden, &["base"]), None).path(), Precision::F32), &scene, 1, None);
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
        let copy = base_in(kind, &golden);
        for precision in [Precision::F32, Precision::Bf16, Precision::Auto] {
            let found = harmonize(&*load(copy.path(), precision), &scene, 1, None);
            assert_eq!(found.kind(), Kind::Float);
            let mean = (&found - &exact).abs().mean(Kind::Float).double_value(&[]);
            assert!(mean < 0.02, "{kind:?} in {precision}: off by {mean} on average");
        }
    }
    let refused = harmonizers::load(golden.to_str().unwrap(), Device::Cpu, Precision::F16, &|| false).err().unwrap();
    assert!(format!("{refused:#}").contains("f16"), "{refused:#}");
}

#[test]
fn workers_share_one_model_and_agree() {
    let Some(golden) = golden() else { return };
    let spec = ModelSpec { model: golden.to_str().unwrap().into(), device: "cpu".into(), precision: Precision::F32 };
    let run = |workers| {
        let engine = Engine::load(&spec, workers, &|| false).unwrap();
        let frame = |level: usize| {
            let ramp = |i: usize| 0.1 * level as f32 + 0.5 * (i % 96) as f32 / 96.0;
            let rgb = (0..3 * 96 * 54).map(ramp).collect();
            Proxy { width: 96, height: 54, region: None, rgb, mask: vec![1.0; 96 * 54] }
        };
        let request = Request { sampling: Sampling { scheduler: None, steps: 2 }, seed: 3, ..Default::default() };
        let pending: Vec<_> = (0..4).map(|level| engine.submit(frame(level), request)).collect();
        pending.iter().map(|pending| pending.wait().unwrap().unwrap()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2));
    assert!(one[0] != one[1]);
}

fn engine(model: &Path) -> Engine {
    let model = model.to_str().unwrap().into();
    Engine::load(&ModelSpec { model, device: "cpu".into(), precision: Precision::F32 }, 1, &|| false).unwrap()
}

/// A photograph of 640 x 360 whose foreground is 40 x 20 of its pixels.
#[test]
fn a_small_foreground_is_worked_on_in_a_crop() {
    let Some(golden) = golden() else { return };
    let parts = parts(&golden, &["base", "condition_vae"]);
    let [cropping, whole] = ["{}", r#"{"crop": false}"#].map(|config| engine(folder(&parts, Some(config)).path()));
    let inside = |x: u32, y: u32| (500..540).contains(&x) && (100..120).contains(&y);
    let (width, height) = (640, 360);
    let mask = image::GrayImage::from_fn(width, height, |x, y| image::Luma([if inside(x, y) { 255 } else { 0 }]));
    let samples = Mask { width: 640, height: 360, data: mask.to_vec() };
    assert_eq!(cropping.view(&samples, 64).region, Some(Region { x: 480, y: 90, width: 80, height: 45 }));
    assert_eq!(whole.view(&samples, 64).region, None);

    let composite = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 % 200) as u8, (y * 5 % 180) as u8, ((x + y) * 3 % 220) as u8])
    });
    let sampling = Sampling { scheduler: None, steps: 2 };
    let settings = Parameters {
        request: Request { sampling, seed: 3, ..Default::default() },
        proxy_size: 64,
        strength: 1.0,
        ..Default::default()
    };
    let harmonized = pictures::harmonize(&cropping, &composite, &mask, settings).unwrap().picture;
    let changed = |x: u32, y: u32| harmonized.get_pixel(x, y) != composite.get_pixel(x, y);
    assert!(composite.enumerate_pixels().all(|(x, y, _)| inside(x, y) || !changed(x, y)));
    assert!(composite.enumerate_pixels().filter(|(x, y, _)| changed(*x, *y)).count() > 40 * 20 / 2);
    assert!(pictures::harmonize(&whole, &composite, &mask, settings).unwrap().picture != harmonized);
}

#[test]
fn a_folder_may_choose_any_sampler_for_its_own() {
    let Some(golden) = golden() else { return };
    for method in Scheduler::ALL {
        engine(folder(&parts(&golden, &["base"]), Some(&format!(r#"{{"sampler": "{method}"}}"#))).path());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let Some(golden) = golden() else { return };
    let base = golden.join("base");
    let configured = |config: &str| error(folder(&parts(&golden, &["base"]), Some(config)).path());
    assert!(configured(r#"{"class": "compact"}"#).contains("class is \"compact\""));
    assert!(configured(r#"{"size": 1}"#).contains("size 1 is not within"));
    assert!(configured(r#"{"sampler": "heun"}"#).contains("heun"));
    assert!(configured(r#"{"decoder": "condition_vae"}"#).contains("decoder condition_vae"));
    assert!(configured(r#"{"tempo": 3}"#).contains("tempo"));

    let without_scheduler = folder(&parts(&base, &["unet", "vae", "text_encoder"]), None);
    assert!(error(without_scheduler.path()).contains("scheduler_config.json"));
    let without_text = folder(&parts(&base, &["unet", "vae", "scheduler"]), None);
    assert!(error(without_text.path()).contains("text_encoder"));
    let mut swapped = parts(&base, &["unet", "scheduler", "text_encoder"]);
    swapped.push(("vae", golden.join("condition_vae")));
    assert!(error(folder(&swapped, None).path()).contains("vae/config.json has 1 channels for the mask"));
}

#[test]
fn the_tensor_that_is_missing_is_named_with_its_file() {
    let Some(golden) = golden() else { return };
    let copy = base_in(Kind::Float, &golden);
    let file = copy.path().join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&file).unwrap();
    tensors.retain(|(name, _)| name != "mid_block.resnets.0.conv1.weight");
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let message = error(copy.path());
    assert!(message.contains("tensor mid_block.resnets.0.conv1.weight is missing"), "{message}");
    assert!(message.contains("unet/diffusion_pytorch_model.safetensors"), "{message}");

    fs::rename(&file, file.with_extension("bin")).unwrap();
    let message = error(copy.path());
    let command = format!("`harmonize model convert {}`", copy.path().display());
    assert!(message.contains("is a pickle") && message.contains(&command), "{message}");
}

/// The process that a test starts of itself, to end in the middle of an inference.
const ENDING: &str = "HARMONIZE_TEST_ENDING";

#[test]
fn a_process_may_end_during_an_inference() {
    let Some(golden) = golden() else { return };
    if std::env::var_os(ENDING).is_some() {
        let spec =
            ModelSpec { model: golden.to_str().unwrap().into(), device: "cpu".into(), precision: Precision::F32 };
        let engine = Engine::load(&spec, 2, &|| false).unwrap();
        let proxy =
            Proxy { width: 512, height: 288, region: None, rgb: vec![0.5; 3 * 512 * 288], mask: vec![1.0; 512 * 288] };
        let request = Request { sampling: Sampling { scheduler: None, steps: 1000 }, seed: 3, ..Default::default() };
        let _pending = [engine.submit(proxy.clone(), request), engine.submit(proxy, request)];
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::process::exit(0);
    }
    for _ in 0..5 {
        let mut test = process::of_its_own(module_path!(), "a_process_may_end_during_an_inference");
        let output = test.env(ENDING, "1").output().unwrap();
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("running 1 test") && !said.contains("test result"), "it has not ended there: {said}");
    }
}
