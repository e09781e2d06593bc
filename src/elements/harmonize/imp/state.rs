//! What the element knows of its streams: one struct behind a mutex, held for moments only.

use super::super::latency::Latency;
use super::super::pairing::Span;
use super::super::video::Video;
use super::Mode;
use super::seek::Margin;
use std::time::Instant;

/// What a warning tells of once, when it begins.
#[derive(Clone, Copy)]
pub(super) enum Episode {
    /// There is nothing to harmonize by.
    Unmasked,
    Maskless,
    NotReady,
    Failing,
    Late,
    /// A composite has been waiting for its mask for long.
    Waiting,
}

#[derive(Default)]
pub(super) struct State {
    pub is_started: bool,
    pub composite: Option<Video>,
    /// Whether the pipeline is live, as far as the sources have said.
    pub is_live: bool,
    pub latency: Latency,
    /// The longest work that was ever declared: a latency that went up and down would unsettle the pipeline each time.
    pub slowest: gst::ClockTime,
    /// Events that are to go ahead of the next output: caps, segment and tags.
    pub caps: Option<gst::Caps>,
    pub segment: Option<gst::Event>,
    /// A seek is on its way to the sources.
    pub is_seeking: bool,
    /// No segment has come since the last flush: what is still taken off the pad is from before it.
    pub is_flushed: bool,
    /// The stream has ended: what still comes is refused. Until a flush, or another stream of composites.
    pub is_over: bool,
    /// Downstream has had EOS. Until a flush of the composite, or another stream of composites.
    pub has_ended: bool,
    /// Queries that wait for their turn in a pad's queue.
    pub asking: usize,
    /// The segment that the frames that leave are in.
    pub announced: Option<gst::Event>,
    pub tags: Vec<gst::Event>,
    pub last: Option<Span>,
    /// Stream time up to which frames have left, or at which they begin.
    pub position: Option<gst::ClockTime>,
    /// The last flushing seek and where it goes to, until its segment comes.
    pub sought: Option<(gst::Seqnum, gst::ClockTime)>,
    /// Composites that have come to the sink pad, and that have been taken from it.
    pub arrived: u64,
    pub taken: u64,
    /// The property `scene` at the last composite, and whether a scene begins with the next frame that is looked at.
    pub scene: Option<u32>,
    pub scene_begins: bool,
    /// The mode of the last frame.
    pub worked_in: Option<Mode>,
    /// A frame has been harmonized in live mode since the last flush.
    pub had_transfer: bool,
    /// What the last seek asked for beside what it was for.
    pub margin: Option<Margin>,
    /// The last seek if it need not be accurate; since its flush, whether the first frame is to be shown at once.
    pub sought_roughly: Option<gst::Seqnum>,
    pub shows_first: bool,
    /// How sending frames ahead of an event ended, for the next call of the base class.
    pub flow: Option<gst::FlowError>,
    /// Running time before which frames come too late downstream, and downstream's proportion.
    pub earliest: Option<i64>,
    pub proportion: f64,
    /// The frame that came before was dropped: the next one that is taken up has a DISCONT.
    pub discont: bool,
    /// One that was to leave was dropped, or one that began a stream was none of it: the next one that leaves has a DISCONT.
    pub leaves_discont: bool,
    pub flushes: Flushes,
    pub episodes: [bool; 6],
    /// When `stats` were posted last.
    pub posted: Option<Instant>,
}

impl State {
    pub fn is_in(&self, episode: Episode) -> bool {
        self.episodes[episode as usize]
    }

    /// Stream time that the output has come to, as far as it is known.
    pub fn place(&self) -> Option<gst::ClockTime> {
        self.position.or_else(|| self.sought.map(|(_, place)| place))
    }

    /// What a flush leaves behind.
    pub fn forget(&mut self) {
        (self.last, self.position, self.earliest, self.flow, self.announced) = (None, None, None, None, None);
        (self.scene_begins, self.had_transfer) = (false, false);
        (self.discont, self.leaves_discont) = (false, false);
        self.taken = self.arrived;
        for episode in [Episode::Maskless, Episode::NotReady, Episode::Late, Episode::Waiting] {
            self.episodes[episode as usize] = false;
        }
    }
}

/// The last flushes of the pads by their sources, and the last flushing seek: each comes as several events of one number.
#[derive(Default)]
pub(super) struct Flushes {
    pub sink: Option<gst::Seqnum>,
    pub mask_source: Option<gst::Seqnum>,
    /// The last one that the mask pad was given because nobody else would.
    pub mask: Option<gst::Seqnum>,
    pub seek: Option<gst::Seqnum>,
}
