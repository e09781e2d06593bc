#!/usr/bin/env bash
# A finished composite with its sound, harmonized offline: every frame waits for its own inference, however long it takes.
#
# You see a line of progress each second, and then the same shot, as many frames, with its sound, the subject matched to the scene.
# (`harmonize video` does this from the command line too, to H.264, with a bar.)
#
#   pipelines/post.sh COMPOSITE MASK OUT [PROPERTY=VALUE of harmonize ...]
#
#   OUT  FILE.mov: ProRes 422 HQ with the sound uncompressed, to go on working with
#        FILE.mp4: H.264 and AAC, to look at
#
# harmonize works on 8 bits a sample for now: a composite of 10 bits is dithered to 8 on its way in, and ProRes, which always
# has 10, carries 8 of them. For ProRes the frames travel as 4:4:4 (AYUV), so that nothing of a 4:2:2 picture's colour is lost.
#
# The queues. One thread reads the composite's picture and sound from one file in turns: when either queue behind it is full the
# other starves. x264enc keeps up to two seconds of frames before it gives the first, and the muxer holds the sound back as long:
# the sound's queue holds ten seconds, 4 MB. The picture's hold three frames, by number because a frame of 4K is more than the
# default's bytes, and the mask waits a frame or two for its composite.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
[ $# -ge 3 ] || usage
COMPOSITE=$1 MASK=$2 OUT=$3
shift 3
FEW="max-size-buffers=3 max-size-bytes=0 max-size-time=0"

case $OUT in
    *.mov) WORK=AYUV
           ENCODE=(videoconvert ! video/x-raw,format=I422_10LE ! avenc_prores_ks profile=hq)
           MUX=qtmux SOUND=(audioconvert ! audio/x-raw,format=S24LE) ;;
    *.mp4) WORK=I420
           ENCODE=(x264enc pass=quant quantizer=18 speed-preset=medium ! video/x-h264,profile=high)
           MUX=mp4mux SOUND=(audioconvert ! audioresample ! avenc_aac bitrate=192000) ;;
    *) usage ;;
esac
# A muxer waits for each pad it was asked for, so the sound's is asked for only where there is sound.
AUDIO=()
if [ -n "$(ffprobe -v error -select_streams a -show_entries stream=index -of csv=p=0 "$COMPOSITE")" ]; then
    AUDIO=(in. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=10000000000 ! "${SOUND[@]}" ! mux.)
fi

exec gst-launch-1.0 -e \
  filesrc location="$COMPOSITE" ! decodebin name=in \
  in. ! queue $FEW ! progressreport name=harmonized update-freq=1 ! videoconvert ! video/x-raw,format=$WORK ! h.sink \
  filesrc location="$MASK" ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! queue $FEW ! h.mask \
  harmonize name=h mode=exact "$@" ! queue $FEW ! "${ENCODE[@]}" ! queue $FEW ! mux. \
  "${AUDIO[@]}" \
  $MUX name=mux ! filesink location="$OUT"
