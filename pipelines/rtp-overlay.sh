#!/usr/bin/env bash
# A live overlay between two RTP links: a programme comes in, a subject goes over it, the result goes out with the sound.
#
# You see, at the receiver, the sender's picture with the subject on it in the picture's own light, in time with the sound.
# Run the three parts in three shells, in this order; then each can be stopped and started again while the others go on.
#
#   pipelines/rtp-overlay.sh send
#   pipelines/rtp-overlay.sh overlay FOREGROUND [PROPERTY=VALUE of harmonize ...]
#   pipelines/rtp-overlay.sh receive SINK
#
#   FOREGROUND  a picture with alpha, laid over the whole frame, or test: a ball that moves about
#   SINK        window, none, or FILE.mkv (the H.264 and Opus as they came)
#
# In the environment: SIZE=1280x720 and RATE=30 for all three alike; LOSS=0.01 loses one packet of a hundred on the way out of
# `send` and of `overlay`; PORT=5000, the first of twenty for the first link, with the second link a hundred higher.
#
# Losses. Both streams carry forward error correction (SMPTE 2022-1, rows and columns): a lost packet is computed from its
# neighbours, with no round trip. `columns` x `rows` packets must fit into the jitter buffer's 200 ms. What even that can't
# mend, rtph264depay answers with a PLI (profile avpf), and x264enc with a keyframe at once; frames between are not shown.
# The overlay hands the sound on as it came, and the receiver's Opus conceals what is lost (plc), which do-lost tells of.
#
# Lip sync. Sender reports (RTCP) map each stream's timestamps to one clock, and rtpbin puts the streams in step by them, to the
# sample, a second after the start. Till then they are as far apart as their packets came, so each leaves in its own time: udpsink
# is synchronous, with 100 ms (processing-deadline) for what an encoder takes, also for its first frame. rtcp-sync-send-time=false
# maps the time of capture: the default adds the pipeline's latency, and steps whenever that changes. Reports are ahead of their
# packets by all that latency; max-rtcp-rtp-time-diff=-1 believes them even if it is a second. buffer-mode=synced trusts the
# sender's clock, which is this machine's, or one that PTP or NTP keeps in step. Clocks that drift apart need BUFFER=slave, which
# follows the packets' arrival instead: on a busy machine either stream wanders by tens of milliseconds then.
#
# The overlay's grid. `compositor` writes frames on a grid of its own and shows what is there at each point, up to a frame
# late; `videorate` before it takes the nearest, half a frame at most. Until a programme comes nothing goes out, and where it
# stops its last picture stays under the subject.
#
# The queues. Foreground and mask are made here and now, the programme comes out of the jitter buffer 200 ms later: the queues
# beside it, and the sound's, hold a second by time, several times that, so that they never are what blocks. The rest are three
# frames, a thread's worth.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
source "$(dirname "${BASH_SOURCE[0]}")/live"
LOSS=${LOSS:-0} PORT=${PORT:-5000} BUFFER=${BUFFER:-synced}
LATENCY=200 # ms in each jitter buffer
LONG="max-size-buffers=0 max-size-bytes=0 max-size-time=1000000000"

VIDEO='application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96,rtcp-fb-nack-pli=(boolean)true'
AUDIO='application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97'
# Session 0 is the video, at some 200 packets a second a block of 25 is 120 ms; 1 is the audio, 16 packets of 10 ms.
FEC_OUT='fec,0="rtpst2022-1-fecenc\ columns\=5\ rows\=5",1="rtpst2022-1-fecenc\ columns\=4\ rows\=4";'
FEC_IN='fec,0="rtpst2022-1-fecdec",1="rtpst2022-1-fecdec";'

# SMPTE 2022-1 protects an ssrc of 0 only. A keyframe every two seconds lets a new receiver in; zerolatency keeps no frame back.
X264=(x264enc name=encoder tune=zerolatency speed-preset=superfast bitrate=4000 key-int-max=$((2 * RATE))
    ! h264parse ! rtph264pay config-interval=-1 aggregate-mode=zero-latency ssrc=0)
OPUS_PAY=(rtpopuspay pt=97 ssrc=0)

