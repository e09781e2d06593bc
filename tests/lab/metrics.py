"""The metrics of tests/lab/eval_independent.rs from their definitions, with numpy, on the composites and on what the affine map of
numpy's own least squares makes of them.

metrics.py FOLDER NAME...  FOLDER holds composite_images/, masks/ and real_images/ as iHarmony4 does. Prints a JSON object: for each
NAME (ID_LABEL_N.jpg) the figures of `untouched` and of `best-affine`, the real background pasted.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np


def smooth(plane):
    """Gaussian of sigma 1.5 over 11 x 11, zeros beyond the border."""
    at = np.arange(-5, 6)
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    return cv2.filter2D(plane, cv2.CV_64F, window, borderType=cv2.BORDER_CONSTANT)


def ssim_map(x, y):
    """Of Wang et al. 2004, samples 0..1."""
    mu_x, mu_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mu_x**2, smooth(y * y) - mu_y**2
    covariance = smooth(x * y) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
    return likeness / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))


def psnr(mse):
    return min(100.0, 20 * np.log10(255) - 10 * np.log10(mse))


def figures(picture, real, inside):
    pasted = np.where(inside[..., None], picture, real).astype(np.float64)
    error = (pasted - real) ** 2
    maps = np.stack([ssim_map(pasted[..., c] / 255, real[..., c] / 255) for c in range(3)], axis=-1)
    mse, fmse = error.mean(), error[inside].mean()
    return {
        "mse": mse,
        "fmse": fmse,
        "psnr": psnr(mse),
        "fpsnr": psnr(fmse),
        "ssim": maps.mean(),
        "fssim": maps[inside].mean(),
    }


def best_affine(composite, real, inside):
    colours = np.column_stack([composite[inside], np.ones(inside.sum())])
    solution, *_ = np.linalg.lstsq(colours, real[inside], rcond=None)
    picture = composite.copy()
    picture[inside] = np.rint(np.clip(colours @ solution, 0, 255))
    return picture


def read(path, flags=cv2.IMREAD_COLOR):
    picture = cv2.imread(str(path), flags)
    if picture is None:
        sys.exit(f"{path}: no picture")
    return picture


def main(folder, *names):
    all_figures = {}
    for name in names:
        id_label = name.rsplit("_", 1)[0]
        composite = read(folder / "composite_images" / name).astype(np.float64)
        real = read(folder / "real_images" / f"{id_label.rsplit('_', 1)[0]}.jpg").astype(np.float64)
        inside = read(folder / "masks" / f"{id_label}.png", cv2.IMREAD_GRAYSCALE) >= 128
        all_figures[name] = {
            "foreground": inside.mean(),
            "untouched": figures(composite, real, inside),
            "best-affine": figures(best_affine(composite, real, inside), real, inside),
        }
    json.dump(all_figures, sys.stdout)


main(Path(sys.argv[1]), *sys.argv[2:])
