//! `harmonize model`: from what a user downloads to a folder that plays, and what is said about one that doesn't.

use crate::shared;
use crate::torch_file;
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tch::{Kind, Tensor};

const DIFFUSERS: &str = "diffusion_pytorch_model.safetensors";

fn harmonize(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harmonize")).args(args).current_dir(folder).output().unwrap()
}

fn stdout(folder: &Path, args: &[&str]) -> String {
    let output = harmonize(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that has to fail prints, and its one line on stderr.
fn refused(folder: &Path, args: &[&str]) -> (String, String) {
    let output = harmonize(folder, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => assert!(fs::copy(entry.path(), to).is_ok()),
        }
    }
}

/// A folder that holds the reference's tiny checkpoint as `model`.
fn tiny() -> Option<tempfile::TempDir> {
    let golden = shared::folder("golden/diffharmony-tiny")?;
    let folder = tempfile::tempdir().unwrap();
    copy(&golden, &folder.path().join("model"));
    Some(folder)
}

fn tensors(file: &Path) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(file).unwrap().into_iter().collect()
}

/// Changes a file of weights.
fn edit(file: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let mut tensors = tensors(file);
    change(&mut tensors);
    Tensor::write_safetensors(&tensors.into_iter().collect::<Vec<_>>(), file).unwrap();
}

fn configure(file: &Path, key: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    config[key] = value;
    fs::write(file, config.to_string()).unwrap();
}

