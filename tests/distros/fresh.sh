#!/usr/bin/env bash
# Tries this checkout on a distribution with another GStreamer, as a new user would: a chroot made with debootstrap, README's two
# commands in it, which begin with set-up, and a look at the demo's frames.
#
#   tests/distros/fresh.sh SUITE FOLDER [COMMAND ARG ...]
#
#   SUITE    trixie (Debian 13, GStreamer 1.26) or noble (Ubuntu 24.04, GStreamer 1.24)
#   FOLDER   of the chroot: made where it isn't there, else used again with what was built in it
#   COMMAND  in place of the two, in the checkout's copy: cargo test --locked --test 'element*' --test 'harmonizebin*'
#
# Needs root, debootstrap, git, and Rust by rustup, which is shared with the chroot; for noble the keys of Ubuntu's package
# ubuntu-keyring. The first run takes an hour on two cores and 12 GB. How this machine gets at packages goes along: its mirror of
# Debian, certificates, and what the environment, pip's and cargo's configuration say. Nothing stays mounted.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 root=$(realpath -m "$2")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'fresh: %s\n' "$*"; }
fail() { printf 'fresh: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "has to be root, for chroot"
home=${HOME:-/root}

if [ ! -e "$root/etc/debian_version" ]; then
    command -v debootstrap >/dev/null || fail "debootstrap isn't here: apt-get install debootstrap"
    case $suite in
    trixie)
        # The mirror that this machine's own packages come from, where it is a Debian machine; else debootstrap's.
        mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 2>/dev/null | sed -n 's/^Debian Debian //p' | head -1)
        set_up=(--include=ca-certificates trixie "$root" ${mirror:+"$mirror"})
        ;;
    noble)
        keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg
        [ -e "$keys" ] || fail "$keys isn't here: it comes with Ubuntu's package ubuntu-keyring"
        # One script makes every Ubuntu; debootstrap knows it by the name of the first it was for.
        set_up=(--include=ca-certificates --components=main,universe --keyring="$keys"
            noble "$root" http://archive.ubuntu.com/ubuntu gutsy)
        ;;
    *) fail "no suite $suite: trixie or noble" ;;
    esac
    say "making $suite in $root"
    debootstrap --variant=minbase "${set_up[@]}" >"$root.log" 2>&1 || fail "debootstrap could not: $root.log says why"
fi

# What packages are fetched with.
for file in /etc/pip.conf /etc/resolv.conf /etc/hosts "$home/.config/pip/pip.conf" /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || install -D -m 644 "$file" "$root$file"
done
for file in /etc/apt/apt.conf.d/*proxy*; do [ ! -e "$file" ] || cp "$file" "$root/etc/apt/apt.conf.d/"; done

# The checkout as it is, changes that aren't committed included; what was built or fetched in the copy stays.
copy=/root/gst-harmonize
mkdir -p "$root$copy" "$root/root/shared" "$root$home/.cargo" "$root$home/.rustup"
find "$root$copy" -mindepth 1 -maxdepth 1 ! -name target ! -name '.venv*' ! -name out -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar -c --null -T - | tar -x -C "$root$copy"

# In a mount namespace of its own, so that all of it goes away with the last process.
inside() {
    unshare --mount bash -euc '
        root=$1 home=$2 shared=$3
        shift 3
        for kind in proc sys dev; do mount --rbind "/$kind" "$root/$kind"; done
        for folder in .cargo .rustup; do mount --bind "$home/$folder" "$root$home/$folder"; done
        [ ! -e "$shared" ] || mount --bind -o ro "$shared" "$root/root/shared"
        exec chroot "$root" env HOME="$home" PATH="$home/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
            DEBIAN_FRONTEND=noninteractive bash -ec "cd '$copy'; exec \"\$@\"" inside "$@"
    ' inside "$root" "$home" "$(realpath -m ../shared)" "$@"
}

# GES for the test that is skipped without; git and make as a user has them.
inside sh -c 'apt-get -qq update && apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends \
    make git python3-gi gir1.2-ges-1.0 gir1.2-gst-plugins-base-1.0 >/dev/null'
if [ $# -gt 0 ]; then
    inside "$@"
    exit
fi

inside make demo
# Mean luma that changes from each frame to the next, in codes of 255: the camera moves slowly, a subject that comes or goes is seen.
# shellcheck disable=SC2016
inside bash -ec '
    for film in composite demo; do
        ffprobe -v error -f lavfi "movie=out/$film.mp4,tblend=all_mode=difference,signalstats" \
            -show_entries frame_tags=lavfi.signalstats.YAVG -of csv=p=0 |
            awk -v film=$film "{ n++; if (\$1 > 5) { print film \": frame \" n \" differs by \" \$1; bad = 1 } }
                END { if (n < 74 || bad) { print film \": \" n + 1 \" frames\"; exit 1 } }"
    done'
say "make demo: the subject is in all its frames"
inside make test
say "both of README's commands passed on GStreamer $(inside pkg-config --modversion gstreamer-1.0)"
