#!/usr/bin/env bash
# Is the key right? A green-screen take, keyed and harmonized by `harmonizebin`, as a sheet to look at.
#
# The take is FOREGROUND, cut out by its MATTE, before a green backing as studios have it: lit from one side, half as bright in
# the corners, with camera noise, compressed. You see its composite, mask and result side by side in OUT.png, and below them an
# edge, large. The mask there is what `alpha` gives with the settings that key=green has.
#
#   pipelines/greenscreen-check.sh FOREGROUND MATTE BACKGROUND OUT.png [PROPERTY=VALUE of harmonizebin ...]
#
# All three files have one size and frame rate. FRAME=37 and EDGE=740:180, the zoom's left upper corner, choose what is shown.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 4 ] || usage
FG=$1 MATTE=$2 BG=$3 OUT=$4
shift 4
FRAME=${FRAME:-37} EDGE=${EDGE:-740:180}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quiet_ffmpeg() { ffmpeg -nostdin -v error -y "$@"; }
size=$(ffprobe -v error -select_streams v:0 -show_entries stream=width,height -of csv=p=0:s=x "$FG")

light='(0.62+0.5*exp(-(pow(X/W-0.4,2)+pow((Y-H*0.4)/W,2))*4))'
quiet_ffmpeg -f lavfi -i "color=0x2f9e46:s=$size,format=gbrp,geq=r='r(X,Y)*$light':g='g(X,Y)*$light':b='b(X,Y)*$light'" \
    -frames:v 1 "$work/backing.png"
quiet_ffmpeg -i "$FG" -i "$MATTE" -loop 1 -i "$work/backing.png" -frames:v $((FRAME + 1)) -filter_complex \
    "[0]format=gbrp[f];[1]format=gray,format=gbrp[m];[2]format=gbrp[b];[b][f][m]maskedmerge,noise=alls=6:allf=t,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p" \
    -c:v libx264 -preset veryfast -crf 14 -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv "$work/take.mp4"

for picture in composite:0 result:1; do
    gst-launch-1.0 -q harmonizebin name=h key=green "$@" harmonize::strength="${picture#*:}" ! \
        videoconvert ! x264enc pass=quant quantizer=2 speed-preset=ultrafast ! mp4mux ! filesink location="$work/${picture%:*}.mp4" \
        filesrc location="$work/take.mp4" ! decodebin ! h.foreground \
        filesrc location="$BG" ! decodebin ! h.background
done
gst-launch-1.0 -q filesrc location="$work/take.mp4" ! decodebin ! videoconvert ! \
    alpha method=custom target-r=32 target-g=110 target-b=48 angle=85 noise-level=6 black-sensitivity=128 white-sensitivity=128 ! \
    alphamask ! videoconvert ! x264enc pass=quant quantizer=2 speed-preset=ultrafast ! mp4mux ! filesink location="$work/mask.mp4"

# A picture above its edge; labels of one graph have to differ.
column() { echo "[$1]select=eq(n\\,$FRAME),format=rgb24,split[a$1][b$1];[a$1]scale=720:-2[c$1];[b$1]crop=240:200:$EDGE,scale=720:-2:flags=neighbor[d$1];[c$1][d$1]vstack[$2]"; }
quiet_ffmpeg -i "$work/composite.mp4" -i "$work/mask.mp4" -i "$work/result.mp4" -frames:v 1 -filter_complex \
    "$(column 0 x);$(column 1 y);$(column 2 z);[x][y][z]hstack=3" "$OUT"