# Sets PORTS to what connects session $2 of rtpbin $1 to the ports from $3 on: media, RTCP there and back, FEC rows and columns.
outgoing() {
    # From ports of its own, so that a sender started again is the same one to the receiver, not a second with its ssrc.
    local drop="netsim drop-probability=$LOSS" to="udpsink host=127.0.0.1 bind-address=127.0.0.1 processing-deadline=100000000"
    PORTS=($1.send_rtp_src_$2 ! $drop ! $to port=$3 bind-port=$(($3 + 5))
        $1.send_fec_src_$2_0 ! $drop ! $to port=$(($3 + 3)) bind-port=$(($3 + 7)) async=false
        $1.send_fec_src_$2_1 ! $drop ! $to port=$(($3 + 4)) bind-port=$(($3 + 8)) async=false
        $1.send_rtcp_src_$2 ! $to port=$(($3 + 1)) bind-port=$(($3 + 6)) sync=false async=false
        udpsrc address=127.0.0.1 port=$(($3 + 2)) ! $1.recv_rtcp_sink_$2)
}
incoming() {
    # A keyframe is a burst of packets: the socket holds a megabyte while the thread behind it is busy.
    local from="udpsrc address=127.0.0.1 buffer-size=1000000" fec=application/x-rtp,payload=96
    PORTS=($from port=$3 caps=$4 ! $1.recv_rtp_sink_$2
        $from port=$(($3 + 3)) caps=$fec ! $1.recv_fec_sink_$2_0
        $from port=$(($3 + 4)) caps=$fec ! $1.recv_fec_sink_$2_1
        $from port=$(($3 + 1)) ! $1.recv_rtcp_sink_$2
        $1.send_rtcp_src_$2 ! udpsink host=127.0.0.1 port=$(($3 + 2)) sync=false async=false)
}

# Set OUT and IN to a link's whole end, an rtpbin of that name with its two sessions; $1 is the link's first port.
sending() {
    OUT=(rtpbin name=out rtp-profile=avpf rtcp-sync-send-time=false fec-encoders="$FEC_OUT")
    outgoing out 0 "$1"; OUT+=("${PORTS[@]}")
    outgoing out 1 $(($1 + 10)); OUT+=("${PORTS[@]}")
}
receiving() {
    IN=(rtpbin name=in rtp-profile=avpf buffer-mode=$BUFFER latency=$LATENCY do-lost=true max-rtcp-rtp-time-diff=-1 fec-decoders="$FEC_IN")
    incoming in 0 "$1" "$VIDEO"; IN+=("${PORTS[@]}")
    incoming in 1 $(($1 + 10)) "$AUDIO"; IN+=("${PORTS[@]}")
}
DEPAY=(rtph264depay wait-for-keyframe=true request-keyframe=true ! h264parse)

send() {
    sending "$PORT"
    exec gst-launch-1.0 "${OUT[@]}" \
      videotestsrc name=picture is-live=true ! "video/x-raw,format=I420,$FRAME" ! queue $SMALL ! "${X264[@]}" ! out.send_rtp_sink_0 \
      audiotestsrc name=sound is-live=true wave=ticks samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=2 ! \
      opusenc frame-size=10 bitrate=128000 ! "${OPUS_PAY[@]}" ! out.send_rtp_sink_1
}

overlay() {
    [ $# -ge 1 ] || usage
    local foreground=("${SUBJECT[@]}")
    if [ "$1" != test ]; then still "$1" A420; foreground=("${STILL[@]}"); fi
    shift
    receiving "$PORT"
    sending $((PORT + 100))
    exec gst-launch-1.0 "${IN[@]}" "${OUT[@]}" \
      in. ! "${DEPAY[@]}" ! avdec_h264 ! queue $SMALL ! videorate ! videoconvertscale ! "video/x-raw,format=I420,$FRAME" ! queue $LONG ! mix.sink_0 \
      "${foreground[@]}" ! tee name=fg \
      fg. ! queue $LONG ! mix.sink_1 \
      fg. ! queue $LONG ! h.mask \
      compositor name=mix background=black sink_0::zorder=0 sink_1::zorder=1 ! "video/x-raw,$FRAME" ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue $SMALL ! h.sink \
      harmonize name=h "$@" ! queue $SMALL ! "${X264[@]}" ! out.send_rtp_sink_0 \
      in. ! rtpopusdepay ! queue $LONG ! "${OPUS_PAY[@]}" ! out.send_rtp_sink_1
}

receive() {
    [ $# = 1 ] || usage
    local picture=(avdec_h264 ! queue $SMALL ! videoconvert ! autovideosink) sound=(opusdec plc=true ! queue $LONG ! audioconvert ! audioresample ! autoaudiosink)
    case $1 in
        window) ;;
        none) picture=(avdec_h264 ! queue $SMALL ! fakesink name=picture sync=true)
              sound=(opusdec plc=true ! queue $LONG ! fakesink name=sound sync=true) ;;
        *) picture=(queue $LONG ! matroskamux name=file ! filesink location="$1") sound=(opusparse ! queue $LONG ! file.) ;;
    esac
    receiving $((PORT + 100))
    exec gst-launch-1.0 -e "${IN[@]}" \
      in. ! "${DEPAY[@]}" ! "${picture[@]}" \
      in. ! rtpopusdepay ! "${sound[@]}"
}

case ${1:-} in
    send | overlay | receive) "$@" ;;
    *) usage ;;
esac
