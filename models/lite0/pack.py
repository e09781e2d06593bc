#!/usr/bin/env python3
"""Copies the data that `lite0` is trained on, its photographs at a smaller size, to where little may be carried.

    pip install pillow
    models/lite0/pack.py DATA out/packed [LONG_SIDE]

DATA is the folder that `harmonize train --photos` takes. Label maps keep their labels.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

JPEG_QUALITY = 80


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    side = int(sys.argv[3]) if len(sys.argv) == 4 else 152
    (out / "photos").mkdir(parents=True, exist_ok=True)
    for path in sorted((data / "photos").iterdir()):
        to = out / "photos" / path.name
        if path.suffix == ".jpg":
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((side, side), Image.Resampling.BOX)
            picture.save(to, quality=JPEG_QUALITY, optimize=True)
        elif path.suffix == ".png":
            labels = Image.open(path)
            labels.thumbnail((side, side), Image.Resampling.NEAREST)
            labels.save(to, optimize=True)
    for path in data.glob("*.safetensors"):
        shutil.copyfile(path, out / path.name)
    shutil.copytree(data / "masks", out / "masks", dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
