//! docs/properties.md is what the elements themselves say: written from their ParamSpecs, pad templates and signals, and compared with
//! the file that is committed. `UPDATE_DOCS=1 cargo test --test repository properties` writes it anew.

use glib::ParamSpec;
use glib::prelude::*;
use glib::subclass::SignalId;
use glib::translate::{FromGlib, IntoGlib};
use gst::prelude::*;
use std::fmt::{Display, Write};
use std::fs;
use std::path::Path;
use std::sync::Once;

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstharmonize::plugin_register_static().unwrap();
    });
}

/// In the order of the page.
const ELEMENTS: [&str; 4] = ["harmonize", "harmonizebin", "alphamask", "alphamerge"];
/// An element of a bin's own, registered for applications that look up every factory.
const INNER: [&str; 1] = ["harmonizebinmasking"];
const WIDTH: usize = 130;
/// Templates with more formats than this have those of the GStreamer at hand, which newer ones add to.
const MAX_FORMATS: usize = 20;

const HEAD: &str = "\
# Pads, properties and signals

What `gst-inspect-1.0` says of each element, written from the elements themselves by `UPDATE_DOCS=1 cargo test --test repository properties`.
What the base classes add (`name`, `parent`, and GstAggregator's `latency` and its kin) is left out.

*Controllable*: a control binding may change it over stream time. *Any state*: it may be set while the pipeline plays. In
`gst-launch-1.0` an enum takes its value's nick, a time is in nanoseconds, and -1 leaves a time to the element.
";

/// Lines of at most `WIDTH`.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

fn sentence(text: &str) -> String {
    format!("{}{}", text, if text.ends_with(['.', '!', '?']) { "" } else { "." })
}

fn range<T: PartialEq + Display>([least, most]: [T; 2], of_type: [T; 2]) -> String {
    match (least == of_type[0], most == of_type[1]) {
        (true, true) if of_type[0].to_string().starts_with('-') => "any number".into(),
        (_, true) => format!("{least} and up"),
        _ => format!("{least} to {most}"),
    }
}

/// Type, default and range.
fn kind(spec: &ParamSpec) -> (String, Option<String>, Option<String>) {
    macro_rules! number {
        ($name:literal, $spec:ty, $type:ty) => {
            if let Some(own) = spec.downcast_ref::<$spec>() {
                let default = match own.default_value() {
                    <$type>::MAX if stringify!($type) == "u64" => "-1".to_owned(),
                    value if spec.name().ends_with("-color") => format!("{:#08x}", value as u64),
                    value => value.to_string(),
                };
                let range = range([own.minimum(), own.maximum()], [<$type>::MIN, <$type>::MAX]);
                return ($name.into(), Some(default), Some(range));
            }
        };
    }
    number!("int", glib::ParamSpecInt, i32);
    number!("uint", glib::ParamSpecUInt, u32);
    number!("uint64", glib::ParamSpecUInt64, u64);
    number!("float", glib::ParamSpecFloat, f32);
    number!("double", glib::ParamSpecDouble, f64);
    let (value, value_type) = (spec.default_value(), spec.value_type());
    if let Some(value) = glib::EnumValue::from_value(value).map(|(_, value)| value.nick().to_owned()) {
        return (format!("enum {}", value_type.name()), Some(value), None);
    }
    match value_type {
        glib::Type::BOOL => ("boolean".into(), Some(value.get::<bool>().unwrap().to_string()), None),
        glib::Type::STRING => ("string".into(), value.get().unwrap(), None),
        other => (other.name().to_owned(), None, None),
    }
}

/// When it may be set.
fn access(spec: &ParamSpec) -> String {
    let flags = spec.flags();
    if !flags.contains(glib::ParamFlags::WRITABLE) {
        return "read-only".into();
    }
    let when = match flags {
        _ if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) => "any state",
        _ if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) => "up to PAUSED",
        _ if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) => "NULL and READY",
        _ => "before PAUSED",
    };
    let controllable = if flags.contains(gst::PARAM_FLAG_CONTROLLABLE) { "controllable, " } else { "" };
    format!("{controllable}{when}")
}

fn property(text: &mut String, spec: &ParamSpec) {
    let (kind, default, range) = kind(spec);
    let default = default.map(|default| format!("default `{default}`"));
    let is_read_only = !spec.flags().contains(glib::ParamFlags::WRITABLE);
    let facts = [Some(kind), default.filter(|_| !is_read_only), range.filter(|_| !is_read_only), Some(access(spec))];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    writeln!(text, "\n#### {}\n\n{}\n", spec.name(), facts.join("; ")).unwrap();
    let blurb = spec.blurb().filter(|blurb| !blurb.is_empty());
    text.push_str(&wrapped(&sentence(blurb.unwrap_or_else(|| panic!("{} says nothing of itself", spec.name())))));
    // Those of GStreamer's own enums are not ours to tell.
    let own = glib::EnumClass::with_type(spec.value_type()).filter(|_| spec.value_type().name().starts_with("GstHarm"));
    if let Some(own) = own {
        text.push_str("\n| value | |\n|---|---|\n");
        for value in own.values() {
            writeln!(text, "| `{}` | {} |", value.nick(), value.name()).unwrap();
        }
    }
}

