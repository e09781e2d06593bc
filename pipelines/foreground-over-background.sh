#!/usr/bin/env bash
# A foreground and its matte over a background, the whole way from three files to one.
#
# You see the background plate with the subject in it, lit and coloured like the plate: `alphamerge` makes foreground and
# matte one stream with alpha, `compositor` lays it over the background, `harmonize` gets that composite and the same matte.
#
#   pipelines/foreground-over-background.sh FOREGROUND MASK BACKGROUND OUT.mp4 [PROPERTY=VALUE of harmonize ...]
#
# strength=0 as last argument writes the plain composite, to compare. All three files have one size and frame rate.
# The queues at the tee hold frames by time, not bytes: the matte waits for its composite however large it is.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 4 ] || usage
FG=$1 MASK=$2 BG=$3 OUT=$4
shift 4

gst-launch-1.0 -e \
  filesrc location="$BG" ! decodebin ! queue ! mix.sink_0 \
  filesrc location="$FG" ! decodebin ! videoconvert ! video/x-raw,format=I420 ! queue ! cut.sink \
  filesrc location="$MASK" ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! tee name=matte \
  matte. ! queue max-size-bytes=0 ! cut.mask \
  matte. ! queue max-size-bytes=0 ! h.mask \
  alphamerge name=cut ! mix.sink_1 \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue ! h.sink \
  harmonize name=h "$@" ! queue ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