/// Decoded by Stable Diffusion's own autoencoder, and refined.
fn decode_by_vae(model: &Path) {
    fs::write(model.join("config.json"), r#"{"decoder": "vae"}"#).unwrap();
}

/// As the released archive has them: what comes from Stable Diffusion is pickled, the authors' own parts are not.
fn pickle(model: &Path) {
    for (file, name) in [
        ("base/unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("base/vae/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("base/text_encoder/model.safetensors", "pytorch_model.bin"),
    ] {
        let file = model.join(file);
        let tensors: Vec<_> = tensors(&file).into_iter().collect();
        fs::write(file.with_file_name(name), torch_file::save(&tensors)).unwrap();
        fs::remove_file(file).unwrap();
    }
    for (file, text) in [
        ("base/safety_checker/config.json", "{}"),
        ("base/safety_checker/pytorch_model.bin", "never read"),
        ("base/tokenizer/special_tokens_map.json", r#"{"pad_token": "<|endoftext|>"}"#),
        ("base/v1-5.ckpt", "never read"),
        ("harmony_classifier/model.pth", "never read"),
        ("refinement/optimizer.bin", "never read"),
    ] {
        let file = model.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

#[test]
fn a_downloaded_folder_is_converted_and_plays() {
    let Some(folder) = tiny() else { return };
    let golden = shared::folder("golden/diffharmony-tiny").unwrap();
    let (folder, model) = (folder.path(), folder.path().join("model"));
    pickle(&model);
    let (table, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(table.contains("unet/diffusion_pytorch_model.bin is a pickle"), "{table}");
    assert!(sentence.contains("won't play: unet: ") && sentence.contains("harmonize model convert"), "{sentence}");

    let lines = stdout(folder, &["model", "convert", "model"]);
    let expected = [
        "base/safety_checker/pytorch_model.bin: skipped, the plugin loads nothing from there",
        "base/text_encoder/pytorch_model.bin: now model.safetensors, 36 tensors, 6.4 MB",
        "base/unet/diffusion_pytorch_model.bin: now diffusion_pytorch_model.safetensors, 684 tensors, 3.4 MB",
        "base/v1-5.ckpt: skipped, the plugin loads nothing from there",
        "base/vae/diffusion_pytorch_model.bin: now diffusion_pytorch_model.safetensors, 244 tensors, 1.8 MB",
        "harmony_classifier/model.pth: skipped, the plugin loads nothing from there",
        "refinement/optimizer.bin: skipped, it belongs to training",
        "base/null_text.safetensors: the empty prompt's encoding, [1, 77, 32]",
    ];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    for file in ["base/unet/diffusion_pytorch_model", "base/vae/diffusion_pytorch_model", "base/text_encoder/model"] {
        let file = format!("{file}.safetensors");
        let (found, expected) = (tensors(&model.join(&file)), tensors(&golden.join(&file)));
        assert!(found.keys().eq(expected.keys()), "{file}");
        for (name, tensor) in &found {
            assert_eq!(torch_file::bytes(tensor), torch_file::bytes(&expected[name]), "{file}: {name}");
        }
    }
    let text = &tensors(&model.join("base/null_text.safetensors"))["null_text"];
    let expected = &tensors(&golden.join("golden.safetensors"))["null_text"];
    assert_eq!((text.kind(), text.size()), (Kind::Float, expected.size()));
    assert!(((text - expected).norm() / expected.norm()).double_value(&[]) < 1e-5);

    // The text encoder has given its answer.
    fs::remove_dir_all(model.join("base/text_encoder")).unwrap();
    let table = stdout(folder, &["model", "info", "model"]);
    for (row, verdict) in [
        ("unet ", "  ok"),
        ("vae ", "  not used"),
        ("condition_vae ", "  ok"),
        ("refinement ", "  not used"),
        ("null text ", "  ok"),
        ("scheduler ", "  ok"),
    ] {
        assert!(table.lines().any(|line| line.starts_with(row) && line.ends_with(verdict)), "{row}: {table}");
    }
    assert!(table.contains("828,196      684  F32         3.4  ok"), "{table}");
    assert!(table.ends_with("decoder condition_vae, sampler ddim, 5 steps, 512 px\n"), "{table}");
    RgbImage::from_fn(64, 48, |x, y| Rgb([4 * x as u8, 5 * y as u8, 90])).save(folder.join("composite.png")).unwrap();
    let inside = |x: u32, y: u32| (16..48).contains(&x) && (12..36).contains(&y);
    let mask = GrayImage::from_fn(64, 48, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
    mask.save(folder.join("mask.png")).unwrap();
    let options = ["--model=model", "--device=cpu", "--precision=f32", "--steps=1", "--proxy-size=64"];
    stdout(folder, &[&["image", "composite.png", "mask.png", "-o", "out.png"][..], &options].concat());
    assert_ne!(fs::read(folder.join("out.png")).unwrap(), fs::read(folder.join("composite.png")).unwrap());
}

#[test]
fn converting_again_changes_nothing_and_remove_takes_the_pickles_away() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    pickle(&model);
    stdout(folder, &["model", "convert", "model"]);
    let lines = stdout(folder, &["model", "convert", "model", "--remove"]);
    assert!(lines.contains("base/unet/diffusion_pytorch_model.bin: skipped, its safetensors file is there"), "{lines}");
    assert!(lines.contains("base/null_text.safetensors: it is there"), "{lines}");
    assert!(model.join("base/unet/diffusion_pytorch_model.bin").exists());
    fs::remove_file(model.join("base/unet").join(DIFFUSERS)).unwrap();
    stdout(folder, &["model", "convert", "model", "--remove"]);
    assert!(model.join("base/unet").join(DIFFUSERS).exists());
    assert!(!model.join("base/unet/diffusion_pytorch_model.bin").exists());
    assert!(model.join("base/safety_checker/pytorch_model.bin").exists());

    // One part alone, by the command that loading it names; Stable Diffusion 2 pads its prompts with another token.
    fs::write(model.join("base/tokenizer/special_tokens_map.json"), r#"{"pad_token": "!"}"#).unwrap();
    let stored = fs::read(model.join("base/null_text.safetensors")).unwrap();
    fs::remove_file(model.join("base/null_text.safetensors")).unwrap();
    fs::remove_file(model.join("base/text_encoder/model.safetensors")).unwrap();
    let lines = stdout(folder, &["model", "convert", "model/base/text_encoder"]);
    assert!(lines.starts_with("pytorch_model.bin: now model.safetensors"), "{lines}");
    let lines = stdout(folder, &["model", "convert", "model/base"]);
    assert!(lines.ends_with("null_text.safetensors: the empty prompt's encoding, [1, 77, 32]\n"), "{lines}");
    assert_ne!(fs::read(model.join("base/null_text.safetensors")).unwrap(), stored);
}

#[test]
fn a_pickle_that_asks_for_code_stops_the_conversion() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    pickle(&model);
    let file = torch_file::file(b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch owned\x85R.", &[]);
    fs::write(model.join("base/unet/diffusion_pytorch_model.bin"), file).unwrap();
    let (_, sentence) = refused(folder, &["model", "convert", "model"]);
    let expected = "diffusion_pytorch_model.bin: it asks to run \"os.system\", which a weights file has no need to";
    assert!(sentence.contains(expected), "{sentence}");
    assert!(!folder.join("owned").exists() && !model.join("base/unet").join(DIFFUSERS).exists());
    let (_, sentence) = refused(folder, &["model", "convert", "nothing"]);
    assert!(sentence.contains("nothing is not a folder"), "{sentence}");
}

#[test]
fn info_knows_the_built_in_model_and_names_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let table = stdout(folder.path(), &["model", "info", "compact"]);
    let row = "compact        compact                    3,545,593       92  F16         7.1  ok";
    assert_eq!(table.lines().nth(1), Some(row), "{table}");
    let (_, sentence) = refused(folder.path(), &["model", "info", "neither"]);
    assert!(sentence.contains("there is no model neither"), "{sentence}");
    fs::create_dir(folder.path().join("own")).unwrap();
    fs::write(folder.path().join("own/config.json"), r#"{"class": "huge"}"#).unwrap();
    fs::write(folder.path().join("own/model.bin"), "").unwrap();
    let (table, sentence) = refused(folder.path(), &["model", "info", "own"]);
    assert!(table.contains("own/model.bin is a pickle"), "{table}");
    assert!(sentence.contains("own won't play"), "{sentence}");
    fs::remove_file(folder.path().join("own/model.bin")).unwrap();
    Tensor::write_safetensors(
        &[("a", Tensor::zeros([1], tch::kind::FLOAT_CPU))],
        folder.path().join("own/model.safetensors"),
    )
    .unwrap();
    let (_, sentence) = refused(folder.path(), &["model", "info", "own"]);
    assert!(sentence.contains("config.json: it asks for class \"huge\""), "{sentence}");
}

#[test]
fn info_names_every_tensor_that_does_not_fit() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    decode_by_vae(&model);
    let file = model.join("refinement").join(DIFFUSERS);
    edit(&file, |tensors| {
        let bias = tensors.remove("conv_in.bias").unwrap();
        tensors.insert("conv_of_mine.bias".into(), bias);
        let weight = tensors.remove("conv_out.weight").unwrap();
        tensors.insert("conv_out.weight".into(), weight.narrow(0, 0, 2).contiguous());
    });
    let (table, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(sentence.contains("model won't play: refinement: tensor conv_in.bias is missing"), "{sentence}");
    for line in [
        "  tensor conv_in.bias is missing",
        "  the configuration has no place for tensor conv_of_mine.bias",
        "  tensor conv_out.weight has shape [2, ",
    ] {
        assert!(table.lines().any(|row| row.starts_with(line)), "{line}: {table}");
    }
    assert!(table.contains("  3 problems\n") && table.matches("  ok\n").count() == 4, "{table}");

    edit(&file, |tensors| tensors.clear());
    let (table, _) = refused(folder, &["model", "info", "model"]);
    assert!(table.contains("  230 problems\n") && table.contains("  and 222 more\n"), "{table}");
    fs::write(&file, "short").unwrap();
    let (table, _) = refused(folder, &["model", "info", "model"]);
    assert!(table.contains("not a whole safetensors file"), "{table}");
    fs::remove_dir_all(model.join("refinement")).unwrap();
    stdout(folder, &["model", "info", "model"]);
}

#[test]
fn info_names_configurations_that_do_not_fit() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    let sentence = |file: &str, key: &str, value: Value| {
        let file = model.join(file);
        let before = fs::read(&file).unwrap();
        configure(&file, key, value);
        let (_, sentence) = refused(folder, &["model", "info", "model"]);
        fs::write(file, before).unwrap();
        sentence
    };
    let error = sentence("base/unet/config.json", "of_the_future", 1.into());
    assert!(error.contains("unet: config.json: UNet2DConditionModel has no hyper-parameter of_the_future"), "{error}");
    let error = sentence("base/scheduler/scheduler_config.json", "_class_name", "HeunDiscreteScheduler".into());
    assert!(error.contains("scheduler: ") && error.contains("HeunDiscreteScheduler"), "{error}");
    let error = sentence("base/text_encoder/config.json", "hidden_size", 64.into());
    assert!(error.contains("text_encoder: ") && error.contains("hidden_size is 64"), "{error}");
    // A network for something else, whole in itself.
    let error = {
        configure(&model.join("base/unet/config.json"), "in_channels", 4.into());
        edit(&model.join("base/unet").join(DIFFUSERS), |tensors| {
            let weight = tensors["conv_in.weight"].narrow(1, 0, 4).contiguous();
            tensors.insert("conv_in.weight".into(), weight);
        });
        refused(folder, &["model", "info", "model"]).1
    };
    assert!(error.contains("unet/config.json has 4 in_channels"), "{error}");
    decode_by_vae(&model);
    fs::remove_dir_all(model.join("base/vae")).unwrap();
    let error = refused(folder, &["model", "info", "model"]).1;
    assert!(error.contains("vae: can't read ") && error.contains("vae/config.json"), "{error}");
}

/// What no other decoder than the folder's uses may be broken or missing: its trouble is shown, and the folder plays.
#[test]
fn info_and_loading_agree_on_parts_that_are_not_used() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    let load = || {
        gstharmonize::harmonizers::load(
            model.to_str().unwrap(),
            tch::Device::Cpu,
            gstharmonize::harmonizers::Precision::F32,
            &|| false,
        )
    };
    let refinement = model.join("refinement").join(DIFFUSERS);
    fs::rename(&refinement, refinement.with_extension("bin")).unwrap();
    fs::write(model.join("base/vae/config.json"), "{}").unwrap();
    let table = stdout(folder, &["model", "info", "model"]);
    let refinement_row = table.lines().find(|line| line.starts_with("refinement ")).unwrap();
    assert!(refinement_row.ends_with("  not used, 1 problem") && table.contains("is a pickle"), "{table}");
    let vae_row = table.lines().find(|line| line.starts_with("vae ")).unwrap();
    assert!(vae_row.ends_with("  not used, 1 problem"), "{table}");
    load().unwrap();

    fs::remove_dir_all(model.join("base/vae")).unwrap();
    assert!(!stdout(folder, &["model", "info", "model"]).contains("\nvae "));
    load().unwrap();

    decode_by_vae(&model);
    let (_, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(sentence.contains("won't play: vae: "), "{sentence}");
    assert!(load().is_err());
}

/// Of a few hundred bytes.
#[test]
fn info_ends_where_a_configuration_asks_for_millions_of_tensors() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    let config = model.join("base/unet/config.json");
    for key in ["layers_per_block", "transformer_layers_per_block"] {
        configure(&config, key, 128.into());
    }
    let (_, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(sentence.contains("unet: config.json: the configuration asks for more than 20000 tensors"), "{sentence}");
}

#[test]
fn a_pickle_under_another_name_is_converted_once_and_then_no_longer_named() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    pickle(&model);
    let (text, unet) = (model.join("base/text_encoder"), model.join("base/unet"));
    fs::rename(text.join("pytorch_model.bin"), text.join("pytorch_model.fp16.bin")).unwrap();
    fs::rename(unet.join("diffusion_pytorch_model.bin"), unet.join("weights.pkl")).unwrap();
    let lines = stdout(folder, &["model", "convert", "model"]);
    assert!(lines.contains("pytorch_model.fp16.bin: now model.fp16.safetensors, 36 tensors"), "{lines}");
    assert!(lines.contains("weights.pkl: now weights.safetensors, 684 tensors"), "{lines}");
    let (_, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(
        sentence.contains("unet: ") && sentence.contains("holds no diffusion_pytorch_model.safetensors"),
        "{sentence}"
    );
    fs::rename(unet.join("weights.safetensors"), unet.join(DIFFUSERS)).unwrap();
    stdout(folder, &["model", "info", "model"]);
}

/// The autoencoder's attention has other names in files from before diffusers 0.18.
#[test]
fn info_knows_every_name_of_a_tensor() {
    let Some(folder) = tiny() else { return };
    let (folder, file) = (folder.path(), folder.path().join("model/base/vae").join(DIFFUSERS));
    edit(&file, |tensors| {
        let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        let old = |name: &str| names.iter().fold(name.to_owned(), |name, (new, old)| name.replace(new, old));
        let renamed = std::mem::take(tensors).into_iter().map(|(name, tensor)| (old(&name), tensor));
        tensors.extend(renamed);
    });
    stdout(folder, &["model", "info", "model"]);
}

/// The disk holds its header and nothing else.
#[test]
fn info_counts_a_network_of_the_published_size() {
    let Some(folder) = tiny() else { return };
    let (folder, model) = (folder.path(), folder.path().join("model"));
    fs::remove_dir_all(model.join("condition_vae")).unwrap();
    fs::remove_dir_all(model.join("refinement")).unwrap();
    fs::write(model.join("config.json"), r#"{"steps": 1}"#).unwrap();
    let config = model.join("base/vae/config.json");
    configure(&config, "block_out_channels", [128, 256, 512, 512].as_slice().into());
    configure(&config, "norm_num_groups", 32.into());
    let (_, sentence) = refused(folder, &["model", "info", "model"]);
    assert!(sentence.contains("vae: "), "{sentence}");

    let json = fs::read_to_string(&config).unwrap();
    let config = gstharmonize::nets::vae::VaeConfig::parse(&json).unwrap();
    let weights = gstharmonize::nets::Weights::shapes();
    gstharmonize::nets::vae::Vae::new(&weights.root(), config).unwrap();
    let mut end = 0;
    let header: serde_json::Map<_, _> = weights
        .finish()
        .unwrap()
        .iter()
        .map(|(name, tensor)| {
            let start = end;
            end += 4 * tensor.numel() as u64;
            let entry = serde_json::json!({"dtype": "F32", "shape": tensor.size(), "data_offsets": [start, end]});
            (name.clone(), entry)
        })
        .collect();
    let header = Value::Object(header).to_string();
    let path = model.join("base/vae").join(DIFFUSERS);
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    let table = stdout(folder, &["model", "info", "model"]);
    let row = "vae            AutoencoderKL             83,653,863      248  F32       334.6  ok";
    assert!(table.lines().any(|line| line == row), "{table}");
    assert!(table.ends_with("decoder vae, sampler ddim, 1 step, 512 px\n"), "{table}");
}
