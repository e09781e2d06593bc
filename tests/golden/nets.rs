//! The networks against what the reference implementation computed with the same tiny weights, and their full-size
//! configurations against the published checkpoints' parameters and tensors.

use crate::shared;
use anyhow::Result;
use gstharmonize::nets::clip::{ClipConfig, ClipTextModel, END_TOKEN};
use gstharmonize::nets::taesd::{Taesd, TaesdConfig};
use gstharmonize::nets::unet_2d::{UNet2DConfig, UNet2DModel};
use gstharmonize::nets::unet_2d_condition::{UNet2DConditionConfig, UNet2DConditionModel};
use gstharmonize::nets::vae::{Vae, VaeConfig};
use gstharmonize::nets::{Path, Weights};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Relative L2, in f32. A tenth of what is promised: sums in another order differ by 3e-6, while a wrong epsilon or an
/// approximate GELU stays below the promised 1e-4.
const TOLERANCE: f64 = 1e-5;

struct Golden {
    folder: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn open(name: &str) -> Option<Self> {
        let folder = shared::folder(&format!("golden/{name}"))?;
        tch::set_num_threads(1);
        let tensors = Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap().into_iter().collect();
        Some(Self { folder, tensors })
    }

    fn config(&self, part: &str) -> String {
        std::fs::read_to_string(self.folder.join(part).join("config.json")).unwrap()
    }

    /// The network of the folder `part`, its every tensor used.
    fn build<N>(&self, part: &str, file: &str, new: impl Fn(&Path) -> Result<N>) -> N {
        let weights = Weights::open(&self.folder.join(part).join(file), Device::Cpu, Kind::Float).unwrap();
        let network = new(&weights.root()).unwrap();
        weights.finish().unwrap();
        network
    }

    fn get(&self, key: &str) -> &Tensor {
        &self.tensors[key]
    }

    fn check(&self, key: &str, found: &Tensor) {
        check(key, found, self.get(key));
    }
}

fn check(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let error = ((found - expected).norm() / expected.norm()).double_value(&[]);
    assert!(error <= TOLERANCE, "{what} is off by {error} in relative L2 norm");
}

const DIFFUSERS: &str = "diffusion_pytorch_model.safetensors";

fn unet(golden: &Golden) -> UNet2DConditionModel {
    let config = UNet2DConditionConfig::parse(&golden.config("base/unet")).unwrap();
    golden.build("base/unet", DIFFUSERS, |p| UNet2DConditionModel::new(p, config.clone()))
}

#[test]
fn unet_predicts_the_reference_s_noise_at_every_step() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let unet = unet(&golden);
    let text = unet.text_context(golden.get("null_text")).unwrap();
    for run in ["diffharmony", "diffharmony_pp"] {
        for i in 0..5 {
            let timestep = golden.get(&format!("{run}.timestep.{i}")).double_value(&[0]);
            let emb = unet.time_embedding(&[timestep], Kind::Float, Device::Cpu).unwrap();
            let found = unet.forward(golden.get(&format!("{run}.unet_in.{i}")), &emb, &text).unwrap();
            golden.check(&format!("{run}.unet_out.{i}"), &found);
        }
    }
}

#[test]
fn refinement_corrects_as_the_reference_does() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let config = UNet2DConfig::parse(&golden.config("refinement")).unwrap();
    let network = golden.build("refinement", DIFFUSERS, |p| UNet2DModel::new(p, config.clone()));
    golden.check("refine.out", &network.forward(golden.get("refine.in")).unwrap());
}

fn vae(golden: &Golden, part: &str) -> Vae {
    let config = VaeConfig::parse(&golden.config(part)).unwrap();
    golden.build(part, DIFFUSERS, |p| Vae::new(p, config.clone()))
}

/// To 0..1, as the reference's pipeline ends.
fn picture(decoded: Tensor) -> Tensor {
    (decoded / 2 + 0.5).clamp(0.0, 1.0)
}

#[test]
fn autoencoder_is_the_reference_s() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let vae = vae(&golden, "base/vae");
    let posterior = vae.encode(golden.get("composite")).unwrap();
    golden.check("vae.mean", &posterior.mean);
    golden.check("vae.logvar", &posterior.logvar);
    let sample = posterior.sample(golden.get("diffharmony.draw.1")).unwrap() * vae.config.scaling_factor;
    check("composite latent", &sample, &golden.get("diffharmony.unet_in.0").narrow(1, 5, 4));
    golden.check("vae.decode", &vae.decode(golden.get("vae.z")).unwrap());
    let latent = golden.get("diffharmony.latent.4") / vae.config.scaling_factor;
    golden.check("diffharmony.image", &picture(vae.decode(&latent).unwrap()));
}

#[test]
fn harmony_vae_decodes_as_the_reference_does() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let vae = vae(&golden, "condition_vae");
    let condition = vae.condition(golden.get("composite"), golden.get("mask")).unwrap();
    let z_condition = condition.posterior.sample(golden.get("diffharmony_pp.draw.7")).unwrap();
    let latent = golden.get("diffharmony_pp.latent.4") / vae.config.scaling_factor;
    let decoded = vae.decode_conditioned(&latent, condition, &z_condition).unwrap();
    golden.check("diffharmony_pp.image", &picture(decoded));
}

