//! Which mask belongs to a composite: the one whose interval of running time contains the composite's start.
//!
//! Times are running times in nanoseconds, signed because a buffer may lie before its segment. Nothing here depends on how
//! far a queue has filled, so the same two streams always pair the same way.

/// Clocks that count in frames, 90 kHz ticks or milliseconds disagree by less than this about the same instant.
const EPSILON: i64 = 1_000_000;

/// `[start, end)` of a buffer; without an `end` it lasts until the next buffer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: i64,
    pub end: Option<i64>,
}

impl Span {
    /// The span of a buffer in `segment`. Without a PTS it starts where the one before it ended, or with the segment;
    /// `frame` is a frame's duration by the caps. `None` if nothing tells the start.
    pub fn new(
        segment: &gst::FormattedSegment<gst::ClockTime>,
        buffer: &gst::BufferRef,
        frame: Option<gst::ClockTime>,
        previous: Option<Span>,
    ) -> Option<Self> {
        let duration = buffer.duration().filter(|d| !d.is_zero()).or(frame);
        let Some(pts) = buffer.pts() else {
            let is_backwards = segment.rate() < 0.0;
            let start = match previous {
                Some(span) => span.end?,
                None => running_time(segment, if is_backwards { segment.stop() } else { segment.start() }?)?,
            };
            let lasts = |d: gst::ClockTime| (d.nseconds() as f64 / segment.rate().abs()).round() as i64;
            return Some(Self { start, end: duration.map(|d| start.saturating_add(lasts(d))) });
        };
        let a = running_time(segment, pts)?;
        let b = duration.and_then(|d| running_time(segment, pts.checked_add(d)?));
        // Played backwards, a buffer ends in running time where it begins in the stream.
        Some(match b {
            Some(b) => Self { start: a.min(b), end: Some(a.max(b)) },
            None => Self { start: a, end: None },
        })
    }

    /// An empty span ahead of what begins at `first` in `segment`, which may be outside it.
    pub fn before(segment: &gst::FormattedSegment<gst::ClockTime>, first: gst::ClockTime) -> Option<Self> {
        let start = running_time(segment, first)?;
        Some(Self { start, end: Some(start) })
    }

    /// The timestamp in `segment` of a buffer that has this span; `None` at negative running times and timestamps.
    pub fn position(&self, segment: &gst::FormattedSegment<gst::ClockTime>) -> Option<gst::ClockTime> {
        let is_backwards = segment.rate() < 0.0;
        let time = if is_backwards { self.end.unwrap_or(self.start) } else { self.start };
        let time = gst::ClockTime::from_nseconds(u64::try_from(time).ok()?);
        segment.position_from_running_time_full(time)?.positive()
    }
}

fn running_time(segment: &gst::FormattedSegment<gst::ClockTime>, time: gst::ClockTime) -> Option<i64> {
    nanoseconds(segment.to_running_time_full(time)?)
}

pub fn nanoseconds(time: gst::Signed<gst::ClockTime>) -> Option<i64> {
    Some(match time {
        gst::Signed::Positive(t) => i64::try_from(t.nseconds()).ok()?,
        gst::Signed::Negative(t) => -i64::try_from(t.nseconds()).ok()?,
    })
}

/// What the mask pad offers next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Mask(Span),
    /// Nothing yet.
    Empty,
    Eos,
    /// EOS after a single frame.
    Still,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The head is the composite's mask, and may be the next composite's too.
    Head,
    /// The mask held back from before is the composite's.
    Held,
    /// The mask held back is over, and nothing has followed it.
    Stale,
    /// There has been no mask so far.
    Missing,
    /// The head is over or lasts until its successor comes: take it from the pad, hold it and ask again.
    Advance,
    /// Only the next mask can tell.
    Wait,
}

