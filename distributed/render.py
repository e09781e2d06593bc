#!/usr/bin/env python3
"""Harmonizes a folder of clips on a Ray cluster, shard by shard.

Every clip is cut into ranges of a few seconds, every range is a Ray task that runs `harmonize video --start --stop`, and
the pieces of a clip are joined by `harmonize join` with the clip's own sound. All machines see CLIPS and OUT under the same
paths. A piece has its name only once it is whole, so work that was done stays done, whoever is lost and however often this
is run.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray  # noqa: E402
from tqdm import tqdm  # noqa: E402

EXAMPLES = """\
clips lie like this, named as you like:
  clips/beach/composite.mp4  clips/beach/mask.mp4
  clips/alley/composite.mp4  clips/alley/mask.mp4

examples:
  python distributed/render.py clips out                      # on this machine, a shard on every processor
  python distributed/render.py clips out --address auto       # on the cluster this machine belongs to
  python distributed/render.py clips out --h264 --shard-seconds 60 -- --model models/mine --strength 0.8

You should see a bar that counts shards, and then out/beach.mkv and out/alley.mkv (.mp4 with --h264). Run it again to go on
after an interruption: pieces in out/beach.pieces are taken as they are. Remove them after you changed clips or options.
"""


class Failed(Exception):
    """What went wrong, as a sentence."""


@dataclass(frozen=True)
class Shard:
    """The frames of a clip that start in [start, stop) seconds; None stands for the clip's ends."""

    clip: Path
    start: float | None
    stop: float | None
    piece: Path


def run(command):
    """Runs a program to its end and returns what it prints; its last words are the error."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"{command[0]} can't be run: {error.strerror}, give its path with --harmonize") from error
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"]
        raise Failed(words[-1].removeprefix("harmonize: "))
    return done.stdout


def frame_times(film):
    """When each frame starts, in seconds, read from the file without decoding it."""
    entries = ["-show_entries", "packet=pts_time", "-of", "csv=p=0"]
    lines = run(["ffprobe", "-v", "error", "-select_streams", "v:0", *entries, film]).split()
    try:
        return sorted(float(line.rstrip(",")) for line in lines)
    except ValueError as error:
        raise Failed(f"{film}: a frame of it has no time") from error


def shards(clip, folder, seconds, kind):
    """Cuts a clip into shards of about so many seconds. Cuts lie half-way between two frames, where rounding does no harm."""
    times = frame_times(clip / "composite.mp4")
    if not times:
        raise Failed(f"{clip / 'composite.mp4'}: no video in it")
    count = min(max(1, math.ceil((times[-1] - times[0]) / seconds)), len(times))
    firsts = [i * len(times) // count for i in range(1, count)]
    cuts = [None, *((times[i - 1] + times[i]) / 2 for i in firsts), None]
    names = (folder / f"{i:05}.{kind}" for i in range(count))
    return [Shard(clip, start, stop, piece) for start, stop, piece in zip(cuts, cuts[1:], names)]


def render(shard, harmonize, options):
    """Renders a shard into its piece; one that is there already is whole."""
    if shard.piece.exists():
        return
    shard.piece.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each try: one that is believed lost may still be writing.
    partial = shard.piece.with_name(f"{os.getpid()}.{os.urandom(4).hex()}.{shard.piece.name}")
    films = ["--composite", shard.clip / "composite.mp4", "--mask", shard.clip / "mask.mp4"]
    bounds = (("--start", shard.start), ("--stop", shard.stop))
    # A range from 0 on is a piece too, where a film without a range is not.
    times = [word for name, time in bounds if time is not None for word in (name, f"{time:.9f}")] or ["--start", "0"]
    try:
        # As many threads as the task has processors, unless the options say otherwise: the later one holds.
        run([harmonize, "video", "--workers", "1", *films, "--no-sound", "-o", partial, *times, *options])
        os.replace(partial, shard.piece)
    except Failed as error:
        raise Failed(f"{shard.piece}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def join(clip, pieces, film, harmonize):
    """Joins a clip's pieces, in order, into the film, with the sound of the composite where it has any."""
    composite = clip / "composite.mp4"
    entries = ["-select_streams", "a", "-show_entries", "stream=index", "-of", "csv=p=0"]
    sound = ["--sound", composite] if run(["ffprobe", "-v", "error", *entries, composite]).strip() else []
    run([harmonize, "join", *pieces, "-o", film, *sound])