#[test]
fn tiles_decode_nearly_as_the_whole_does() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let [whole, tiled] = [vae(&golden, "condition_vae"), vae(&golden, "condition_vae").tiled(40, 12).unwrap()];
    // The reference's latents and frame, twice as large each way.
    let grown = |x: &Tensor| Tensor::cat(&[x, &x.flip([2])], 2);
    let grown = |key| grown(&Tensor::cat(&[golden.get(key), &golden.get(key).flip([3])], 3));
    let (composite, mask, z) = (grown("composite"), grown("mask"), grown("vae.z"));
    let pictures = |vae: &Vae| {
        let condition = vae.condition(&composite, &mask).unwrap();
        let mean = condition.posterior.mean.shallow_clone();
        [vae.decode(&z), vae.decode_conditioned(&z, condition, &mean)].map(Result::unwrap)
    };
    for (what, (whole, tiled)) in
        ["decode", "decode_conditioned"].iter().zip(pictures(&whole).iter().zip(&pictures(&tiled)))
    {
        let difference = tiled - whole;
        let off = (difference.norm() / whole.norm()).double_value(&[]);
        // Where tiles meet the difference must not jump: it is as smooth as the picture.
        let roughness = |x: &Tensor| x.diff::<Tensor>(1, -1, None, None).abs().max().double_value(&[]);
        eprintln!("{what}: {off} {} {}", roughness(&difference), roughness(whole));
        assert!(off > 1e-6, "{what} was not tiled");
        assert!(off < 0.2, "{what} is off by {off}");
        assert!(roughness(&difference) < 0.3 * roughness(whole), "{what} has seams");
    }
}

#[test]
fn null_text_is_the_reference_s() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let config = ClipConfig::parse(&golden.config("base/text_encoder")).unwrap();
    let clip = golden.build("base/text_encoder", "model.safetensors", |p| ClipTextModel::new(p, config.clone()));
    golden.check("null_text", &clip.null_text(END_TOKEN).unwrap());
}

#[test]
fn taesd_is_the_reference_s() {
    let Some(golden) = Golden::open("taesd-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let config = TaesdConfig::parse(&golden.config(".")).unwrap();
    let taesd = golden.build(".", DIFFUSERS, |p| Taesd::new(p, config.clone()));
    golden.check("latents", &taesd.encode(golden.get("image")).unwrap());
    golden.check("decode", &taesd.decode(golden.get("latents")).unwrap());
}

#[test]
fn batch_and_uneven_sizes() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let unet = unet(&golden);
    let text = unet.text_context(golden.get("null_text")).unwrap();
    let emb = |timesteps: &[f64]| unet.time_embedding(timesteps, Kind::Float, Device::Cpu).unwrap();
    let inputs = [0, 1].map(|i| golden.get(&format!("diffharmony.unet_in.{i}")));
    let timesteps = [0, 1].map(|i| golden.get(&format!("diffharmony.timestep.{i}")).double_value(&[0]));
    let both = unet.forward(&Tensor::cat(&inputs, 0), &emb(&timesteps), &text).unwrap();
    for i in 0..2 {
        golden.check(&format!("diffharmony.unet_out.{i}"), &both.narrow(0, i, 1));
    }
    let odd = inputs[0].narrow(2, 0, 13).narrow(3, 0, 19);
    assert_eq!(unet.forward(&odd, &emb(&[499.5]), &text).unwrap().size(), [1, 4, 13, 19]);
}

/// Diffusers before 0.18, and the original latent-diffusion files, whose projections are 1x1 convolutions.
#[test]
fn every_naming_of_the_mid_attention_is_the_same_network() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let _guard = tch::no_grad_guard();
    let old = [
        ("group_norm", "group_norm"),
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ];
    let original = [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")];
    let config = VaeConfig::parse(&golden.config("base/vae")).unwrap();
    let file = golden.folder.join("base/vae").join(DIFFUSERS);
    for (names, convolutions) in [(old, false), (original, true)] {
        let rename = |(name, tensor): (String, Tensor)| {
            let Some((block, rest)) = name.split_once("attentions.0.") else { return (name, tensor) };
            let (from, to) = names.iter().find(|(from, _)| rest.starts_with(from)).unwrap();
            let name = format!("{block}attentions.0.{}", rest.replacen(from, to, 1));
            if convolutions && tensor.dim() == 2 { (name, tensor.unsqueeze(-1).unsqueeze(-1)) } else { (name, tensor) }
        };
        let tensors = Tensor::read_safetensors(&file).unwrap().into_iter().map(rename).collect();
        let weights = Weights::given(tensors, Device::Cpu);
        let vae = Vae::new(&weights.root(), config.clone()).unwrap();
        weights.finish().unwrap();
        golden.check("vae.decode", &vae.decode(golden.get("vae.z")).unwrap());
        golden.check("vae.mean", &vae.encode(golden.get("composite")).unwrap().mean);
    }
}

