#!/usr/bin/env bash
# A subject before a green screen, over a background: the key is the mask.
#
# You see the subject cut from the green and standing in the background's light. `harmonizebin` does all of it: it keys the green
# out, lays the subject over the background, and harmonizes it by the key.
#
#   pipelines/greenscreen.sh FOREGROUND BACKGROUND OUT.mp4 [PROPERTY=VALUE of harmonizebin ...]
#
# The background gives size and rate. Where shadows of the screen stay, key=custom key-color=0x186028 takes a weaker green than
# key=green does; `gst-inspect-1.0 harmonizebin` has more. xpos, ypos, width and height place the subject, and what belongs to the
# element inside is reached as harmonize::strength=0.5. greenscreen-check.sh shows what a key does to edges.
#
# The queues even out the threads that decode; inside, the bin has its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 3 ] || usage
FG=$1 BG=$2 OUT=$3
shift 3

gst-launch-1.0 -e \
  filesrc location="$BG" ! decodebin ! videoconvert ! queue ! h.background \
  filesrc location="$FG" ! decodebin ! videoconvert ! queue ! h.foreground \
  harmonizebin name=h key=green "$@" ! queue ! videoconvert ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
