//! What loading takes: the parameters, and little more, whatever kind the file has them in.

use crate::process;
use gstharmonize::nets::unet_2d_condition::{UNet2DConditionConfig, UNet2DConditionModel};
use gstharmonize::nets::{Path as Place, Weights};
use serde_json::{Map, json};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Stable Diffusion's U-Net at a third of its width: 96 million parameters.
const CONFIG: &str = r#"{"_class_name": "UNet2DConditionModel", "in_channels": 9, "block_out_channels": [96, 192, 448, 448],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 8, "cross_attention_dim": 768}"#;

/// Set in the process that loads, to "FILE KIND".
const TASK: &str = "HARMONIZE_TEST_LOADS";

/// Of the weights in the kind they are loaded in, as the issue of loading has it.
const ALLOWED: f64 = 1.15;

fn unet(p: &Place) -> UNet2DConditionModel {
    UNet2DConditionModel::new(p, UNet2DConditionConfig::parse(CONFIG).unwrap()).unwrap()
}

/// Writes the network's parameters, each 0.5, in a kind of `size` bytes named `dtype`; returns how many there are.
fn write(file: &Path, dtype: &str, half: &[u8]) -> usize {
    let weights = Weights::shapes();
    unet(&weights.root());
    let shapes = weights.finish().unwrap();
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in &shapes {
        let begin = end;
        end += shape.numel() * half.len();
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape.size(), "data_offsets": [begin, end]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = BufWriter::new(fs::File::create(file).unwrap());
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&header).unwrap();
    let mebi = half.repeat((1 << 20) / half.len());
    (0..end).step_by(mebi.len()).for_each(|at| out.write_all(&mebi[..mebi.len().min(end - at)]).unwrap());
    end / half.len()
}

/// Peak resident memory of this process so far, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Does nothing but in the process that `loading_takes_the_weights_and_little_more` starts.
#[test]
fn load() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (file, kind) = task.split_once(' ').unwrap();
    let kind = if kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
    let _guard = tch::no_grad_guard();
    tch::set_num_threads(1);
    let ones = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
    assert_eq!(ones.matmul(&ones).to_kind(kind).double_value(&[0, 0]), 64.0);
    let before = peak();
    let weights = Weights::open(Path::new(file), Device::Cpu, kind).unwrap();
    let unet = unet(&weights.root());
    weights.finish().unwrap();
    println!("took {} bytes", peak() - before);
    drop(unet);
}

fn took(file: &Path, kind: &str) -> usize {
    let child =
        process::of_its_own(module_path!(), "load").env(TASK, format!("{} {kind}", file.display())).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let bytes = said.split("took ").nth(1).unwrap().split(' ').next().unwrap();
    bytes.parse().unwrap()
}

#[test]
fn loading_takes_the_weights_and_little_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let bf16 = half::bf16::from_f32(0.5).to_le_bytes();
    for (dtype, half, kinds) in
        [("F32", &0.5f32.to_le_bytes()[..], &[("f32", 4), ("bf16", 2)][..]), ("BF16", &bf16, &[("f32", 4)])]
    {
        let parameters = write(&file, dtype, half);
        for &(kind, size) in kinds {
            let share = took(&file, kind) as f64 / (parameters * size) as f64;
            println!("{dtype} loaded as {kind}: {share:.3} of the weights' size");
            // Less than the weights would mean that something else was measured.
            assert!((0.95..=ALLOWED).contains(&share), "{dtype} loaded as {kind} took {share:.3} of the weights' size");
        }
    }
}