#[test]
fn hyper_parameters_that_are_not_honoured_are_named() {
    let Some(golden) = Golden::open("diffharmony-tiny") else { return };
    let refused = |part: &str, parse: &dyn Fn(&str) -> Result<()>, key: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&golden.config(part)).unwrap();
        parse(&config.to_string()).unwrap();
        config[key] = value;
        let error = parse(&config.to_string()).unwrap_err().to_string();
        assert!(error.contains(key), "{part}: {key} is not named in: {error}");
    };
    let unet = |json: &str| UNet2DConditionConfig::parse(json).map(drop);
    refused("base/unet", &unet, "_class_name", "UNet3DConditionModel".into());
    refused("base/unet", &unet, "act_fn", "gelu".into());
    refused("base/unet", &unet, "freq_shift", 1.into());
    refused("base/unet", &unet, "class_embed_type", "timestep".into());
    refused("base/unet", &unet, "time_cond_proj_dim", 256.into());
    refused("base/unet", &unet, "attention_head_dim", vec![4, 4].into());
    refused("base/unet", &unet, "down_block_types", vec!["DownBlock2D"].into());
    refused("base/unet", &unet, "downsample_padding", 2.into());
    refused("base/unet", &unet, "layers_per_block", (1i64 << 60).into());
    refused("base/unet", &unet, "layers_per_block", 129.into());
    refused("base/unet", &unet, "of_the_future", 0.into());
    let vae = |json: &str| VaeConfig::parse(json).map(drop);
    refused("base/vae", &vae, "use_quant_conv", false.into());
    refused("base/vae", &vae, "shift_factor", 0.1.into());
    refused("base/vae", &vae, "additional_in_channels", 1.into());
    refused("condition_vae", &vae, "additional_in_channels", 0.into());
    let refinement = |json: &str| UNet2DConfig::parse(json).map(drop);
    refused("refinement", &refinement, "resnet_time_scale_shift", "scale_shift".into());
    refused("refinement", &refinement, "upsample_type", "resnet".into());
    let clip = |json: &str| ClipConfig::parse(json).map(drop);
    refused("base/text_encoder", &clip, "hidden_act", "relu".into());
    refused("base/text_encoder", &clip, "architectures", vec!["CLIPVisionModel"].into());
}

/// Parameters and tensors of a network of which nothing is allocated.
fn size<N>(new: impl Fn(&Path) -> Result<N>) -> (usize, usize) {
    let weights = Weights::shapes();
    new(&weights.root()).unwrap();
    let tensors = weights.finish().unwrap();
    (tensors.values().map(Tensor::numel).sum(), tensors.len())
}

fn unet_size(rest: &str) -> (usize, usize) {
    let config = format!(
        r#"{{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "downsample_padding": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "flip_sin_to_cos": true, "freq_shift": 0, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
        "norm_num_groups": 32, "out_channels": 4, "sample_size": 64, {rest}}}"#
    );
    let config = UNet2DConditionConfig::parse(&config).unwrap();
    size(|p| UNet2DConditionModel::new(p, config.clone()))
}

fn vae_size(class: &str) -> (usize, usize) {
    let config = format!(
        r#"{{"_class_name": "{class}", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
        "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
        "sample_size": 256}}"#
    );
    let config = VaeConfig::parse(&config).unwrap();
    size(|p| Vae::new(p, config.clone()))
}

fn refinement_size(channels: &str) -> (usize, usize) {
    let config = format!(
        r#"{{"_class_name": "UNet2DCustom", "block_out_channels": {channels}, "in_channels": 7, "out_channels": 3,
        "down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"], "downsample_padding": 0}}"#
    );
    let config = UNet2DConfig::parse(&config).unwrap();
    size(|p| UNet2DModel::new(p, config.clone()))
}

#[test]
fn full_size_networks_have_the_published_parameters() {
    let sd1 = r#""attention_head_dim": 8, "cross_attention_dim": 768"#;
    assert_eq!(unet_size(&format!(r#"{sd1}, "in_channels": 9"#)), (859_535_364, 686));
    assert_eq!(unet_size(&format!(r#"{sd1}, "in_channels": 4"#)), (859_520_964, 686));
    let sd2 = r#""attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": true"#;
    assert_eq!(unet_size(&format!(r#"{sd2}, "in_channels": 9"#)).0, 865_925_124);
    assert_eq!(vae_size("AutoencoderKL"), (83_653_863, 248));
    assert_eq!(vae_size("ConditionVAE"), (119_740_419, 384));
    assert_eq!(refinement_size("[64, 128, 256, 256]").0, 22_870_211);
    assert_eq!(refinement_size("[128, 256, 512, 512]"), (91_402_627, 232));
    assert_eq!(refinement_size("[256, 512, 1024, 1024]").0, 365_454_083);
    let clip = r#"{"model_type": "clip_text_model", "architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu",
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}"#;
    let clip = ClipConfig::parse(clip).unwrap();
    assert_eq!(size(|p| ClipTextModel::new(p, clip.clone())), (123_060_480, 196));
}
