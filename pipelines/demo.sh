#!/usr/bin/env bash
# What `make demo` runs: a foreground, its matte and a background become out/demo.mp4, through foreground-over-background.sh
# and so through gst-launch-1.0, and out/demo.png, which shows one frame's composite, mask and result side by side.
#
#   pipelines/demo.sh                              a clip made of two photographs
#   pipelines/demo.sh FOREGROUND MASK BACKGROUND   yours; mask and background are fitted to the foreground's size, rate and length
#
# The photographs are two that the PyPI package scikit-image carries, both in the public domain: `astronaut`, Eileen Collins
# in a studio (NASA), and `rocket`, a Falcon 9 before its launch in the evening (SpaceX). The matte that cuts the astronaut
# out was drawn by hand and is kept in pipelines/demo.
set -euo pipefail
shopt -s inherit_errexit
for file; do set -- "${@:2}" "$(realpath -qm "$file")"; done # paths are the caller's, all the rest is the checkout's
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Everything between this script and GStreamer: visually lossless, with its colours named so that no one has to guess them.
ENCODE=(-an -c:v libx264 -preset veryfast -crf 12 -pix_fmt yuv420p
    -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv -movflags +faststart)
BT709=out_color_matrix=bt709:out_range=tv

say() { printf 'demo: %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
quiet_ffmpeg() { ffmpeg -nostdin -v error -y "$@"; }

# Three seconds at 25 fps in which the camera closes in: on the astronaut to the right, more slowly on the rocket behind.
make_clip() {
    local package=scikit-image==0.26.0 data=out/photos/skimage/data
    if [ ! -e $data/astronaut.png ] || [ ! -e $data/rocket.jpg ]; then
        say "fetching two photographs: they come in $package from PyPI (14 MB)"
        .venv/bin/python -m pip -q download --disable-pip-version-check --no-deps --only-binary :all: -d out/photos $package ||
            fail "pip could not fetch $package: its own message says why"
        .venv/bin/python -m zipfile -e out/photos/scikit_image-*.whl out/photos
    fi
    say "making a clip of them"
    # Four times the size of the clip, so that zoompan's whole pixels are quarters of one.
    local over="scale=2000:2000,pad=3840:2160:1840:160:black"
    local closer="zoompan=z=1+0.08*on/74:x=iw-iw/zoom:y=ih-ih/zoom:d=75:s=960x540:fps=25"
    quiet_ffmpeg -i $data/astronaut.png -vf "format=rgb24,$over,$closer,scale=$BT709" "${ENCODE[@]}" out/foreground.mp4
    quiet_ffmpeg -i pipelines/demo/astronaut-matte.png -vf "format=rgb24,$over,$closer,scale=$BT709" "${ENCODE[@]}" out/mask.mp4
    quiet_ffmpeg -i $data/rocket.jpg -vf "format=rgb24,crop=640:360:0:67,scale=3840:2160,${closer/1+0.08/1.1+0.04},scale=$BT709" \
        "${ENCODE[@]}" out/background.mp4
}

readable() { [ -r "$1" ] || fail "can't read '$1': make demo takes FG=FILE MASK=FILE BG=FILE, all three or none"; }

# WIDTHxHEIGHTxRATExSECONDS, to a tenth of a second.
shape() {
    ffprobe -v error -select_streams v:0 -show_entries stream=width,height,r_frame_rate:format=duration -of csv=p=0:s=x "$1" |
        sed 's/\(\.[0-9]\).*/\1/' | paste -sd x
}

# Prints FILE itself when it has the foreground's shape, else a copy that fills the foreground's frame for as long: a
# shorter clip starts over, a photograph stands still.
fitted() {
    local file=$1 copy=$2 wanted found width height rate seconds again=(-stream_loop -1)
    wanted=$(shape "$FG")
    found=$(shape "$file")
    if [ "$found" != "$wanted" ]; then
        case $found in *x0.0 | *xN/A) again=(-loop 1) ;; esac
        IFS=x read -r width height rate seconds <<<"$wanted"
        say "fitting $file to the foreground's $width x $height at $rate fps" >&2
        quiet_ffmpeg "${again[@]}" -i "$file" -t "$seconds" "${ENCODE[@]}" \
            -vf "scale=$width:$height:force_original_aspect_ratio=increase:$BT709,crop=$width:$height,fps=$rate" "$copy"
        file=$copy
    fi
    printf '%s\n' "$file"
}

# One frame from the middle of each of three clips, labelled, side by side.
make_sheet() {
    local middle panel='scale=960:-2' i=0 graph='' label
    middle=$(ffprobe -v error -show_entries format=duration -of csv=p=0 "$3" | awk '{ print $1 / 2 }')
    for label in composite mask harmonized; do
        graph+="[$i]$panel,drawtext=text=$label:font=DejaVu Sans:fontsize=28:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=10:x=20:y=20[p$i];"
        i=$((i + 1))
    done
    quiet_ffmpeg -ss "$middle" -i "$1" -ss "$middle" -i "$2" -ss "$middle" -i "$3" \
        -filter_complex "${graph}[p0][p1][p2]hstack=3" -frames:v 1 out/demo.png
}

mkdir -p out
case $# in
    0) make_clip; FG=out/foreground.mp4 MASK=out/mask.mp4 BG=out/background.mp4 ;;
    3) for file; do readable "$file"; done
       FG=$1
       MASK=$(fitted "$2" out/fitted-mask.mp4)
       BG=$(fitted "$3" out/fitted-background.mp4) ;;
    *) fail "give a foreground, a mask and a background, or nothing" ;;
esac

say "the composite, untouched"
pipelines/foreground-over-background.sh "$FG" "$MASK" "$BG" out/composite.mp4 strength=0 >/dev/null
say "the composite, harmonized"
pipelines/foreground-over-background.sh "$FG" "$MASK" "$BG" out/demo.mp4 >/dev/null
make_sheet out/composite.mp4 "$MASK" out/demo.mp4
say "out/demo.mp4 is the result, out/composite.mp4 what went in, out/demo.png both with the mask side by side"
