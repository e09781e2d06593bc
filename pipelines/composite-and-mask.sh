#!/usr/bin/env bash
# A composite that is made already, with its mask in a second file.
#
# You see the same shot with the masked subject matched to the rest of the picture; outside the mask nothing changes.
#
#   pipelines/composite-and-mask.sh COMPOSITE MASK OUT.mp4 [PROPERTY=VALUE of harmonize ...]
#
# The mask may have another size, frame rate or format: it is scaled, and paired with the composite by running time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 3 ] || usage
COMPOSITE=$1 MASK=$2 OUT=$3
shift 3

gst-launch-1.0 -e \
  filesrc location="$COMPOSITE" ! decodebin ! videoconvert ! queue ! h.sink \
  filesrc location="$MASK" ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! queue max-size-bytes=0 ! h.mask \
  harmonize name=h "$@" ! queue ! videoconvert ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
