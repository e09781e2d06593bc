//! In place of the page where nothing is there to draw with.

use super::log::LogRow;
use crate::harmonizers::training::Stage;
use anyhow::Result;
use std::path::Path;
use tch::Tensor;

pub fn draw(_: &[LogRow], _: &[Stage], _: Option<&[Tensor; 4]>, _: &Path) -> Result<()> {
    Ok(())
}
