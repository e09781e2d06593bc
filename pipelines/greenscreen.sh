#!/usr/bin/env bash
# A subject before a green screen, over a background: the key is the mask.
#
# You see the subject cut from the green and standing in the background's light. `alpha` keys the green out, and the keyed
# stream goes two ways: over the background in `compositor`, and into `harmonize`, which takes its alpha as the mask.
#
#   pipelines/greenscreen.sh FOREGROUND BACKGROUND OUT.mp4 [PROPERTY=VALUE of harmonize ...]
#
# Both files have one size and frame rate. A key that leaves a fringe is tuned in `alpha`: angle and noise-level.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 3 ] || usage
FG=$1 BG=$2 OUT=$3
shift 3

gst-launch-1.0 -e \
  filesrc location="$BG" ! decodebin ! queue ! mix.sink_0 \
  filesrc location="$FG" ! decodebin ! videoconvert ! alpha method=green ! tee name=key \
  key. ! queue max-size-bytes=0 ! mix.sink_1 \
  key. ! queue max-size-bytes=0 ! h.mask \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue ! h.sink \
  harmonize name=h "$@" ! queue ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
