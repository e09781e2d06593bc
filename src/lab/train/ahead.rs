//! Batches drawn before they are asked for, on threads of their own: a GPU computes faster than one thread draws.

use super::draw::{Batch, Samples, Source};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// Draws from one source.
pub struct Ahead<'a> {
    source: Source<'a>,
    threads: usize,
    promised: VecDeque<Batch>,
    asked: Sender<Batch>,
    drawn: Receiver<Samples>,
}

impl<'a> Ahead<'a> {
    /// On `threads` threads; with 0 nothing is drawn before it is asked for.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, source: Source<'a>, threads: usize) -> Self
    where
        'a: 'scope,
    {
        let ((asked, inbox), (outbox, drawn)) = (channel::<Batch>(), channel());
        if threads > 0 {
            scope.spawn(move || {
                for batch in inbox {
                    if outbox.send(Samples::draw(&batch, &source, threads)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { source, threads, promised: VecDeque::new(), asked, drawn }
    }

    /// `batch` will be asked for, after all that were promised before.
    pub fn promise(&mut self, batch: Batch) {
        if self.threads > 0 && self.asked.send(batch.clone()).is_ok() {
            self.promised.push_back(batch);
        }
    }

    /// The same whether it was promised or not.
    pub fn samples(&mut self, batch: &Batch) -> Samples {
        if self.promised.front() == Some(batch) {
            self.promised.pop_front();
            if let Ok(samples) = self.drawn.recv() {
                return samples;
            }
        }
        Samples::draw(batch, &self.source, self.threads)
    }
}