/// Pairs the composite that starts at `time` with `held`, the mask last taken from the pad, or with the `head` of the pad.
/// Never waits after a `timeout`. A still, the only frame of its stream, masks all that comes; a stream of more frames is over
/// where the last of them is.
pub fn pair(time: i64, held: Option<Span>, head: Head, timeout: bool) -> Pair {
    let keep = || match held {
        None => Pair::Missing,
        Some(Span { start, end }) if start - EPSILON <= time && end.is_none_or(|end| time < end) => Pair::Held,
        Some(_) => Pair::Stale,
    };
    match head {
        Head::Mask(Span { start, .. }) if time < start - EPSILON => keep(),
        Head::Mask(Span { end: Some(end), .. }) if time < end - EPSILON => Pair::Head,
        Head::Mask(_) => Pair::Advance,
        Head::Still if held.is_some() => Pair::Held,
        Head::Eos => match held {
            Some(Span { start, end: Some(end) }) if start - EPSILON <= time && time >= end - EPSILON => Pair::Stale,
            _ => keep(),
        },
        Head::Still => Pair::Missing,
        Head::Empty if timeout => keep(),
        Head::Empty => match held {
            Some(Span { start, end: Some(end) }) if start - EPSILON <= time && time < end - EPSILON => Pair::Held,
            _ => Pair::Wait,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn span(start: i64, end: i64) -> Span {
        Span { start, end: Some(end) }
    }

    /// Runs composites at `times` against a whole mask stream; yields the index of each one's mask, or of the one that is over by
    /// then, negative less one.
    fn run(times: &[i64], masks: &[Span]) -> Vec<Option<i64>> {
        let (mut next, mut held) = (0, None::<usize>);
        let mut pairs = Vec::new();
        for &time in times {
            loop {
                let over = if masks.len() == 1 { Head::Still } else { Head::Eos };
                let head = masks.get(next).map_or(over, |&m| Head::Mask(m));
                match pair(time, held.map(|i| masks[i]), head, false) {
                    Pair::Head => pairs.push(Some(next as i64)),
                    Pair::Held => pairs.push(held.map(|i| i as i64)),
                    Pair::Stale => pairs.push(held.map(|i| -1 - i as i64)),
                    Pair::Missing => pairs.push(None),
                    Pair::Advance => {
                        held = Some(next);
                        next += 1;
                        continue;
                    }
                    Pair::Wait => panic!("waits although everything is there"),
                }
                break;
            }
        }
        pairs
    }

    fn stream(rate: i64, count: i64) -> Vec<Span> {
        let at = |n: i64| (n * 1_000_000_000 + rate / 2) / rate;
        (0..count).map(|n| span(at(n), at(n + 1))).collect()
    }

    fn starts(rate: i64, count: i64) -> Vec<i64> {
        stream(rate, count).iter().map(|s| s.start).collect()
    }

    #[test]
    fn every_composite_takes_the_mask_of_its_instant() {
        assert_eq!(run(&starts(30, 6), &stream(30, 6)), (0..6).map(Some).collect::<Vec<_>>());
        assert_eq!(run(&starts(30, 6), &stream(60, 12)), (0..6).map(|n| Some(2 * n)).collect::<Vec<_>>());
        assert_eq!(run(&starts(30, 6), &stream(15, 3)), (0..6).map(|n| Some(n / 2)).collect::<Vec<_>>());
        assert_eq!(run(&starts(25, 5), &stream(30, 6)), [0, 1, 2, 3, 4].map(Some));
    }

    #[test]
    fn millisecond_timestamps_pair_like_exact_ones() {
        let masks: Vec<_> = [0, 33, 67, 100].windows(2).map(|w| span(w[0] * MS, w[1] * MS)).collect();
        assert_eq!(run(&starts(30, 3), &masks), [0, 1, 2].map(Some));
        let late: Vec<_> = stream(30, 3).iter().map(|s| span(s.start + 900_000, s.end.unwrap() + 900_000)).collect();
        assert_eq!(run(&starts(30, 3), &late), [0, 1, 2].map(Some));
    }

    #[test]
    fn masks_without_duration_last_until_the_next() {
        let open = |start| Span { start, end: None };
        assert_eq!(run(&starts(30, 4), &[open(0), open(66 * MS)]), [0, 0, 1, 1].map(Some));
        assert_eq!(pair(0, Some(open(0)), Head::Empty, false), Pair::Wait);
        assert_eq!(pair(0, Some(open(0)), Head::Empty, true), Pair::Held);
    }

    #[test]
    fn a_hole_is_bridged_by_the_mask_before_it_as_stale() {
        let masks = [span(0, 33 * MS), span(33 * MS, 67 * MS), span(200 * MS, 233 * MS)];
        assert_eq!(run(&[0, 33 * MS, 100 * MS, 200 * MS], &masks), [Some(0), Some(1), Some(-2), Some(2)]);
    }

    #[test]
    fn no_mask_before_the_first_one() {
        assert_eq!(run(&[0, 40 * MS], &[span(40 * MS, 80 * MS)]), [None, Some(0)]);
    }

    #[test]
    fn a_still_stays_after_eos_and_a_stream_of_more_masks_is_over_where_the_last_of_them_is() {
        assert_eq!(run(&[0, 40 * MS, 9000 * MS], &[span(0, 40 * MS)]), [Some(0); 3]);
        let masks = [span(0, 40 * MS), span(40 * MS, 80 * MS)];
        assert_eq!(run(&[40 * MS, 78 * MS, 79 * MS, 9000 * MS], &masks), [Some(1), Some(1), Some(-2), Some(-2)]);
        let open = Span { start: 40 * MS, end: None };
        assert_eq!(run(&[40 * MS, 9000 * MS], &[span(0, 40 * MS), open]), [Some(1); 2], "nothing tells its end");
        assert_eq!(run(&[0], &[]), [None]);
    }

    #[test]
    fn waits_for_the_next_mask_unless_timed_out() {
        assert_eq!(pair(0, None, Head::Empty, false), Pair::Wait);
        assert_eq!(pair(0, None, Head::Empty, true), Pair::Missing);
        assert_eq!(pair(40 * MS, Some(span(0, 40 * MS)), Head::Empty, false), Pair::Wait);
        assert_eq!(pair(40 * MS, Some(span(0, 40 * MS)), Head::Empty, true), Pair::Stale);
        assert_eq!(pair(20 * MS, Some(span(0, 40 * MS)), Head::Empty, false), Pair::Held);
    }

    #[test]
    fn a_composite_that_jumps_back_does_not_claim_a_later_mask() {
        assert_eq!(pair(0, Some(span(400 * MS, 440 * MS)), Head::Mask(span(440 * MS, 480 * MS)), false), Pair::Stale);
    }

    #[test]
    fn buffers_without_pts_follow_one_another() {
        gst::init().unwrap();
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::SECOND);
        segment.set_base(gst::ClockTime::from_mseconds(500));
        let frame = Some(gst::ClockTime::from_mseconds(40));
        let buffer = gst::Buffer::new();
        let first = Span::new(&segment, &buffer, frame, None).unwrap();
        assert_eq!(first, span(500 * MS, 540 * MS));
        assert_eq!(Span::new(&segment, &buffer, frame, Some(first)), Some(span(540 * MS, 580 * MS)));
        assert_eq!(first.position(&segment), Some(gst::ClockTime::SECOND));
        assert_eq!(span(-MS, 39 * MS).position(&segment), None);
        segment.set_stop(gst::ClockTime::from_seconds(2));
        for (rate, [position, next]) in
            [(2.0, [1000, 1040]), (0.5, [1000, 1040]), (-1.0, [1960, 1920]), (-2.0, [1960, 1920])]
        {
            segment.set_rate(rate);
            let first = Span::new(&segment, &buffer, frame, None).unwrap();
            let second = Span::new(&segment, &buffer, frame, Some(first)).unwrap();
            let positions = [first, second].map(|span| span.position(&segment).unwrap().mseconds());
            assert_eq!(positions, [position, next], "at {rate}");
        }
        assert_eq!(Span::new(&segment, &buffer, None, Some(Span { start: 0, end: None })), None);
    }

    #[test]
    fn spans_know_negative_running_times_and_reverse_playback() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(gst::ClockTime::from_mseconds(960));
            buffer.set_duration(gst::ClockTime::from_mseconds(40));
        }
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::SECOND);
        assert_eq!(Span::new(&segment, &buffer, None, None), Some(span(-40 * MS, 0)));
        segment.set_start(gst::ClockTime::ZERO);
        segment.set_stop(gst::ClockTime::from_seconds(2));
        segment.set_rate(-1.0);
        assert_eq!(Span::new(&segment, &buffer, None, None), Some(span(1000 * MS, 1040 * MS)));
    }
}
