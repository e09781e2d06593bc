#!/usr/bin/env bash
# A camera before a green screen, over a background, now: the live brother of greenscreen.sh.
#
# You see the subject cut from the green and standing in the background's light, in a window or a file. `alpha` keys the
# green out; the keyed stream goes over the background in `compositor`, and into `harmonize`, which takes its alpha as the mask.
#
#   pipelines/greenscreen-live.sh SOURCE BACKGROUND SINK [PROPERTY=VALUE of harmonize ...]
#
#   SOURCE      /dev/video0 or another camera, or test: a ball that moves about on green
#   BACKGROUND  a picture, or test: colour bars
#   SINK        window, none, or FILE.ts: H.264 in a transport stream, which is whole wherever it ends. Ctrl-C ends all of them.
#
# In the environment: SIZE=1280x720 and RATE=30 of all that runs through it, and KEY, the properties of `alpha`. It is method=green,
# the green of a computer; a real screen needs its own, KEY="method=custom target-r=40 target-g=168 target-b=72", or most of it stays
# as a veil. noise-level=20 takes out its unevenness and grain, angle=45 a green fringe, and some fine hair with it.
#
# `alpha` forgets which matrix its samples are of, and for less than HD bt601 is guessed: capssetter says it again.
#
# The queues. Live, a frame is dropped in one place only, before the key: that queue leaks its older frames when the machine
# can't keep up, and subject and mask leave it together or not at all. Behind the key nothing leaks, or a mask would meet another
# frame's composite. Most are three frames, a thread's worth. The two from the key hold eight: `compositor` waits a frame for its
# slower input and `harmonize` a frame for its own deadline, and the mask waits for both with room for as much again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
source "$(dirname "${BASH_SOURCE[0]}")/live"
[ $# -ge 3 ] || usage
SOURCE=$1 BACKGROUND=$2 SINK=$3
shift 3
BOTH="max-size-buffers=8 max-size-bytes=0 max-size-time=0"

case $SOURCE in
    test)
        KEY=${KEY:-method=custom target-r=40 target-g=168 target-b=72} # its green
        INPUT=("${SUBJECT[@]}" ! stage.sink_1
            videotestsrc is-live=true pattern=solid-color foreground-color=0xff28a848 ! "video/x-raw,format=I420,$FRAME" ! stage.sink_0
            compositor name=stage sink_0::zorder=0 sink_1::zorder=1) ;;
    *)
        KEY=${KEY:-method=green}
        INPUT=(v4l2src device="$SOURCE" ! decodebin ! videorate ! videoconvertscale) ;;
esac
case $BACKGROUND in
    test) PLATE=(videotestsrc is-live=true ! "video/x-raw,format=AYUV,colorimetry=bt709,$FRAME") ;;
    *) still "$BACKGROUND" AYUV; PLATE=("${STILL[@]}") ;;
esac
case $SINK in
    window) OUTPUT=(videoconvert ! autovideosink) ;;
    none) OUTPUT=(fakesink sync=true) ;;
    *) OUTPUT=(x264enc tune=zerolatency speed-preset=ultrafast bitrate=6000 key-int-max=$((2 * RATE))
        ! h264parse config-interval=-1 ! mpegtsmux ! filesink location="$SINK") ;;
esac

exec gst-launch-1.0 \
  "${PLATE[@]}" ! queue $SMALL ! mix.sink_0 \
  "${INPUT[@]}" ! "video/x-raw,$FRAME" ! queue $SMALL leaky=downstream ! \
    videoconvert ! video/x-raw,format=AYUV,colorimetry=bt709 ! alpha $KEY ! capssetter caps=video/x-raw,colorimetry=bt709 ! tee name=key \
  key. ! queue $BOTH ! mix.sink_1 \
  key. ! queue $BOTH ! h.mask \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue $SMALL ! h.sink \
  harmonize name=h "$@" ! queue $SMALL ! "${OUTPUT[@]}"
