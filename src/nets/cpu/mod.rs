//! What only large models on a CPU need: libtorch's own attention and convolutions leave a third of the processor idle there.
//! Small models and other devices never come here.

pub mod flash;
pub mod winograd;
