"""Runs render.py on a cluster of two nodes with a processor each, all on this machine, and takes parts of it away.

    cluster.py CLIPS OUT HARMONIZE [OPTION...]

leaves the films of three runs in OUT/whole, OUT/worker and OUT/node. In the second a worker process is killed and in the third
a whole node, both while a shard is being rendered: the program that stands for HARMONIZE stops there, says who waits for it,
and renders only when it is called again.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_prestart_worker_first_driver"] = "0"
from ray.cluster_utils import Cluster  # noqa: E402

RENDER = Path(__file__).parents[2] / "distributed" / "render.py"
# Stops the first time that it renders for the raylet $1 where that is a number, for any where it is "any".
STOPS = """#!/bin/sh
if [ "$1" = video ] && [ "$(cat '{here}/victim')" = "$RAY_RAYLET_PID" -o "$(cat '{here}/victim')" = any ] && mkdir '{here}/taken' 2>/dev/null
then
    echo $PPID $$ >'{here}/stopped.new' && mv '{here}/stopped.new' '{here}/stopped'
    exec sleep 100
fi
exec '{harmonize}' "$@"
"""


def wait_for(what, true):
    """Until something is true, a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, f"no {what} within a minute"
        time.sleep(0.05)


def state(pid):
    """The state letter of a process; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return ""


def render(cluster, clips, out, program, options, take_away=None):
    """One run of render.py, which has to succeed; `take_away` gets the process that renders a shard meanwhile."""
    command = [sys.executable, RENDER, clips, out, "--address", cluster.address, "--harmonize", program]
    command += ["--shard-seconds", "0.3", "--", *options]
    running = subprocess.Popen([str(word) for word in command])
    try:
        if take_away:
            stopped = program.parent / "stopped"
            wait_for("shard", lambda: stopped.exists() or running.poll() is not None)
            worker, child = (int(pid) for pid in stopped.read_text().split())
            name = Path(f"/proc/{worker}/cmdline").read_text()
            assert name.startswith("ray::render"), f"{worker} is {name}, no worker at its task"
            # It has told of itself before it sleeps.
            wait_for("shard that stands still", lambda: state(child) in ("S", "") or running.poll() is not None)
            assert state(child) == "S" and running.poll() is None, "the shard is not being rendered"
            take_away(worker)
            wait_for(f"end of {worker}", lambda: state(worker) in ("", "Z"))
            print(f"taken away in the middle of a shard: worker {worker}", flush=True)
            if state(child):
                os.kill(child, signal.SIGKILL)
        assert running.wait(timeout=120) == 0, f"render.py ended with {running.returncode}"
    finally:
        running.kill()


def program(folder, harmonize, victim):
    """A program that renders as `harmonize` does, but stops once for `victim`."""
    folder.mkdir(parents=True)
    (folder / "victim").write_text(str(victim))
    path = folder / "harmonize"
    path.write_text(STOPS.format(here=folder, harmonize=harmonize))
    path.chmod(0o755)
    return path


def main():
    clips, out, harmonize = (Path(word).resolve() for word in sys.argv[1:4])
    options = sys.argv[4:]
    small = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=80 * 1024 * 1024)
        cluster.wait_for_nodes(timeout=60)
        render(cluster, clips, out / "whole", harmonize, options)
        kill = program(out / "kill-worker", harmonize, "any")
        render(cluster, clips, out / "worker", kill, options, lambda worker: os.kill(worker, signal.SIGKILL))
        raylet = node.all_processes["raylet"][0].process.pid
        remove = program(out / "remove-node", harmonize, raylet)
        render(cluster, clips, out / "node", remove, options, lambda _: cluster.remove_node(node, allow_graceful=False))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
