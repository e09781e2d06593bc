#!/usr/bin/env bash
# Leaves a live overlay running, and fails when it would have been seen on air: a soak test of plugin, machine and settings.
#
# You see a line every STEP seconds, with what it has counted so far, and at the end a verdict; the exit status is 0 for a pass.
#
#   pipelines/soak.sh [MINUTES [FILE.csv [PROPERTY=VALUE of harmonize ...]]]
#
#   MINUTES   how long after the first line; 1440, a day, when not given
#   FILE.csv  where the lines go for a spreadsheet; soak.csv in this folder when not given
#
# In the environment: SIZE=1280x720 and RATE=30 of the stream, STEP=10 s between two lines, LOST=0, how many frames may go missing
# after the first line (dropped, never come out, or a frame too late at the end), GROWTH=2, by how many per cent memory may grow
# over what it was after the first thousand frames (the least of ten lines is taken: a leak lifts that, a burst of buffers
# doesn't). It ends at once, and fails, when an error is posted, nothing comes for three steps or half a minute, whichever is
# longer, or a limit is passed.
#
# A ball moves over colour bars; harmonize works live (mode=live, never waiting for the model) and posts its stats as an element
# message; x264enc encodes beside it, as it would on air. fakesink stands for the transmitter: a frame more than a frame late it
# drops, and tells upstream (qos), where `compositor` and harmonize then drop what would be late too.
#
# The queues hold three frames, a thread's worth; from the tee eight, since the mask waits for `compositor` (up to two frames),
# a queue of three and harmonize's own frame of latency.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plugin-path"
source "$(dirname "${BASH_SOURCE[0]}")/live"
MINUTES=${1:-1440} CSV=${2:-soak.csv}
STEP=${STEP:-10} LOST=${LOST:-0} GROWTH=${GROWTH:-2}
PATIENCE=$((3 * STEP > 30 ? 3 * STEP : 30))
[[ $MINUTES =~ ^[0-9]+([.][0-9]+)?$ ]] || usage
shift $(($# < 2 ? $# : 2))
BOTH="max-size-buffers=8 max-size-bytes=0 max-size-time=0"

exec {messages}< <(exec gst-launch-1.0 -m \
  videotestsrc is-live=true ! "video/x-raw,format=I420,colorimetry=bt709,$FRAME" ! queue $SMALL ! mix.sink_0 \
  "${SUBJECT[@]}" ! tee name=fg \
  fg. ! queue $BOTH ! mix.sink_1 \
  fg. ! queue $BOTH ! h.mask \
  compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! queue $SMALL ! h.sink \
  harmonize name=h mode=live stats-interval="${STEP}000000000" "$@" ! queue $SMALL ! \
  x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max=$((2 * RATE)) ! fakesink name=air sync=true qos=true max-lateness=$((1000000000 / RATE)) 2>&1)
PIPELINE=$!
trap 'kill $PIPELINE 2>/dev/null || true' EXIT

fail() { printf 'soak: FAILED after %s: %s\n' "$(clock $SECONDS)" "$*" >&2; exit 1; }
clock() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }
# The number called $1 in the stats of $line.
stat() { [[ $line =~ [\ ,]$1=\([a-z0-9]+\)([0-9]+([.][0-9])?) ]] && printf '%s' "${BASH_REMATCH[1]}"; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$PIPELINE/status"; } # kB

COUNTS=(frames-in frames-out harmonized passed-through dropped late stale-masks missing-masks not-ready transfers errors)
TIMES=(mean-ms p99-ms inference-mean-ms transfer-age-ms)
(IFS=,; echo "seconds,lost,late-at-end,resident-kB,${COUNTS[*]},${TIMES[*]}") >"$CSV"
END=$(awk "BEGIN { print int($MINUTES * 60) }")
SECONDS=0 reported=0 base='' first='' lost=0 late=0 recent=()

while true; do
    IFS= read -r -t $PATIENCE -u "$messages" line || { # the end of its output, or nothing for too long
        kill -0 $PIPELINE 2>/dev/null && fail "it has stalled: no message came for $PATIENCE s"
        fail "the pipeline ended by itself"
    }
    case $line in
        *application/x-harmonize-stats*) ;;
        *'"air" (qos)'*) late=$(stat dropped); continue ;; # counts from the start
        ERROR*) fail "$line" ;;
        WARNING*) echo "soak: $line"; continue ;;
        *) ((SECONDS - reported < PATIENCE)) || fail "it has stalled: no frame came for $PATIENCE s"; continue ;;
    esac
    reported=$SECONDS
    rss=$(resident) out=$(stat frames-out) time=$(stat running-time)
    values=()
    for name in "${COUNTS[@]}" "${TIMES[@]}"; do values+=("$(stat "$name")"); done
    # running-time is that of the last frame: all that the rate makes of the time since the first report should have come out.
    if [ -z "$first" ]; then first=$out since=$time before=$late begun=$SECONDS; fi
    lost=$((((time - since) * RATE + 500000000) / 1000000000 - (out - first) + late - before))
    (IFS=,; echo "$SECONDS,$lost,$late,$rss,${values[*]}") >>"$CSV"
    printf 'soak: %s  %d out, %d lost, %d passed untouched, p99 %s ms, %d MB\n' "$(clock $SECONDS)" "$out" "$lost" \
        "$(stat passed-through)" "$(stat p99-ms)" $((rss / 1024))
    if [ "$lost" -gt "$LOST" ]; then fail "$lost frames were lost"; fi
    if [ -z "$base" ] && [ "$out" -ge 1000 ]; then base=$rss; fi
    recent=("$rss" "${recent[@]:0:9}")
    least=$(printf '%s\n' "${recent[@]}" | sort -n | head -1)
    if [ -n "$base" ] && [ ${#recent[@]} = 10 ] && [ $((least * 100)) -gt $((base * (100 + GROWTH))) ]; then
        fail "memory has grown from $base to $least kB"
    fi
    if [ $((SECONDS - begun)) -ge "$END" ]; then break; fi
done
printf 'soak: passed: %s, %d frames, %d lost, memory %s to %d kB; %s has it all\n' "$(clock $SECONDS)" "$out" "$lost" "${base:-$least}" "$least" "$CSV"
