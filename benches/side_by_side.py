#!/usr/bin/env python3
"""The networks of this crate beside diffusers: same weights, inputs, threads and libtorch, turn by turn.

Both processes stay loaded and one waits while the other works. What is compared is the median over rounds of ours / theirs,
each taken back to back, by the clock and by the time on processors (which other processes disturb less), and how far the two
answers are apart in relative L2 norm. Diffusers runs as it comes: its default
attention (scaled_dot_product_attention) and memory format, under inference_mode; `channels_last` beside it is what a user
can switch on by hand.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path, help="folder with base/unet, base/vae and base/scheduler, safetensors")
parser.add_argument("--kinds", default="f32,bf16")
parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
parser.add_argument("--work", default="unet:64,unet:128,frame:512", help="sides of the latent or of the picture")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--warmups", type=int, default=1)
parser.add_argument("--channels-last", action="store_true", help="also time diffusers with channels_last")
parser.add_argument("--ours", default="cargo bench -q --bench diffharmony --", help="the command that runs ours")
parser.add_argument("--json", type=Path, help="write every time here")
args = parser.parse_args()

os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
STEPS = 5


class Ours:
    def __init__(self, kind: str, folder: Path):
        command = [*args.ours.split(), str(args.model.resolve()), kind, str(args.threads), args.device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.output = folder / "ours.safetensors"
        self.load_seconds = float(self.answer())

    def answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("our process ended: its own message says why")
        return line

    def ask(self, line: str) -> list[float]:
        print(line, file=self.process.stdin, flush=True)
        return [float(word) for word in self.answer().split()]

    def run(self, work: str, given: Path) -> tuple[list[float], torch.Tensor]:
        seconds = self.ask(f"{work} {given} {self.output}")
        return seconds, load_file(self.output)["y"]

    def close(self) -> float:
        """Peak memory in bytes."""
        [peak] = self.ask("memory")
        self.process.stdin.close()
        self.process.wait()
        return peak


def finish():
    """Waits for what the device has been given to do."""
    if args.device == "cuda":
        torch.cuda.synchronize()


class Diffusers:
    def __init__(self, kind: str):
        start = time.perf_counter()
        self.kind = KINDS[kind]
        self.unet = UNet2DConditionModel.from_pretrained(args.model / "base/unet", torch_dtype=self.kind).to(args.device)
        self.vae = AutoencoderKL.from_pretrained(args.model / "base/vae", torch_dtype=self.kind).to(args.device)
        self.scheduler = DDIMScheduler.from_pretrained(args.model / "base/scheduler")
        self.load_seconds = time.perf_counter() - start

    def format(self, memory_format: torch.memory_format):
        self.unet.to(memory_format=memory_format)
        self.vae.to(memory_format=memory_format)

    @torch.inference_mode()
    def run(self, work: str, given: Path) -> tuple[list[float], torch.Tensor]:
        given = {name: tensor.to(args.device) for name, tensor in load_file(given).items()}
        given = {name: tensor.to(self.kind) if name != "t" else tensor for name, tensor in given.items()}
        finish()
        start = time.perf_counter(), time.process_time()
        y = (self.step if work == "unet" else self.frame)(given)
        finish()
        return [time.perf_counter() - start[0], time.process_time() - start[1]], y.float().cpu()

    def step(self, given: dict) -> torch.Tensor:
        return self.unet(given["x"], given["t"], encoder_hidden_states=given["text"]).sample

    def frame(self, given: dict) -> torch.Tensor:
        scale = self.vae.config.scaling_factor
        composite_latents = self.vae.encode(given["composite"]).latent_dist.mode() * scale
        mask = torch.nn.functional.interpolate(given["mask"], size=composite_latents.shape[-2:])
        self.scheduler.set_timesteps(STEPS)
        latents = given["noise"] * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            x = torch.cat([self.scheduler.scale_model_input(latents, t), mask, composite_latents], dim=1)
            noise = self.unet(x, t, encoder_hidden_states=given["text"]).sample
            latents = self.scheduler.step(noise, t, latents).prev_sample
        return self.vae.decode(latents / scale).sample


def make_input(work: str, side: int, path: Path):
    random = torch.Generator().manual_seed(side)
    normal = lambda *shape: torch.randn(shape, generator=random)  # noqa: E731
    given = {"text": normal(1, 77, 768)}
    if work == "unet":
        given |= {"x": normal(1, 9, side, side), "t": torch.tensor([601.0])}
    else:
        mask = torch.zeros(1, 1, side, side)
        mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
        given |= {"composite": normal(1, 3, side, side).clamp(-1, 1), "mask": mask}
        given |= {"noise": normal(1, 4, side // 8, side // 8)}
    save_file(given, path)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def compare(kind: str, folder: Path) -> list[dict]:
    ours, theirs = Ours(kind, folder), Diffusers(kind)
    print(f"{kind}, {args.threads} threads: loaded in {ours.load_seconds:.1f} s, diffusers {theirs.load_seconds:.1f} s", flush=True)
    rows = []
    for name in args.work.split(","):
        work, side = name.split(":")
        given = folder / f"{work}{side}.safetensors"
        make_input(work, int(side), given)
        runners = {"ours": ours.run, "diffusers": theirs.run}
        if args.channels_last:
            runners["channels_last"] = theirs.run
        times = {runner: [] for runner in runners}
        for i in range(args.warmups + args.rounds):
            answers = {}
            for runner, run in runners.items():
                if args.channels_last and runner != "ours":
                    last = runner == "channels_last"
                    theirs.format(torch.channels_last if last else torch.contiguous_format)
                seconds, answers[runner] = run(work, given)
                if i >= args.warmups:
                    times[runner].append(seconds)
        row = {"work": name, "kind": kind, "threads": args.threads, "load_average": os.getloadavg()[0], "seconds": times}
        row["relative_l2"] = distance(answers["ours"], answers["diffusers"])
        row["median"] = {runner: [statistics.median(column) for column in zip(*t)] for runner, t in times.items()}
        row["ratio"] = {
            runner: [statistics.median(a[i] / b[i] for a, b in zip(times["ours"], t)) for i in range(2)]
            for runner, t in times.items()
            if runner != "ours"
        }
        rows.append(row)
        print(json.dumps({key: value for key, value in row.items() if key != "seconds"}), flush=True)
    print(f"{kind}: our peak memory {ours.close() / 2**30:.2f} GiB", flush=True)
    return rows


def main():
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for kind in args.kinds.split(",") for row in compare(kind, Path(folder))]
    print("\n| work | kind | threads | ours s | diffusers s | ratio | on processors: ours s | diffusers s | ratio | apart |")
    print("|---" * 10 + "|")
    for row in rows:
        ours, theirs, ratio = row["median"]["ours"], row["median"]["diffusers"], row["ratio"]["diffusers"]
        figures = [f"{x:.2f}" for i in range(2) for x in (ours[i], theirs[i], ratio[i])]
        print("|", " | ".join([row["work"], row["kind"], str(row["threads"]), *figures, f"{row['relative_l2']:.1e}"]), "|")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


main()
