use super::*;
use crate::diffusion::Noise;
use crate::harmonizers::compact::{self, Compact};
use crate::harmonizers::star::{self, Latents};
use crate::harmonizers::{ModelConfig as _, Run, Sampling};
use crate::nets::Weights;
use crate::nets::vae::VaeConfig;
use std::collections::BTreeMap;
use std::fs;
use tch::{Kind, Tensor};

/// A folder with a small `compact` of fresh weights, changed by `change` before it is written.
fn folder(change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let config = compact::CompactConfig { channels: [8, 16, 16], emb_channels: 16, ..Default::default() };
    let weights = Weights::new(Device::Cpu);
    Compact::new(&weights.root(), config.clone(), Device::Cpu).unwrap();
    let mut tensors = weights.finish().unwrap();
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name, t.detach().contiguous())).collect();
    Tensor::write_safetensors(&tensors, folder.path().join(WEIGHTS)).unwrap();
    folder
}

fn error(folder: &Path) -> String {
    match load(folder.to_str().unwrap(), Device::Cpu, Precision::Auto, &|| false) {
        Ok(_) => panic!("loaded"),
        Err(e) => format!("{e:#}"),
    }
}

#[test]
fn a_folder_loads_and_every_built_in_model_too() {
    let folder = folder(|_| ());
    load(folder.path().to_str().unwrap(), Device::Cpu, Precision::Auto, &|| false).unwrap();
    for (name, _) in models::built_in() {
        load(name, Device::Cpu, Precision::Auto, &|| false).unwrap();
    }
}

#[test]
fn weights_that_don_t_fit_are_named() {
    let missing = folder(|t| drop(t.remove("conv_in.bias")));
    assert!(error(missing.path()).contains("tensor conv_in.bias is missing"));

    let renamed = folder(|t| {
        let tensor = t.remove("emb.weight").unwrap();
        t.insert("embedding.weight".into(), tensor);
    });
    assert!(error(renamed.path()).contains("tensor emb.weight is missing"));

    let surplus = folder(|t| drop(t.insert("extra".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))));
    assert!(error(surplus.path()).contains("no place for: extra"));

    let nan = folder(|t| drop(t.insert("emb.bias".into(), Tensor::full([16], f64::NAN, (Kind::Float, Device::Cpu)))));
    assert!(error(nan.path()).contains("tensor emb.bias holds values that are not finite"));

    let shape = folder(|t| drop(t.insert("emb.bias".into(), Tensor::zeros([17], (Kind::Float, Device::Cpu)))));
    assert!(error(shape.path()).contains("tensor emb.bias has shape [17]"));
}

#[test]
fn a_truncated_file_is_refused_with_its_name() {
    let folder = folder(|_| ());
    let file = folder.path().join(WEIGHTS);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = error(folder.path());
    assert!(
        error.contains(folder.path().to_str().unwrap()) && error.contains("not a whole safetensors file"),
        "{error}"
    );
}

#[test]
fn a_hyper_parameter_that_is_unknown_or_missing_is_named() {
    let folder = folder(|_| ());
    let file = folder.path().join("config.json");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("\"heads\"", "\"tails\"")).unwrap();
    assert!(error(folder.path()).contains("tails"));
    fs::write(&file, config.replace("\"compact\"", "\"huge\"")).unwrap();
    assert!(error(folder.path()).contains("class \"huge\""));
}

#[test]
fn a_hyper_parameter_that_nothing_can_be_built_with_is_named() {
    let folder = folder(|_| ());
    let file = folder.path().join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let values = [("groups", 0), ("heads", 0), ("bins", -5), ("steps", 0), ("train_timesteps", 100_000_000_000_000)];
    for (name, value) in
        values.into_iter().chain([("proxy_size", 0), ("proxy_size", i64::from(u32::MAX)), ("residual_scale", 0)])
    {
        let mut config = config.clone();
        config[name] = value.into();
        fs::write(&file, config.to_string()).unwrap();
        let error = error(folder.path());
        assert!(error.contains(name) && error.contains(&value.to_string()), "{error}");
    }
}

