//! What the small harmonizers know of a picture's colours: statistics of foreground and background, and maps of colours.

use anyhow::Result;
use tch::{Kind, Tensor};

/// Terms of a global colour map: r, g, b, rg, rb, gb, r2, g2, b2, rgb, 1, as in ccHarmony's illuminant changes.
pub const POLYNOMIAL: i64 = 11;

/// B x 3 x h x w to the terms of the global map, B x 11 x h x w.
pub fn polynomial(c: &Tensor) -> Result<Tensor> {
    let c = c.f_unbind(1)?;
    let (r, g, b) = (&c[0], &c[1], &c[2]);
    let rg = r.f_mul(g)?;
    let terms = [
        r.shallow_clone(),
        g.shallow_clone(),
        b.shallow_clone(),
        rg.shallow_clone(),
        r.f_mul(b)?,
        g.f_mul(b)?,
        r.f_square()?,
        g.f_square()?,
        b.f_square()?,
        rg.f_mul(b)?,
        r.f_ones_like()?,
    ];
    Ok(Tensor::f_stack(&terms, 1)?)
}

/// How many [`statistics`] there are of histograms with `bins` bins.
pub fn statistics_len(bins: i64) -> i64 {
    2 * (POLYNOMIAL - 1 + 3 * bins) + 1
}

/// Moments and histograms of the colours in foreground and background, and the foreground's share: B x [`statistics_len`].
/// `polynomial` is that of `composite`.
pub fn statistics(composite: &Tensor, polynomial: &Tensor, mask: &Tensor, bins: i64) -> Result<Tensor> {
    let (b, _, h, w) = composite.size4()?;
    let centres = Tensor::f_arange(bins, (Kind::Float, composite.device()))?.f_view([1, 1, bins, 1, 1])?;
    let place = composite.f_mul_scalar((bins - 1) as f64)?.f_unsqueeze(2)?.f_sub(&centres)?;
    let histogram = place.f_abs()?.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(0.0)?.f_view([b, 3 * bins, h, w])?;
    let moments = polynomial.f_narrow(1, 0, POLYNOMIAL - 1)?;
    let colours = Tensor::f_cat(&[moments, histogram], 1)?;
    let share = mask.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
    let background = complement(mask)?;
    Ok(Tensor::f_cat(&[weighted_mean(&colours, mask)?, weighted_mean(&colours, &background)?, share], 1)?)
}

/// 0..1 to -1..1.
pub fn signed(picture: &Tensor) -> Result<Tensor> {
    Ok(picture.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
}

/// 1 - x.
pub fn complement(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_neg()?.f_add_scalar(1.0)?)
}

/// Mean over all places of B x C x h x w, weighted by B x 1 x h x w: B x C; 0 where the weights are.
pub fn weighted_mean(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let places = [2i64, 3];
    let total = weight.f_sum_dim_intlist(places.as_slice(), false, None::<Kind>)?.f_clamp_min(1e-3)?;
    Ok(x.f_mul(weight)?.f_sum_dim_intlist(places.as_slice(), false, None::<Kind>)?.f_div(&total)?)
}

/// Mean and deviation of B x C x h x w, weighted by B x 1 x h x w: B x C each.
pub fn moments(x: &Tensor, weight: &Tensor) -> Result<[Tensor; 2]> {
    let mean = weighted_mean(x, weight)?;
    let square = weighted_mean(&x.f_square()?, weight)?;
    let variance = square.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
    Ok([mean, variance.f_add_scalar(1e-4)?.f_sqrt()?])
}

/// Deviation and mean in the foreground, then in the background, of B x C x h x w: B x 4 C.
pub fn pooled(features: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let features = features.f_to_kind(Kind::Float)?;
    let mut pooled = Vec::with_capacity(4);
    for weight in [mask, &complement(mask)?] {
        let [mean, deviation] = moments(&features, weight)?;
        pooled.extend([deviation, mean]);
    }
    Ok(Tensor::f_cat(&pooled, 1)?)
}

/// Means of `factor` x `factor` places, of fewer at the right and below where the size is no multiple.
pub fn average(x: &Tensor, factor: i64) -> Result<Tensor> {
    Ok(x.f_avg_pool2d([factor; 2], [factor; 2], [0; 2], true, false, None)?)
}

/// Twice the size, by the nearest.
pub fn upsample(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.size4()?;
    Ok(x.f_upsample_nearest2d([2 * h, 2 * w], None, None)?)
}

/// Twice the size, by the nearest, cut to that of `like` at the right and below.
pub fn upsample_to(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = like.size4()?;
    Ok(upsample(x)?.f_narrow(2, 0, h)?.f_narrow(3, 0, w)?)
}

/// What one polynomial a picture, B x 33, adds to each colour: B x 3 x h x w.
pub fn map_globally(coefficients: &Tensor, polynomial: &Tensor) -> Result<Tensor> {
    let (b, _, h, w) = polynomial.size4()?;
    let coefficients = coefficients.f_view([b, 3, POLYNOMIAL])?;
    Ok(coefficients.f_bmm(&polynomial.f_reshape([b, POLYNOMIAL, h * w])?)?.f_view([b, 3, h, w])?)
}

/// What a grid of affine maps, B x 12 x any size, adds to the colours `signed` (B x 3 x h x w): its maps are interpolated.
pub fn map_locally(maps: &Tensor, signed: &Tensor) -> Result<Tensor> {
    let (b, _, h, w) = signed.size4()?;
    let maps = maps.f_to_kind(Kind::Float)?.f_upsample_bilinear2d([h, w], false, None, None)?;
    let maps = maps.f_contiguous()?.f_view([b, 3, 4, h, w])?;
    let ones = Tensor::f_ones([b, 1, h, w], (Kind::Float, signed.device()))?;
    let terms = Tensor::f_cat(&[signed, &ones], 1)?.f_unsqueeze(1)?;
    Ok(maps.f_mul(&terms)?.f_sum_dim_intlist([2i64].as_slice(), false, None::<Kind>)?)
}
