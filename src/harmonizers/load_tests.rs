use super::*;
use crate::nets::Weights;
use std::collections::BTreeMap;
use std::fs;
use tch::{Kind, Tensor};

/// A folder with a small `compact` of fresh weights, changed by `change` before it is written.
fn folder(change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let config = Config { channels: [8, 16, 16], emb_channels: 16, ..Config::default() };
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
    for (name, ..) in BUILT_IN {
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
    for (name, value) in values.into_iter().chain([("proxy_size", 0), ("proxy_size", i64::from(u32::MAX))]) {
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