#[test]
fn a_pickle_is_refused_with_the_command_that_converts_it() {
    let folder = folder(|_| ());
    let pickle = folder.path().join("model.bin");
    fs::rename(folder.path().join(WEIGHTS), &pickle).unwrap();
    for error in [error(folder.path()), error(&pickle)] {
        assert!(error.contains("model.bin is a pickle") && error.contains("harmonize model convert"), "{error}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    assert!(error(Path::new("/no/such/model")).contains("there is no model /no/such/model"));
    let empty = tempfile::tempdir().unwrap();
    assert!(error(empty.path()).contains("config.json"));
}

/// `vae/` with a small autoencoder of Stable Diffusion's kind, and `star` on its latents.
fn on_stable_diffusion() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |folder: &Path, name: &str, weights: Weights, config: String| {
        fs::create_dir_all(folder).unwrap();
        // A new network leaves its proxy alone, by weights of zero.
        let awake =
            |t: Tensor| if t.count_nonzero(None::<i64>).int64_value(&[]) == 0 { t.randn_like() * 0.1 } else { t };
        let tensors = weights.finish().unwrap().into_iter();
        let tensors: Vec<_> = tensors.map(|(name, t)| (name, awake(t.detach()).contiguous())).collect();
        Tensor::write_safetensors(&tensors, folder.join(name)).unwrap();
        fs::write(folder.join(CONFIG), config).unwrap();
    };
    let json = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 32, 32, 32],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;
    let weights = Weights::new(Device::Cpu);
    Vae::new(&weights.root(), VaeConfig::parse(json).unwrap()).unwrap();
    write(&folder.path().join("vae"), "diffusion_pytorch_model.safetensors", weights, json.into());

    let config = star::StarConfig { latents: Latents::StableDiffusion, encoder_layers: 1, ..Default::default() };
    let weights = Weights::new(Device::Cpu);
    let vae = || Vae::new(&Weights::new(Device::Cpu).root(), VaeConfig::parse(json)?);
    config.network(&weights.root(), Device::Cpu, &vae).unwrap();
    write(folder.path(), WEIGHTS, weights, serde_json::to_string(&config).unwrap());
    folder
}

#[test]
fn star_also_works_on_stable_diffusion_s_latents() {
    let folder = on_stable_diffusion();
    let spec = folder.path().to_str().unwrap();
    let model = load(spec, Device::Cpu, Precision::Auto, &|| false).unwrap();
    assert_eq!(model.grid().multiple, 16);
    let info = super::super::info(spec).unwrap();
    assert_eq!(info.parts.iter().map(|part| part.class.as_str()).collect::<Vec<_>>(), ["star", "AutoencoderKL"]);
    assert_eq!(info.problem(), None);

    let _guard = tch::no_grad_guard();
    let composite = Tensor::rand([1, 3, 32, 48], (Kind::Float, Device::Cpu));
    let mask = Tensor::zeros([1, 1, 32, 48], (Kind::Float, Device::Cpu));
    let _ = mask.narrow(3, 0, 16).fill_(1.0);
    let noise = Noise::fixed(1);
    let harmonized = model.harmonize(&composite, &mask, &Run::new(&noise, Sampling::default())).unwrap();
    let change = |from, len| (&harmonized - &composite).narrow(3, from, len).abs().max().double_value(&[]);
    assert!(change(0, 16) > 1e-3 && change(16, 32) == 0.0);

    fs::remove_file(folder.path().join("vae/config.json")).unwrap();
    assert!(error(folder.path()).contains("vae"));
}

#[test]
fn a_class_that_is_not_known_is_named_beside_those_that_are() {
    let error = format!("{:#}", models::parse(r#"{"class": "huge"}"#).unwrap_err());
    assert!(["huge", "compact", "gift", "star", "diffharmony"].iter().all(|name| error.contains(name)), "{error}");
}
