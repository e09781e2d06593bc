#!/usr/bin/env bash
# Fill and key as two streams, the way a keyer or a graphics machine delivers them, over a background.
#
# You see the background with the fill on it wherever the key is bright, in the background's light.
#
#   pipelines/fill-and-key.sh FILL KEY BACKGROUND OUT.mp4 [PROPERTY=VALUE of harmonize ...]
#
# All three have one size, frame rate and length. Off two SDI cables, put `decklinkvideosrc device-number=0` and 1 in place of
# `filesrc ! decodebin`, and a queue with max-size-buffers=3 behind each.
#
# The key is luma of limited range: 16 is background, 235 foreground. It is made GRAY8 of full range once (1:0:0:0), for
# `alphamerge`, whose alpha is 0 to 255, and for `harmonize` alike; taken as it is, 16 would be a veil over the whole
# picture and 235 a foreground that lets the background through. The fill is straight ("unshaped"): one that is multiplied
# with its key already would be so twice, and get dark edges.
#
# The queues. Decoders run ahead, so those from the files hold a few frames each; by frames, since three of 4K are more than
# the default's 10 MB. Two queues leave the tee: fill and key meet again in `alphamerge`, so that one needs little, while
# the mask waits until `compositor`, which holds two frames, and a queue of three have passed its composite on: eight hold it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 4 ] || usage
FILL=$1 KEY=$2 BG=$3 OUT=$4
shift 4
FEW="max-size-buffers=3 max-size-bytes=0 max-size-time=0"
MASKS="max-size-buffers=8 max-size-bytes=0 max-size-time=0"

exec gst-launch-1.0 -e \
  filesrc location="$BG" ! decodebin ! videoconvert ! queue $FEW ! mix.sink_0 \
  filesrc location="$FILL" ! decodebin ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue $FEW ! cut.sink \
  filesrc location="$KEY" ! decodebin ! videoconvert ! video/x-raw,format=GRAY8,colorimetry=1:0:0:0 ! tee name=key \
  key. ! queue $FEW ! cut.mask \
  key. ! queue $MASKS ! h.mask \
  alphamerge name=cut ! mix.sink_1 \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue $FEW ! h.sink \
  harmonize name=h mask-range=full "$@" ! queue $FEW ! x264enc pass=quant quantizer=18 speed-preset=veryfast ! mp4mux ! filesink location="$OUT"
