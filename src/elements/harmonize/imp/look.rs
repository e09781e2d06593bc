//! The action signal `export-look`: the transfer that frames take now, written as a .cube file in the caller's thread. No frame
//! waits for it.

use super::{Harmonize, lock};
use crate::transfer::Look;
use crate::transfer::look::Residual;
use anyhow::{Context, Result};
use glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use once_cell::sync::Lazy;
use std::path::Path;

pub(super) fn signals() -> &'static [Signal] {
    static SIGNALS: Lazy<Vec<Signal>> = Lazy::new(|| {
        let export_look = Signal::builder("export-look")
            .param_types([String::static_type()])
            .return_type::<bool>()
            .action()
            .class_handler(|args| {
                let element = args.first()?.get::<super::super::Harmonize>().ok()?;
                let location = args.get(1)?.get::<Option<String>>().ok()?;
                Some(element.imp().export_look(location.as_deref().unwrap_or_default()).to_value())
            })
            .build();
        vec![export_look]
    });
    SIGNALS.as_ref()
}

impl Harmonize {
    /// Whether the look is written; a message tells of it either way.
    fn export_look(&self, location: &str) -> bool {
        match self.write_look(Path::new(location)).context("Can't export a look") {
            Ok(Residual { rms, maximum, untouched }) => {
                let look = gst::Structure::builder("application/x-harmonize-look")
                    .field("location", location)
                    .field("rms", rms)
                    .field("maximum", maximum)
                    .field("untouched", untouched)
                    .build();
                // Refused only while the element has no bus.
                let _ = self.obj().post_message(gst::message::Element::builder(look).src(&*self.obj()).build());
                true
            }
            Err(error) => {
                self.warn(&format!("{error:#}"));
                false
            }
        }
    }

    fn write_look(&self, path: &Path) -> Result<Residual> {
        let strength = lock(&self.settings).strength as f32;
        let current = self.stream.current().context("there is no transfer yet: no frame has been harmonized")?;
        let look = Look::new(&current.proxy, &current.transfer, strength)?;
        look.save(path)?;
        Ok(look.residual())
    }
}
