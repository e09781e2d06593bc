//! Attention on the CPU without its matrix of similarities (Dao et al. 2022), for long feature maps in f32 with AVX-512.
//!
//! 64 queries at a time, one to a lane, against 64 keys at a time: similarities, their maximum, exponentials and sums never
//! leave the first-level cache, and nothing is summed across lanes. libtorch's own goes through matrix products of 40
//! columns, which leave a third of the CPU idle.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Whether `attend` can do this, and is faster than libtorch. Several threads would have to share the work.
pub fn suits(q: &Tensor, k: &Tensor) -> bool {
    let long = |x: &Tensor| matches!(x.size()[..], [_, _, n, _] if n >= 256);
    possible(q) && long(q) && long(k) && tch::get_num_threads() == 1
}

fn possible(q: &Tensor) -> bool {
    let widths = matches!(q.size()[..], [_, _, _, d] if d % 4 == 0 && d <= 160);
    widths && q.device() == Device::Cpu && q.kind() == Kind::Float && has_avx512() && !q.requires_grad()
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Rows of D values in memory, `stride` values from one to the next.
#[derive(Clone, Copy)]
struct Rows {
    start: *const f32,
    stride: usize,
    len: usize,
}

impl Rows {
    /// Of N x D, a row's values next to each other.
    fn of(x: &Tensor) -> Self {
        Self { start: x.data_ptr() as *const f32, stride: x.stride()[0] as usize, len: x.size()[0] as usize }
    }
}

/// One head of one member of a batch.
#[cfg(target_arch = "x86_64")]
fn one(q: Rows, k: Rows, v: Rows, y: *mut f32, y_stride: usize, d: usize) {
    // SAFETY: `attend` found AVX-512 and d a multiple of 4; all rows are f32 in this process' memory, and the result's belong to a
    // tensor that nobody else has.
    unsafe { avx512::attend(q, k, v, y, y_stride, d) }
}

#[cfg(not(target_arch = "x86_64"))]
fn one(_: Rows, _: Rows, _: Rows, _: *mut f32, _: usize, _: usize) {}

/// softmax(q k^T / sqrt(D)) v for B x heads x N x D, as B x N x heads D.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    ensure!(possible(q), "not an attention for this CPU: {q:?} to {k:?}");
    let (b, heads, n, d) = q.size4()?;
    let dense = |x: &Tensor| -> Result<Tensor> {
        ensure!(x.kind() == Kind::Float && x.device() == Device::Cpu && x.size()[3] == d, "{x:?} does not fit {q:?}");
        if x.stride()[3] == 1 { Ok(x.shallow_clone()) } else { Ok(x.f_contiguous()?) }
    };
    let (q, k, v) = (dense(q)?, dense(k)?, dense(v)?);
    let expected = [b, heads, k.size()[2], d];
    ensure!(k.size() == expected && v.size() == expected, "keys {k:?} and values {v:?} do not fit queries {q:?}");
    let y = Tensor::f_empty([b, n, heads, d], (Kind::Float, Device::Cpu))?;
    for image in 0..b {
        for head in 0..heads {
            let of = |x: &Tensor| -> Result<Tensor> { Ok(x.f_select(0, image)?.f_select(0, head)?) };
            let (q, k, v, y) = (of(&q)?, of(&k)?, of(&v)?, y.f_select(0, image)?.f_select(1, head)?);
            one(Rows::of(&q), Rows::of(&k), Rows::of(&v), y.data_ptr() as *mut f32, y.stride()[0] as usize, d as usize);
        }
    }
    Ok(y.f_view([b, n, heads * d])?)
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Rows;
    use std::arch::x86_64::*;
    use std::slice;

    /// Queries, and keys, at a time.
    const BLOCK: usize = 64;
    /// Of sixteen queries each.
    const VECTORS: usize = BLOCK / 16;
    /// Keys, or values' columns, whose sums are in registers at a time.
    const TILE: usize = 4;
    /// Blocks of queries that go over the same keys while these are in the cache.
    const GROUP: usize = 8;

    type Lanes = [__m512; VECTORS];

    /// A block of queries and what is known of their results: sums weighted by 2^(similarity - max), and the weights' total.
    struct Block {
        /// One for each of D columns.
        queries: Vec<Lanes>,
        sums: Vec<Lanes>,
        max: Lanes,
        total: Lanes,
    }

    /// # Safety
    /// AVX-512 must be there; `q`, `k` and `v` must be readable and `y` writable for their rows of `d`, a multiple of TILE.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn attend(q: Rows, k: Rows, v: Rows, y: *mut f32, y_stride: usize, d: usize) {
        let zero = [_mm512_setzero_ps(); VECTORS];
        let (mut keys, mut values) = (vec![[0.0f32; TILE]; BLOCK / TILE * d], vec![[0.0f32; TILE]; BLOCK / TILE * d]);
        let mut weights = [zero; BLOCK];
        let blocks: Vec<usize> = (0..q.len).step_by(BLOCK).collect();
        for group in blocks.chunks(GROUP) {
            // SAFETY: the caller's.
            let mut group: Vec<_> = group.iter().map(|&first| (first, unsafe { block(q, first, d) })).collect();
            for start in (0..k.len).step_by(BLOCK) {
                let count = BLOCK.min(k.len - start);
                for j in 0..BLOCK {
                    // Past the last key its value is taken again, with a weight of 0.
                    let row = start + j.min(count - 1);
                    // SAFETY: `row` is one of k's and v's.
                    let (key, value) = unsafe {
                        (
                            slice::from_raw_parts(k.start.add(row * k.stride), d),
                            slice::from_raw_parts(v.start.add(row * v.stride), d),
                        )
                    };
                    let keys = keys[j / TILE * d..][..d].iter_mut();
                    keys.zip(key).for_each(|(to, from)| to[j % TILE] = *from);
                    let values = values[j..].iter_mut().step_by(BLOCK);
                    values.zip(value.as_chunks().0).for_each(|(to, from)| *to = *from);
                }
                for (_, block) in &mut group {
                    similarities(&block.queries, &keys, count, &mut weights);
                    let faded = exponentials(&mut weights, &mut block.max, &mut block.total);
                    add_values(&weights, &values, faded, &mut block.sums);
                }
            }
            for (first, block) in group {
                // SAFETY: the caller's.
                unsafe { store(&block, y.add(first * y_stride), y_stride, BLOCK.min(q.len - first)) };
            }
        }
    }

    /// The queries from `first` on, the last one again past the last.
    #[target_feature(enable = "avx512f")]
    unsafe fn block(q: Rows, first: usize, d: usize) -> Block {
        // Similarities are powers of two, not of e.
        let scale = std::f32::consts::LOG2_E / (d as f32).sqrt();
        let mut columns = vec![[0.0f32; BLOCK]; d];
        for lane in 0..BLOCK {
            // SAFETY: the row is one of q's.
            let row = unsafe { slice::from_raw_parts(q.start.add((first + lane).min(q.len - 1) * q.stride), d) };
            columns.iter_mut().zip(row).for_each(|(column, value)| column[lane] = value * scale);
        }
        // SAFETY: sixteen of a column's values.
        let lanes =
            |column: &[f32; BLOCK]| std::array::from_fn(|n| unsafe { _mm512_loadu_ps(column[16 * n..].as_ptr()) });
        let zero = [_mm512_setzero_ps(); VECTORS];
        Block {
            queries: columns.iter().map(lanes).collect(),
            sums: vec![zero; d],
            max: [_mm512_set1_ps(f32::NEG_INFINITY); VECTORS],
            total: zero,
        }
    }

    /// The results of the first `count` queries to rows of `y`.
    #[target_feature(enable = "avx512f")]
    unsafe fn store(block: &Block, y: *mut f32, stride: usize, count: usize) {
        for (c, sum) in block.sums.iter().enumerate() {
            let mut column = [0.0f32; BLOCK];
            for n in 0..VECTORS {
                let value = _mm512_div_ps(sum[n], block.total[n]);
                // SAFETY: sixteen of the column's values.
                unsafe { _mm512_storeu_ps(column[16 * n..].as_mut_ptr(), value) };
            }
            for (lane, value) in column.iter().enumerate().take(count) {
                // SAFETY: the caller's `count` rows have a value for every sum.
                unsafe { *y.add(lane * stride + c) = *value };
            }
        }
    }

    /// Of each key with each query; minus infinity from the key `count` on.
    #[target_feature(enable = "avx512f")]
    fn similarities(queries: &[Lanes], keys: &[[f32; TILE]], count: usize, s: &mut [Lanes; BLOCK]) {
        for (keys, s) in keys.chunks_exact(queries.len()).zip(s.as_chunks_mut::<TILE>().0) {
            let mut tile = [[_mm512_setzero_ps(); VECTORS]; TILE];
            for (query, key) in queries.iter().zip(keys) {
                for i in 0..TILE {
                    let key = _mm512_set1_ps(key[i]);
                    for n in 0..VECTORS {
                        tile[i][n] = _mm512_fmadd_ps(query[n], key, tile[i][n]);
                    }
                }
            }
            *s = tile;
        }
        s[count..].fill([_mm512_set1_ps(f32::NEG_INFINITY); VECTORS]);
    }

    /// 2^(s - max) in place of s, with `max` and `total` brought up to date; returns what sums so far are to be multiplied by.
    #[target_feature(enable = "avx512f")]
    fn exponentials(s: &mut [Lanes; BLOCK], max: &mut Lanes, total: &mut Lanes) -> Lanes {
        let mut newest = *max;
        for s in s.iter() {
            for n in 0..VECTORS {
                newest[n] = _mm512_max_ps(newest[n], s[n]);
            }
        }
        let mut faded = *max;
        for n in 0..VECTORS {
            faded[n] = exp2(_mm512_sub_ps(max[n], newest[n]));
            total[n] = _mm512_mul_ps(total[n], faded[n]);
        }
        for s in s.iter_mut() {
            for n in 0..VECTORS {
                s[n] = exp2(_mm512_sub_ps(s[n], newest[n]));
                total[n] = _mm512_add_ps(total[n], s[n]);
            }
        }
        *max = newest;
        faded
    }

    /// 2^x for x of at most 0, to 2 units in the last place.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn exp2(x: __m512) -> __m512 {
        let x = _mm512_max_ps(x, _mm512_set1_ps(-150.0));
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let r = _mm512_sub_ps(x, n);
        // ln(2)^i / i!, on -0.5..0.5.
        let mut p = _mm512_set1_ps(1.540_353e-4);
        for c in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 0.240_226_5, std::f32::consts::LN_2, 1.0] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
        }
        _mm512_scalef_ps(p, n)
    }

    /// sums = sums * faded + weights * values, a row of `sums` for each of the values' columns.
    #[target_feature(enable = "avx512f")]
    fn add_values(weights: &[Lanes; BLOCK], values: &[[f32; TILE]], faded: Lanes, sums: &mut [Lanes]) {
        for (sums, values) in sums.as_chunks_mut::<TILE>().0.iter_mut().zip(values.chunks_exact(BLOCK)) {
            let mut tile = *sums;
            for row in &mut tile {
                for n in 0..VECTORS {
                    row[n] = _mm512_mul_ps(row[n], faded[n]);
                }
            }
            for (weight, value) in weights.iter().zip(values) {
                for i in 0..TILE {
                    let value = _mm512_set1_ps(value[i]);
                    for n in 0..VECTORS {
                        tile[i][n] = _mm512_fmadd_ps(weight[n], value, tile[i][n]);
                    }
                }
            }
            *sums = tile;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Noise;

    #[test]
    fn equals_libtorch_s_attention() {
        if !has_avx512() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: this CPU has no AVX-512\n");
            return;
        }
        // Torch's generator is that of the tests beside this one too, which would make other numbers of each run.
        let mut seed = 0;
        let mut normal = |shape: [i64; 4]| {
            seed += 1;
            let values = Noise::fixed(seed).field(1, 1, shape.iter().product::<i64>() as usize);
            Tensor::from_slice(&values).view(shape)
        };
        for (b, heads, n, m, d, spread) in
            [(1, 2, 64, 64, 40, 1.0), (2, 3, 100, 77, 8, 4.0), (1, 2, 321, 200, 160, 1.0), (1, 1, 130, 1000, 64, 30.0)]
        {
            // As the network has them: tokens' rows, of which a head is a part.
            let mut split = |n| normal([b, n, heads, d]).permute([0, 2, 1, 3]);
            let (q, k, v) = (split(n) * spread, split(m), split(m) + 1);
            let double = |x: &Tensor| x.to_kind(Kind::Double);
            let expected = Tensor::scaled_dot_product_attention(
                &double(&q),
                &double(&k),
                &double(&v),
                None::<&Tensor>,
                0.0,
                false,
                None,
                false,
            );
            let expected = expected.permute([0, 2, 1, 3]).reshape([b, n, heads * d]);
            let error = ((attend(&q, &k, &v).unwrap() - &expected).norm() / expected.norm()).double_value(&[]);
            assert!(error < 2e-6, "{n} queries and {m} keys of {d} are off by {error}");
        }
    }
}
