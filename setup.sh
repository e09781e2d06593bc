#!/usr/bin/env bash
# Takes a bare machine with Debian 12 (GStreamer 1.22), 13 (1.26) or Ubuntu 24.04 (1.24), which are tested, to where `cargo build` works:
# the Debian packages that are missing, a virtual environment in .venv with the pinned libtorch wheel, and .venv/libtorch,
# the folder of links the build and the plugin use.
# What is there already is left alone, so it can be run again at any time, after an interruption too.
#
#   CUDA=auto|yes|no   with yes, the wheel's CUDA half can be used too; auto asks whether there is an NVIDIA driver
#   LIBTORCH=FOLDER    a libtorch of your own: no wheel is fetched then
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PATH=$PATH:${HOME:-/root}/.cargo/bin # where rustup puts cargo, for a shell that was open before

TORCH=2.11.0 # the one version that the tch in Cargo.toml takes
SLIM=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85) # all that libtorch_cpu.so itself links to

PACKAGES=(
    ca-certificates make g++ pkg-config python3-venv
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libfontconfig-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad  # netsim, error correction for RTP
    gstreamer1.0-plugins-ugly # x264enc
    gstreamer1.0-libav        # avdec_h264, avenc_prores_ks
    gstreamer1.0-x            # ximagesink: the live scripts' window
    ffmpeg fonts-dejavu-core
)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

check_cargo() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || found=
    [ -n "$found" ] && printf '%s\n' "$wanted" "$found" | sort -CV ||
        fail "Rust $wanted or newer is needed and ${found:-none} is here: install it from https://rustup.rs, then run this again"
}

install_packages() {
    if ! command -v apt-get dpkg-query >/dev/null; then
        pkg-config --exists gstreamer-video-1.0 2>/dev/null ||
            fail "this is not Debian: install what these packages hold, then run this again: ${PACKAGES[*]}"
        return
    fi
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then return; fi

    local root=(env)
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "Debian packages are missing and sudo isn't here to install them: as root, apt-get install ${missing[*]}"
        root=(sudo env)
    fi
    say "installing ${missing[*]}"
    root+=(DEBIAN_FRONTEND=noninteractive)
    local apt=("${root[@]}" apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
    "${root[@]}" dpkg --configure -a # finishes what an interrupted run left half done
    "${apt[@]}" update || say "apt-get update had errors; trying the package lists that are here"
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install the packages above: its own message says why"
}

# Before anything is installed: can what was asked for be done?
check_choices() {
    case ${CUDA:-auto} in auto | yes | no) ;; *) fail "CUDA=$CUDA is not one of auto, yes, no" ;; esac
    [ -z "${LIBTORCH:-}" ] || [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] ||
        fail "LIBTORCH is set to $LIBTORCH and lib/libtorch_cpu.so is not there: unset it, or set it to a libtorch $TORCH folder"
}

wants_cuda() {
    case ${CUDA:-auto} in
        auto) [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null ;;
        *) [ "$CUDA" = yes ] ;;
    esac
}

make_venv() {
    rm -rf .venv
    python3 -m venv .venv || fail "python3 could not make a virtual environment in .venv: its own message says why"
}

# True when every named wheel is in .venv in that version with each of its files: an interrupted pip leaves some out.
wheels_complete() {
    [ -x .venv/bin/python ] && .venv/bin/python - "$@" <<'PYTHON' 2>/dev/null
import sys
from importlib.metadata import distribution
for name, version in (wheel.split("==") for wheel in sys.argv[1:]):
    wheel = distribution(name)
    if wheel.version.split("+")[0] != version or not all(file.locate().exists() for file in wheel.files):
        sys.exit(1)
PYTHON
}

install_libtorch() {
    local wheels=(torch==$TORCH) pip=(--no-deps)
    if wants_cuda; then
        pip=()
        wheels_complete "${wheels[@]}" && .venv/bin/python -m pip -q check >/dev/null && return
        say "NVIDIA driver: fetching torch $TORCH with all its CUDA libraries into .venv (about 3 GB)"
    else
        wheels+=("${SLIM[@]}")
        wheels_complete "${wheels[@]}" && return
        say "no NVIDIA driver: fetching torch $TORCH without its CUDA libraries into .venv (about 550 MB)"
    fi
    make_venv
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --only-binary :all: "${pip[@]}" "${wheels[@]}" ||
        fail "pip could not fetch ${wheels[*]}: its own message says why"
}

# .venv/libtorch: what the build links to and the plugin loads. Without libtorch_cuda, which would become a dependency of
# the plugin file: the plugin loads it by itself, from where libtorch_cpu.so really lies, when a CUDA device is asked for.
link_libtorch() {
    local site file source
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p .venv/libtorch/lib
    link "$site/torch/include" .venv/libtorch/include
    for file in libtorch.so libtorch_cpu.so libc10.so libgomp.so.1 libcudart.so.13 libcupti.so.13; do
        source=$(find "$site/torch/lib" "$site"/nvidia/*/lib -maxdepth 1 -name "$file" -print -quit)
        [ -n "$source" ] || fail "$file is in none of the wheels under $site: remove .venv and run this again"
        link "$source" ".venv/libtorch/lib/$file"
    done
}

link() {
    [ "$(readlink -f "$2")" = "$(readlink -f "$1")" ] || ln -sfnr "$1" "$2"
}

check_cargo
check_choices
install_packages
if [ -n "${LIBTORCH:-}" ]; then
    [ -x .venv/bin/python ] || make_venv # the demo fetches its photographs with its pip
    say "ready, with the libtorch in $LIBTORCH"
else
    install_libtorch
    link_libtorch
    say "ready, with libtorch $TORCH in .venv/libtorch"
fi
