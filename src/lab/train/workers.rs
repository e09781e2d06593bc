//! Data-parallel gradients: every worker holds aliases of the same weights and of their averages and a torch of one thread
//! (libgomp's barriers are ruinous beside other work), draws its own samples and sends its gradients back.

use super::ahead::Ahead;
use super::class::Class;
use super::draw::{Batch, Samples, Source};
use super::optimizer::Optimizer;
use crate::harmonizers::training::{Drawn, Recipe, Trainee};
use crate::nets::Weights;
use anyhow::{Result, anyhow, bail};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use tch::{Device, Kind, Tensor, no_grad};

/// Loss and gradients of one batch; without gradients where only measured.
pub struct Answer {
    pub loss: f64,
    /// Mean over the samples of the squared error in the foreground: harmonized and composite, in 0..255 squared.
    pub fmse: [f64; 2],
    /// None for a parameter that the stage leaves alone.
    pub gradients: Vec<Option<Tensor>>,
    /// Where pictures were asked for: composite, mask, harmonized and real ones, B x channels x h x w in 0..1.
    pub pictures: Option<[Tensor; 4]>,
}

#[derive(Clone)]
pub enum Task {
    /// Of a batch of training composites in the stage of this number.
    Gradients(Batch, usize),
    /// Of a batch of validation composites, by the averaged weights.
    Measure(Batch, usize),
    /// This batch will be asked for: it may be drawn beside what is computed meanwhile. There is no answer.
    Ahead(Batch),
}

pub struct Worker<'scope> {
    tasks: Sender<Task>,
    answers: Receiver<Result<Answer>>,
    _thread: ScopedJoinHandle<'scope, ()>,
}

/// What all workers share.
#[derive(Clone)]
pub struct Setup<'a> {
    pub training: Source<'a>,
    pub validation: Source<'a>,
    pub class: Class,
    pub recipe: Recipe,
    pub device: Device,
    /// Threads of each worker that draw composites ahead; with 0 it draws them itself when it is asked.
    pub threads: usize,
}

impl<'scope> Worker<'scope> {
    /// A worker on the parameters of `optimizer` and their averages, which it reads and never writes.
    pub fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        job: Setup<'env>,
        optimizer: &Optimizer,
    ) -> Result<Self> {
        let (tasks, inbox) = channel();
        let (outbox, answers) = channel();
        let alias = |(name, p): (&String, &Tensor)| -> Result<_> {
            Ok((name.clone(), p.f_detach()?.f_set_requires_grad(true)?))
        };
        let student: BTreeMap<_, _> = optimizer.params.iter().map(alias).collect::<Result<_>>()?;
        let averages = || -> Result<BTreeMap<_, _>> {
            optimizer.averages().map(|(name, p)| Ok((name.clone(), p.f_detach()?))).collect()
        };
        let mut ahead = Ahead::start(scope, job.training, job.threads);
        let (teacher, shipped, its_teacher) = (averages()?, averages()?, averages()?);
        let thread = scope.spawn(move || {
            tch::set_num_threads(1);
            let leaves: Vec<Tensor> = student.values().map(Tensor::shallow_clone).collect();
            let net = |student, teacher| {
                let [student, teacher] = [student, teacher].map(|params| Weights::given(params, job.device));
                (job.class.training.trainee)([&student.root(), &teacher.root()], job.recipe, job.device)
            };
            // What is measured is what is saved: the averages.
            let nets = net(student, teacher).and_then(|trained| Ok([trained, net(shipped, its_teacher)?]));
            for task in inbox {
                if let Task::Ahead(batch) = task {
                    ahead.promise(batch);
                    continue;
                }
                let answer = match &nets {
                    Ok(nets) => job.answer(nets, &leaves, &mut ahead, &task),
                    Err(e) => Err(anyhow!("{e:#}")),
                };
                if outbox.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Self { tasks, answers, _thread: thread })
    }

    pub fn ask(&self, task: Task) -> Result<()> {
        self.tasks.send(task).map_err(|_| anyhow!("a training worker has ended"))
    }

    pub fn answer(&self) -> Result<Answer> {
        self.answers.recv().map_err(|_| anyhow!("a training worker has ended"))?
    }
}

impl Setup<'_> {
    fn answer(
        &self,
        [trained, saved]: &[Box<dyn Trainee>; 2],
        leaves: &[Tensor],
        ahead: &mut Ahead,
        task: &Task,
    ) -> Result<Answer> {
        match task {
            Task::Measure(batch, stage) => no_grad(|| {
                let Source { at_end, .. } = self.validation;
                let samples = Samples::draw(batch, &self.validation, self.threads);
                let mut drawn = samples.onto(self.device, at_end)?;
                self.forward(&**saved, &mut drawn, *stage, true).map(|(_, answer)| answer)
            }),
            Task::Gradients(batch, stage) => {
                let mut drawn = ahead.samples(batch).onto(self.device, self.training.at_end)?;
                let (loss, mut answer) = self.forward(&**trained, &mut drawn, *stage, false)?;
                let gradients = Tensor::f_run_backward(&[&loss], leaves, false, false)?;
                answer.gradients = gradients.into_iter().map(|g| g.defined().then_some(g)).collect();
                Ok(answer)
            }
            Task::Ahead(_) => bail!("what is drawn ahead has no answer"),
        }
    }

    fn forward(&self, net: &dyn Trainee, drawn: &mut Drawn, stage: usize, pictures: bool) -> Result<(Tensor, Answer)> {
        let forward = net.forward(drawn, stage)?;
        let change = drawn.change()?;
        let mean = |error: &Tensor| -> Result<f64> {
            Ok(drawn.fmse(error)?.f_mean(Kind::Float)?.f_double_value(&[])? * 255.0 * 255.0)
        };
        let fmse = [mean(&forward.change.f_detach()?.f_sub(&change)?)?, mean(&change)?];
        let harmonized = drawn.composite.f_add(&forward.change.f_detach()?)?;
        let shown = [&drawn.composite, &drawn.mask, &harmonized, &drawn.real].map(Tensor::shallow_clone);
        let loss = forward.loss.f_double_value(&[])?;
        let answer = Answer { loss, fmse, gradients: Vec::new(), pictures: pictures.then_some(shown) };
        Ok((forward.loss, answer))
    }
}
