"""Renders two seconds of a timeline at 25 fps with each element that is named as the effect on its clip, and prints how many
frames came out: "ELEMENT FRAMES" a line. Ends with 77 where GES or Python's way to it isn't there."""

import sys

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GES", "1.0")
    from gi.repository import GES, Gst
except (ImportError, ValueError) as missing:
    print(missing)
    sys.exit(77)

Gst.init(None)
GES.init()


def render(description):
    track = GES.VideoTrack.new()
    track.set_restriction_caps(Gst.Caps.from_string("video/x-raw,width=64,height=48,framerate=25/1"))
    timeline = GES.Timeline.new()
    timeline.add_track(track)
    clip = GES.TestClip.new()
    clip.set_duration(2 * Gst.SECOND)
    timeline.append_layer().add_clip(clip)
    effect = GES.Effect.new(description)
    if effect is None or not clip.add(effect):
        sys.exit(f"{description}: GES does not take it as an effect")
    timeline.commit()

    pipeline = GES.Pipeline.new()
    pipeline.set_timeline(timeline)
    sink = Gst.parse_bin_from_description("fakesink sync=false", True)
    pipeline.preview_set_video_sink(sink)
    frames = []

    def count(_pad, info):
        frames.append(info.get_buffer().pts)
        return Gst.PadProbeReturn.OK

    sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)
    pipeline.set_state(Gst.State.PLAYING)
    end = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, end)
    pipeline.set_state(Gst.State.NULL)
    if message is None:
        sys.exit(f"{description}: neither EOS nor an error after {len(frames)} frames")
    if message.type == Gst.MessageType.ERROR:
        sys.exit(f"{description}: {message.parse_error()}")
    return frames


for description in sys.argv[1:]:
    frames = render(description)
    if sorted(set(frames)) != frames:
        sys.exit(f"{description}: frames out of order: {frames}")
    print(description, len(frames), flush=True)
