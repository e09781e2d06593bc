//! Making everything well again, and what has to come of it: frames, the end of the stream, and in the end nothing left.

use super::buffers::{ALIVE, Role};
use super::common;
use super::ledger::Counts;
use super::ops::{Op, Pads};
use super::rig::Rig;
use super::source::Quirk;
use super::watch::{self, PATIENCE, note, ticks, violated, watched};
use gst::prelude::*;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

impl Rig {
    /// Waits for `met` while tending to the pipeline; `started_anew` is called after each restart.
    fn wait(&mut self, what: &str, met: impl Fn(&Self) -> bool, started_anew: impl Fn(&mut Self)) {
        let mut since = ticks();
        while !met(self) {
            if self.tend() {
                since = ticks();
                started_anew(self);
            }
            // A bin that is still busy with one state change can lose the next.
            let (_, state, pending) = self.pipeline.state(gst::ClockTime::ZERO);
            if (ticks() - since) % (PATIENCE / 4) == PATIENCE / 8
                && (state, pending) == (gst::State::Paused, gst::State::VoidPending)
            {
                self.set_state(gst::State::Playing);
            }
            if ticks() - since > PATIENCE {
                let stats = self.element.property::<gst::Structure>("stats");
                let of =
                    |element: &gst::Element| format!("{} {:?}", element.name(), element.state(gst::ClockTime::ZERO));
                let states: Vec<_> = self.pipeline.iterate_elements().into_iter().flatten().map(|e| of(&e)).collect();
                for line in
                    [self.composite.describe(), self.mask.describe(), format!("{stats:?}"), format!("{states:?}")]
                {
                    note(&line);
                }
                note(&watch::threads());
                violated(format!("{what} has not come to pass"));
            }
            watch::check();
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes everything well, and waits for a frame.
    pub(super) fn settle(&mut self, with_mask: bool, drain: bool) {
        if with_mask {
            self.request_mask();
        }
        let heal = |this: &mut Self| {
            this.heal();
            for source in [&this.composite, &this.mask] {
                source.stall(false);
                source.pace(Duration::from_millis(1));
            }
            this.link(Role::Composite);
            this.set_state(gst::State::Playing);
            let slow = std::mem::take(&mut this.slow);
            let apart = this.composite.running().nseconds().abs_diff(this.mask.running().nseconds());
            if slow || this.composite.is_over() || this.mask.is_over() || this.ledger.is_eos() || apart > 500_000_000 {
                this.flush(Pads::Both, true, Duration::ZERO);
            }
        };
        heal(self);
        let first = self.ledger.number();
        self.wait(
            "A frame",
            |this| this.ledger.last().is_some_and(|last| last >= first) || this.composite.is_over(),
            heal,
        );
        if drain {
            self.composite.quirk(Quirk::Eos);
            self.wait("EOS", |this| this.ledger.is_eos(), |this| this.composite.quirk(Quirk::Eos));
            // With an error, the end has come before everything was out.
            if self.tend() {
                return;
            }
            self.ledger.expect_all_out();
            self.flush(Pads::Both, true, Duration::ZERO);
        }
    }

    /// Ends everything; nothing may be left of it.
    pub fn end(mut self) -> Counts {
        self.perform(&Op::Settle { with_mask: true, drain: true });
        self.down(gst::State::Null);
        self.ledger.restart();
        let seen = self.ledger.total();
        drop(self.ask.take());
        watched("the end of the queries", || self.asker.take().unwrap().join()).unwrap();
        watch::check();
        let objects = [self.element.upcast_ref::<gst::Object>(), self.composite.upcast_ref(), self.mask.upcast_ref()];
        let mut left: Vec<_> = objects.iter().map(|object| object.downgrade()).collect();
        left.push(self.pipeline.upcast_ref::<gst::Object>().downgrade());
        left.extend(self.pads.drain(..).filter_map(|pad| Some(pad.upgrade()?.upcast_ref::<gst::Object>().downgrade())));
        drop(self);
        let since = ticks();
        loop {
            let left: Vec<_> = left.iter().filter_map(|object| object.upgrade()).collect();
            if left.is_empty() {
                break;
            }
            if ticks() - since > PATIENCE {
                let counts = left.iter().map(|object| format!("{} {}", object.name(), object.ref_count() - 1));
                violated(format!("Left at the end, with their references: {:?}", counts.collect::<Vec<_>>()));
            }
            drop(left);
            watch::check();
            thread::sleep(Duration::from_millis(5));
        }
        common::until("the end of all buffers", || ALIVE.load(Ordering::SeqCst) == 0);
        watch::check();
        seen
    }
}