def finished(tasks):
    """Yields each task when it is done."""
    while tasks:
        done, tasks = ray.wait(tasks)
        yield from done


def render_all(args):
    """Renders and joins every clip; a clip that fails doesn't hold up the others."""
    clips = sorted(path.parent for path in args.clips.glob("*/composite.mp4"))
    if not clips:
        raise Failed(f"{args.clips}: no clips in it, they lie as NAME/composite.mp4 and NAME/mask.mp4")
    kind, options = ("mp4", []) if args.h264 else ("mkv", ["--lossless"])
    work, failures = {}, {}
    for clip in clips:
        film = args.out / f"{clip.name}.{kind}"
        if not film.exists():
            try:
                work[clip, film] = shards(clip, args.out / f"{clip.name}.pieces", args.shard_seconds, kind)
            except Failed as error:
                failures[clip] = error
    # One processor for each task. A lost process or machine, and a failed one, are tried again elsewhere.
    task = ray.remote(num_cpus=1, max_retries=args.retries, retry_exceptions=True)(render)
    options = [*options, *args.options]
    tasks = {task.remote(s, args.harmonize, options): s for todo in work.values() for s in todo}
    for done in tqdm(finished(list(tasks)), total=len(tasks), unit="shard"):
        try:
            ray.get(done)
        except (Failed, ray.exceptions.RayError) as error:
            failures[tasks[done].clip] = getattr(error, "cause", None) or error
    for (clip, film), todo in work.items():
        if clip not in failures:
            try:
                join(clip, [shard.piece for shard in todo], film, args.harmonize)
                shutil.rmtree(todo[0].piece.parent, ignore_errors=True)
            except Failed as error:
                failures[clip] = error
    if failures:
        raise Failed("; ".join(f"{clip.name}: {error}" for clip, error in failures.items()))


def arguments():
    """What the command line says."""
    form = argparse.RawDescriptionHelpFormatter
    usage = "render.py [OPTION...] CLIPS OUT [-- OPTION OF harmonize video...]"
    parser = argparse.ArgumentParser(usage=usage, description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder with a folder for each clip")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the films, made where it isn't there")
    parser.add_argument("--address", help="of the Ray cluster, or auto for the one this machine is in; else a Ray of its own")
    parser.add_argument("--shard-seconds", type=float, default=10, metavar="S", help="length of a shard (10); a lost one is rendered again")
    parser.add_argument("--retries", type=int, default=3, metavar="N", help="tries more for a shard that fails or is lost (3)")
    parser.add_argument("--harmonize", default="harmonize", metavar="PATH", help="the command line harmonize, at that path on every machine")
    parser.add_argument("--h264", action="store_true", help="H.264 in .mp4 instead of FFV1 in .mkv, a tenth of the size; not to the bit around joins")
    words = sys.argv[1:]
    # What stands behind -- is not for argparse, which would look for its own options in it.
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    args.options = words[end + 1 :]
    if args.shard_seconds <= 0 or args.retries < 0:
        parser.error("--shard-seconds is more than 0, and --retries not less")
    args.harmonize = shutil.which(args.harmonize) or args.harmonize
    return args


def main():
    """Exit code 0, or 1 and a sentence."""
    args = arguments()
    try:
        args.clips, args.out = args.clips.resolve(strict=True), args.out.resolve()
        args.out.mkdir(parents=True, exist_ok=True)
        ray.init(address=args.address, log_to_driver=False, include_dashboard=False if args.address is None else None)
        render_all(args)
    except (Failed, ConnectionError) as error:
        sys.exit(f"render.py: {error}")
    except OSError as error:
        sys.exit(f"render.py: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
