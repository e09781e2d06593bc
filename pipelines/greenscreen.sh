#!/usr/bin/env bash
# A subject before a green screen, over a background: the key is the mask.
#
# You see the subject cut from the green and standing in the background's light. `alpha` keys the green out, and the keyed
# stream goes two ways: over the background in `compositor`, and into `harmonize`, which takes its alpha as the mask.
#
#   pipelines/greenscreen.sh FOREGROUND BACKGROUND OUT.mp4 [PROPERTY=VALUE of harmonize ...]
#
# Both files have one size and frame rate. KEY in the environment holds the properties of `alpha`. It is method=green, the
# green of a computer; a real screen needs its own colour, KEY="method=custom target-r=40 target-g=168 target-b=72", or most of it
# stays as a veil. noise-level=20 takes out its unevenness and grain, angle=45 a green fringe, and some fine hair with it.
#
# `alpha` forgets which matrix its samples are of, and for less than HD bt601 is guessed, which shifts both pictures' colours:
# capssetter says it again.
#
# The queues from the tee hold frames by number: of 1080p with alpha the default's bytes are one frame, and its second two
# hundred megabytes. The mask waits for its composite, which `compositor` gives two frames later, after a queue: eight hold it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 3 ] || usage
FG=$1 BG=$2 OUT=$3 KEY=${KEY:-method=green}
shift 3

gst-launch-1.0 -e \
  filesrc location="$BG" ! decodebin ! queue ! mix.sink_0 \
  filesrc location="$FG" ! decodebin ! videoconvert ! video/x-raw,format=AYUV,colorimetry=bt709 ! \
    alpha $KEY ! capssetter caps=video/x-raw,colorimetry=bt709 ! tee name=key \
  key. ! queue max-size-buffers=8 max-size-bytes=0 ! mix.sink_1 \
  key. ! queue max-size-buffers=8 max-size-bytes=0 ! h.mask \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue ! h.sink \
  harmonize name=h "$@" ! queue ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
