//! In which kind a device computes fastest with weights of a given one.

use tch::{Device, Kind};

/// The kind for the features of a network with weights of kind `weights`. On a CPU half-precision weights save memory, but few
/// processors multiply in them as fast as in f32: AMD's since Zen 4 and Intel's with AMX do, in bf16. Intel's AVX-512 BF16 alone
/// has half the rate of f32.
pub fn arithmetic(weights: Kind, device: Device) -> Kind {
    match (weights, device) {
        (Kind::BFloat16, Device::Cpu) if fast_bf16() => Kind::BFloat16,
        (_, Device::Cpu) => Kind::Float,
        (kind, _) => kind,
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // reading what the CPU is became safe after Rust 1.92
fn fast_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // SAFETY: every x86-64 CPU has the instruction.
    let (leaves, vendor) = unsafe { (__cpuid(0).eax, __cpuid(0).ecx) };
    if leaves < 7 {
        return false;
    }
    // SAFETY: as above.
    let amx_bf16 = unsafe { __cpuid_count(7, 0) }.edx >> 22 & 1 == 1;
    let amd = vendor == u32::from_le_bytes(*b"cAMD");
    amx_bf16 || amd && std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn fast_bf16() -> bool {
    false
}
