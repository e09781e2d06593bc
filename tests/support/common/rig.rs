//! An element with a harness on each of its pads, which plays.

use super::*;

pub const RGB: &str = "video/x-raw,format=RGB,width=4,height=2,framerate=30/1";
pub const GRAY: &str = "video/x-raw,format=GRAY8,width=4,height=2,framerate=30/1";

/// An element with a harness on each of its pads.
pub struct Rig {
    pub element: Harmonize,
    pub composite: Harness,
    pub mask: Harness,
    pub out: Harness,
    pub bus: gst::Bus,
    /// Whose inferences are begun before the next frame: else one that is given up at once would never be, and not be counted.
    model: Option<Arc<manual::Manual>>,
}

impl Rig {
    pub fn new(element: Harmonize) -> Self {
        Self::of(element, |_| ())
    }

    /// One whose sources are set up by `prepare` before they play.
    pub fn of(element: Harmonize, prepare: impl Fn(&mut Harness)) -> Self {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let out = Harness::with_element(&element, None, Some("src"));
        let mut composite = Harness::with_element(&element, Some("sink"), None);
        let mut mask = Harness::with_element(&element, None, None);
        mask.add_element_sink_pad(&element.request_pad_simple("mask").unwrap());
        [&mut composite, &mut mask].into_iter().for_each(prepare);
        composite.set_src_caps_str(RGB);
        mask.set_src_caps_str(GRAY);
        composite.play();
        Self { element, composite, mask, out, bus, model: None }
    }

    /// One in live mode whose model, which is there, answers when it is told to.
    pub fn live(model: &Arc<manual::Manual>) -> Self {
        let rig = Self { model: Some(model.clone()), ..Self::new(model.element("live")) };
        until("the model", || rig.element.property_value("model-state").serialize().unwrap() == "ready");
        rig
    }

    pub fn push(&mut self, n: u64) {
        let (pts, duration) = (at(30, n), at(30, n + 1) - at(30, n));
        self.composite.push(buffer(pts, duration, &[90; 24])).unwrap();
        self.mask.push(buffer(pts, duration, &[255; 8])).unwrap();
    }

    /// Brings the element into the middle of an inference of `fake`.
    pub fn busy(fake: &Arc<Fake>) -> Self {
        let mut rig = Self::new(element(fake));
        rig.push(0);
        until("the inference", || fake.count() == 1);
        rig
    }

    /// Flushes both pads, as a flushing seek upstream does.
    pub fn flush(&mut self) {
        let seqnum = gst::Seqnum::next();
        for pad in [&mut self.composite, &mut self.mask] {
            assert!(pad.push_event(gst::event::FlushStart::builder().seqnum(seqnum).build()));
        }
        for pad in [&mut self.composite, &mut self.mask] {
            assert!(pad.push_event(gst::event::FlushStop::builder(true).seqnum(seqnum).build()));
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            assert!(pad.push_event(gst::event::Segment::new(&segment)));
        }
    }

    /// Stops the element and plays it again, with streams that begin anew.
    pub fn restart(&mut self) {
        self.element.set_state(gst::State::Ready).unwrap();
        self.composite.play();
        self.composite.set_src_caps_str(RGB);
        self.mask.set_src_caps_str(GRAY);
        for harness in [&mut self.composite, &mut self.mask] {
            harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        }
    }

    pub fn pull(&mut self) -> gst::ClockTime {
        self.out.pull().unwrap().pts().unwrap()
    }

    /// Pushes frame `n` with its mask, and tells by how much its foreground has been lifted.
    pub fn lifted(&mut self, n: u64) -> u8 {
        self.push(n);
        self.out_lift(n)
    }

    /// By how much the foreground of the next frame out, which is frame `n`, has been lifted.
    pub fn out_lift(&mut self, n: u64) -> u8 {
        let out = self.out.pull().unwrap();
        assert_eq!(out.pts().unwrap().nseconds(), at(30, n));
        if let Some(model) = &self.model {
            until("the model's turn", || model.asked() >= model.count());
        }
        bytes(&out)[0] - 90
    }

    /// The texts of all warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        let messages = self.bus.iter_filtered(&[gst::MessageType::Warning]);
        messages
            .map(|message| {
                let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
                warning.error().to_string()
            })
            .collect()
    }

    pub fn stat(&self, name: &str) -> u64 {
        stat(&self.element, name)
    }

    /// The clock, whose time is running time as well.
    pub fn clock(&self) -> gst_check::TestClock {
        assert_eq!(self.element.base_time(), Some(gst::ClockTime::ZERO));
        self.element.clock().unwrap().downcast().unwrap()
    }

    /// Lets the element's wait for its next deadline end, and tells in ns what it was.
    pub fn deadline(&self) -> u64 {
        let clock = self.clock();
        let time = clock.wait_for_next_pending_id().time();
        assert!(clock.crank());
        // A question for the latency at that very moment makes the base class wait for the same time once more.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            if clock.peek_next_pending_id().is_some_and(|id| id.time() == time) {
                clock.crank();
            }
        }
        time.nseconds()
    }

    /// Pushes composite `n` without a mask.
    pub fn push_alone(&mut self, n: u64) {
        self.composite.push(buffer(at(30, n), at(30, n + 1) - at(30, n), &[90; 24])).unwrap();
    }
}
