//! The whole of DiffHarmony and DiffHarmony++ against the reference implementation's pictures, its draws given; and the way
//! that a stream of frames takes, with the same folder.

mod shared;

use gstharmonize::harmonizers::Precision;
use gstharmonize::harmonizers::diffharmony::{Decoder, DiffHarmony, Parts};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Tensor};

/// Relative L2 norm, as the reference's README promises of an implementation that agrees.
const TOLERANCE: f64 = 1e-4;

struct Golden {
    folder: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn open() -> Option<Self> {
        let folder = shared::folder("golden/diffharmony-tiny")?;
        tch::set_num_threads(1);
        let tensors = Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap().into_iter().collect();
        Some(Self { folder, tensors })
    }

    fn load(&self, parts: Parts) -> DiffHarmony {
        DiffHarmony::load(&self.folder, Device::Cpu, Precision::F32, parts).unwrap()
    }

    fn get(&self, key: &str) -> Tensor {
        self.tensors[key].shallow_clone()
    }

    /// The recorded draws of `run`, in order.
    fn draws(&self, run: &str) -> impl FnMut(&[i64]) -> anyhow::Result<Tensor> {
        let mut index = 0;
        move |shape| {
            let draw = self.get(&format!("{run}.draw.{index}"));
            index += 1;
            assert_eq!(draw.size(), shape, "draw {} of {run}", index - 1);
            Ok(draw)
        }
    }

    fn check(&self, key: &str, found: &Tensor) {
        let expected = self.get(key);
        assert_eq!(found.size(), expected.size(), "{key}");
        let error = ((found - &expected).norm() / expected.norm()).double_value(&[]);
        println!("{key}: {error:.1e}");
        assert!(error <= TOLERANCE, "{key} is off by {error} in relative L2 norm");
    }
}

#[test]
fn whole_pictures_are_the_reference_s() {
    let Some(golden) = Golden::open() else { return };
    let _guard = tch::no_grad_guard();
    let model = golden.load(Parts::All);
    let (composite, mask) = (golden.get("composite"), golden.get("mask"));
    for (run, decoder) in [("diffharmony", Decoder::Vae), ("diffharmony_pp", Decoder::ConditionVae)] {
        let mut draws = golden.draws(run);
        let image = model.original(&composite, &mask, 5, decoder, &mut draws).unwrap();
        golden.check(&format!("{run}.image"), &image);
    }
}

#[test]
fn refinement_takes_and_gives_pictures() {
    let Some(golden) = Golden::open() else { return };
    let _guard = tch::no_grad_guard();
    let input = golden.get("refine.in");
    let unsigned = |x: Tensor| (x + 1) / 2;
    let (harmonized, mask) = (unsigned(input.narrow(1, 0, 3)), input.narrow(1, 3, 1));
    let composite = unsigned(input.narrow(1, 4, 3));
    let found = golden.load(Parts::All).refine(&harmonized, &mask, &composite).unwrap();
    let expected = golden.get("refine.out").clamp(-1.0, 1.0) / 2 + 0.5;
    let error = ((found - &expected).norm() / expected.norm()).double_value(&[]);
    assert!(error <= TOLERANCE, "{error}");
}
