//! From a device's name to a device that answers.
//!
//! The plugin is linked to libtorch's CPU half alone, so that one file runs everywhere; the CUDA half is loaded when it is
//! asked for, before any tensor exists: torch looks for it once.

use anyhow::{Context, Result, anyhow, bail, ensure};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use once_cell::sync::Lazy;
use std::path::{Path, PathBuf};
use tch::{Cuda, Device};

/// `auto` (CUDA where it answers, else the CPU), `cpu`, `cuda` or `cuda:N`. Asking for CUDA where there is none is an error.
pub fn device(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if has_driver() && cuda_devices().is_ok_and(|n| n > 0) => return Ok(Device::Cuda(0)),
        "auto" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => match name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()) {
            Some(index) => index,
            None => bail!("there is no device {name:?}: give auto, cpu, cuda or cuda:N"),
        },
    };
    let count =
        cuda_devices().with_context(|| format!("device {name} was asked for, which is not there (device=cpu is)"))?;
    ensure!(
        index < count,
        "device {name} was asked for, but libtorch finds {count} CUDA devices: use device=cpu, or check the NVIDIA driver; a \
         process that has run a model on the CPU before finds none"
    );
    Ok(Device::Cuda(index))
}

fn has_driver() -> bool {
    ["/dev/nvidiactl", "/dev/dxg"].iter().any(|file| Path::new(file).exists())
}

/// Number of CUDA devices, or why libtorch's CUDA half can't be loaded.
fn cuda_devices() -> Result<usize> {
    static CUDA: Lazy<Result<(), String>> = Lazy::new(|| load_cuda().map_err(|e| format!("{e:#}")));
    CUDA.as_ref().map_err(|e| anyhow!("{e}"))?;
    Ok(if Cuda::is_available() { Cuda::device_count().max(0) as usize } else { 0 })
}

/// Loads libtorch_cuda from beside libtorch_cpu, for good.
fn load_cuda() -> Result<()> {
    let file = libtorch_cpu()?.with_file_name("libtorch_cuda.so");
    ensure!(file.exists(), "this libtorch has no CUDA half (there is no {})", file.display());
    // SAFETY: loading runs the library's initializers, which register CUDA with the libtorch this process already runs.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.with_context(|| format!("libtorch's CUDA half {} can't be loaded", file.display()))?;
    std::mem::forget(library);
    Ok(())
}

/// The file that libtorch was loaded from, links resolved.
fn libtorch_cpu() -> Result<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").context("can't read /proc/self/maps")?;
    let mut files = maps.lines().filter_map(|line| line.split_whitespace().last());
    let file = files.find(|file| file.ends_with("/libtorch_cpu.so")).context("libtorch_cpu.so is not loaded")?;
    Ok(PathBuf::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn cuda_without_cuda_is_an_error() {
        if has_driver() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: this machine has an NVIDIA driver");
            return;
        }
        for name in ["cuda", "cuda:3"] {
            let error = format!("{:#}", device(name).unwrap_err());
            assert!(error.contains(&format!("device {name} was asked for")), "{error}");
        }
        assert_eq!(device("auto").unwrap(), Device::Cpu);
        assert!(device("gpu").is_err());
    }

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        Cuda::is_available();
        assert!(libtorch_cpu().unwrap().with_file_name("libc10.so").exists());
    }
}
