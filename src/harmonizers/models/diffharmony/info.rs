//! The parts of a folder, for who wants to know whether they are whole.

use super::check::Configs;
use super::folder::{self, Folder, Parts};
use super::null_text;
use crate::diffusion;
use crate::harmonizers::files;
use crate::harmonizers::parts::{self, Info, ModelPart, folder_part};
use crate::nets::clip::{ClipConfig, ClipTextModel};
use crate::nets::taesd::{Taesd, TaesdConfig};
use crate::nets::unet_2d::{UNet2DConfig, UNet2DModel};
use crate::nets::unet_2d_condition::{UNet2DConditionConfig, UNet2DConditionModel};
use crate::nets::vae::{Vae, VaeConfig};
use crate::nets::{self, Init};
use anyhow::{Result, ensure};
use std::path::Path;

/// Makes a network of shapes by its configuration's text, which it keeps.
type Network = fn(&mut Configs, &nets::Path, &str) -> Result<()>;

const NETWORKS: [(&str, Network); 5] = [
    ("unet", |configs, p, json| {
        let config = configs.unet.insert(UNet2DConditionConfig::parse(json)?);
        UNet2DConditionModel::new(p, config.clone()).map(drop)
    }),
    ("vae", |configs, p, json| Vae::new(p, configs.vae.insert(VaeConfig::parse(json)?).clone()).map(drop)),
    ("condition_vae", |configs, p, json| {
        Vae::new(p, configs.condition_vae.insert(VaeConfig::parse(json)?).clone()).map(drop)
    }),
    ("refinement", |configs, p, json| {
        UNet2DModel::new(p, configs.refinement.insert(UNet2DConfig::parse(json)?).clone()).map(drop)
    }),
    ("taesd", |configs, p, json| Taesd::new(p, configs.taesd.insert(TaesdConfig::parse(json)?).clone()).map(drop)),
];

/// Every part there is, and those that are missing; weights stay unread.
pub fn info(folder: &Path) -> Info {
    let base = Folder::base(folder);
    let decoder = Folder::config(folder).map(|(_, decoder)| decoder).ok();
    let mut configs = Configs::default();
    let mut parts = vec![];
    for (name, new) in NETWORKS {
        let is_basic = ["unet", "vae"].contains(&name);
        let parent = if is_basic { &base } else { folder };
        let is_used = decoder.is_none_or(|decoder| decoder.uses(name));
        if !(is_basic && is_used || folder::is_there(parent, name)) {
            continue;
        }
        // Of what isn't used nothing has to fit the others.
        let mut unused = Configs::default();
        let configs = if is_used { &mut configs } else { &mut unused };
        let part = folder_part(parent, name, &folder::WEIGHTS, |p, json| new(configs, p, json));
        parts.push(ModelPart { is_unused: !is_used, ..part });
    }
    parts.push(text(&base, configs.unet.as_ref().map(|unet| unet.cross_attention_dim)));
    parts.push(scheduler(&base));
    let setup = || {
        let folder = Folder::open(folder, Parts::ForVideo)?;
        configs.fit()?;
        let folder::DiffHarmonyConfig { size, steps, .. } = folder.config;
        let steps = parts::steps(steps);
        Ok::<_, anyhow::Error>(format!("decoder {}, sampler {}, {steps}, {size} px", folder.decoder, folder.sampler))
    };
    Info { setup: setup().map_err(|e| format!("{e:#}")), parts }
}

/// The stored null text, else what computes it when the model is loaded.
fn text(base: &Path, channels: Option<i64>) -> ModelPart {
    let file = base.join(null_text::FILE);
    if file.exists() {
        let mut part = parts::network("null text", "{}", parts::stored(&file), |p, _| {
            let found = p.shape(null_text::KEY).and_then(|shape| shape.last().copied());
            let shape = [1, null_text::TOKENS, channels.or(found).unwrap_or(1)];
            p.get(null_text::KEY, &shape, Init::Const(0.0)).map(drop)
        });
        part.class = "constant".into();
        return part;
    }
    folder_part(base, null_text::TEXT_ENCODER, &null_text::WEIGHTS, |p, json| {
        let config = ClipConfig::parse(json)?;
        let width = config.hidden_size;
        ensure!(
            channels.is_none_or(|channels| channels == width),
            "its hidden_size is {width}, unet's cross_attention_dim {}",
            channels.unwrap_or_default()
        );
        ClipTextModel::new(p, config).map(drop)
    })
}

fn scheduler(base: &Path) -> ModelPart {
    let mut part = ModelPart { name: "scheduler".into(), ..ModelPart::default() };
    let read = files::read_text(&base.join("scheduler").join("scheduler_config.json")).and_then(|json| {
        part.class = parts::class(&json);
        diffusion::SchedulerConfig::from_json(&json)
    });
    part.problems.extend(read.err().map(|e| format!("{e:#}")));
    part
}