fn pads(text: &mut String, factory: &gst::ElementFactory) {
    text.push_str("\n| pad | | caps |\n|---|---|---|\n");
    for template in factory.static_pad_templates().iter() {
        let direction = match template.direction() {
            gst::PadDirection::Sink => "in",
            _ => "out",
        };
        let presence = match template.presence() {
            gst::PadPresence::Always => "always",
            gst::PadPresence::Sometimes => "sometimes",
            _ => "on request",
        };
        let caps = template.caps();
        let formats = caps.structure(0).and_then(|caps| caps.get::<gst::List>("format").ok());
        let mut formats: Vec<String> = match &formats {
            Some(list) => list.iter().map(|format| format.get::<String>().unwrap()).collect(),
            None => caps.structure(0).and_then(|caps| caps.get::<String>("format").ok()).into_iter().collect(),
        };
        formats.sort();
        let caps = match formats.len() {
            0 | MAX_FORMATS.. => "raw video of many [formats](formats.md)".into(),
            _ => format!("`{}`", formats.join("`, `")),
        };
        writeln!(text, "| `{}` | {direction}, {presence} | {caps} |", template.name_template()).unwrap();
    }
}

/// Those of the type itself.
fn signals(type_: glib::Type) -> Vec<SignalId> {
    let mut count = 0;
    // SAFETY: the list has `count` ids and is ours to free.
    unsafe {
        let ids = glib::gobject_ffi::g_signal_list_ids(type_.into_glib(), &mut count);
        let list = (0..count as usize).map(|i| SignalId::from_glib(*ids.add(i))).collect();
        glib::ffi::g_free(ids.cast());
        list
    }
}

fn signal(text: &mut String, id: SignalId) {
    let query = id.query();
    let what = match query.signal_name() {
        "export-look" => {
            "Writes what happens to the foreground's colours now as a look in the .cube file that the string names; see \
             [Exporting a LUT](cli.md#exporting-a-lut). Posts an element message `application/x-harmonize-look` with `location`, `rms`, `maximum` \
             and `untouched` and returns true; else returns false, and a WARNING says why."
        }
        other => panic!("nothing is known of the signal {other}"),
    };
    let action = if query.flags().contains(glib::SignalFlags::ACTION) { "action signal; " } else { "" };
    let name = |kind: &glib::subclass::SignalType| match kind.type_() {
        glib::Type::BOOL => "boolean",
        glib::Type::STRING => "string",
        other => other.name(),
    };
    let takes: Vec<&str> = query.param_types().iter().map(name).collect();
    let gives = query.return_type();
    writeln!(text, "\n#### {}\n\n{action}takes {}; returns {}\n", query.signal_name(), takes.join(", "), name(&gives))
        .unwrap();
    text.push_str(&wrapped(what));
}

fn page() -> String {
    let mut text = HEAD.to_owned();
    for name in ELEMENTS {
        let factory =
            gst::ElementFactory::find(name).unwrap().load().unwrap().downcast::<gst::ElementFactory>().unwrap();
        let element = factory.create().build().unwrap();
        let what = |key| factory.metadata(key).unwrap().to_owned();
        writeln!(text, "\n## {name}\n").unwrap();
        text.push_str(&wrapped(&format!("{} ({})", sentence(&what("description")), what("klass"))));
        pads(&mut text, &factory);
        let own: Vec<ParamSpec> =
            element.list_properties().iter().filter(|spec| spec.owner_type() == element.type_()).cloned().collect();
        if !own.is_empty() {
            let links: Vec<String> = own.iter().map(|spec| format!("[{0}](#{0})", spec.name())).collect();
            writeln!(text, "\n### Properties of {name}\n\n{}", wrapped(&links.join(", ")).trim_end()).unwrap();
            own.iter().for_each(|spec| property(&mut text, spec));
        }
        let signals = signals(element.type_());
        if !signals.is_empty() {
            writeln!(text, "\n### Signals of {name}").unwrap();
            signals.into_iter().for_each(|id| signal(&mut text, id));
        }
    }
    text
}

#[test]
fn the_page_is_what_the_elements_say() {
    init();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/properties.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    if let Some((n, (found, wanted))) = written
        .lines()
        .chain([""])
        .zip(page.lines().chain([""]))
        .enumerate()
        .find(|(_, (found, wanted))| found != wanted)
    {
        panic!(
            "docs/properties.md, line {}: {found:?}, and the elements say {wanted:?}: \
             run UPDATE_DOCS=1 cargo test --test repository properties to write it",
            n + 1
        );
    }
    assert_eq!(written, page, "run UPDATE_DOCS=1 cargo test --test repository properties to write it");
}

#[test]
fn the_page_has_every_element() {
    init();
    let features = gst::Registry::get().features_by_plugin("harmonize");
    let mut found: Vec<String> = features.iter().map(|feature| feature.name().to_string()).collect();
    let mut known: Vec<&str> = ELEMENTS.iter().chain(&INNER).copied().collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}
