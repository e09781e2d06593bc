//! What is in the repository around the library: set-up, the scripts in pipelines/, other programs' ways to the plugin, and what the
//! folders of src may import of each other.

mod ges;
mod layers;
mod pipelines;
mod setup;
