//! What is in the repository around the library: set-up, the scripts in pipelines/, other programs' ways to the plugin, the pages of
//! docs/, and what the folders of src may import of each other.

mod docs;
mod ges;
mod layers;
mod pipelines;
mod properties;
mod setup;
