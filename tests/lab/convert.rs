//! PyTorch's files, whole, damaged and malicious, to safetensors.

use crate::torch_file::{Entry, Pickle, Zip, bytes, file};
use gstharmonize::lab::convert::{Checkpoint, Converted, FoundPickle, convert, find};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const QUIET: &dyn Fn(u64, u64) = &|_, _| ();

fn converted(file: &[u8]) -> (Converted, BTreeMap<String, Tensor>) {
    let folder = tempfile::tempdir().unwrap();
    let (pickle, safetensors) = (folder.path().join("model.bin"), folder.path().join("model.safetensors"));
    fs::write(&pickle, file).unwrap();
    let converted = convert(&pickle, &safetensors, QUIET).unwrap();
    assert_eq!(converted.bytes, safetensors.metadata().unwrap().len());
    (converted, Tensor::read_safetensors(safetensors).unwrap().into_iter().collect())
}

/// Why a file is refused; nothing is left behind.
fn refused(file: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let pickle = folder.path().join("model.bin");
    fs::write(&pickle, file).unwrap();
    let error = format!("{:#}", convert(&pickle, &folder.path().join("model.safetensors"), QUIET).unwrap_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{error}");
    error.strip_prefix(&format!("{}: ", pickle.display())).expect("the file's name").to_owned()
}

fn counting(n: i64, kind: Kind) -> Tensor {
    Tensor::arange(n, (Kind::Float, Device::Cpu)).to_kind(kind)
}

fn entry<'a>(name: &'a str, storage: &'a str, offset: i64, shape: &'a [i64], strides: &'a [i64]) -> Entry<'a> {
    Entry { name, storage, key: "0", offset, shape, strides }
}

fn same(found: &Tensor, expected: &Tensor) {
    assert_eq!((found.kind(), found.size(), bytes(found)), (expected.kind(), expected.size(), bytes(expected)));
}

/// The file is one that torch 2.11 saved, with every kind, a channels-last convolution and CLIP's position ids.
#[test]
fn a_file_of_pytorch_s_own_is_read_as_it_was_meant() {
    let (converted, tensors) = converted(include_bytes!("saved-by-torch.bin"));
    assert_eq!((converted.tensors, &converted.dropped[..]), (6, &["position_ids".to_owned()][..]));
    let expected = [
        ("conv.weight", vec![2, 3, 2, 2], Kind::Float),
        ("conv.bias", vec![2], Kind::Float),
        ("lin.weight", vec![2, 3], Kind::Half),
        ("lin.bias", vec![2], Kind::Half),
        ("norm.weight", vec![3], Kind::BFloat16),
        ("norm.bias", vec![3], Kind::BFloat16),
    ];
    assert_eq!(tensors.len(), expected.len());
    for (name, shape, kind) in expected {
        let values = (counting(shape.iter().product(), Kind::Float) / 4).to_kind(kind).view(&shape[..]);
        same(&tensors[name], &values);
    }
}

#[test]
fn offsets_strides_and_shared_storages_give_the_values_they_name() {
    for (kind, storage) in
        [(Kind::Float, "FloatStorage"), (Kind::Half, "HalfStorage"), (Kind::BFloat16, "BFloat16Storage")]
    {
        let base = counting(24, kind);
        let views: [(&str, i64, &[i64], &[i64]); 9] = [
            ("all", 0, &[24], &[1]),
            ("matrix", 0, &[4, 6], &[6, 1]),
            ("transposed", 0, &[6, 4], &[1, 6]),
            ("part", 5, &[7], &[1]),
            ("every third", 1, &[2, 3], &[9, 3]),
            ("channels last", 0, &[2, 3, 2, 2], &[12, 1, 6, 3]),
            ("one", 23, &[1, 1], &[1 << 40, 7]),
            ("scalar", 2, &[], &[]),
            ("empty", 0, &[0, 3], &[3, 1]),
        ];
        let entries = views.map(|(name, offset, shape, strides)| entry(name, storage, offset, shape, strides));
        let (converted, tensors) = converted(&file(&Pickle::new().state_dict(&entries).end(), &[("0", &bytes(&base))]));
        assert_eq!((converted.tensors, converted.dropped.len()), (views.len(), 0));
        for (name, offset, shape, strides) in views {
            let strides = if name == "one" { &[1, 1] } else { strides };
            same(&tensors[name], &base.as_strided(shape, strides, offset));
        }
    }
}

#[test]
fn a_training_checkpoint_gives_its_state_dict() {
    let entries = [entry("a", "FloatStorage", 0, &[3], &[1]), entry("b.position_ids", "LongStorage", 0, &[1], &[1])];
    let mut pickle = Pickle::new();
    pickle.op(b"}").op(b"(").text("epoch").int(70_000).text("lr").op(b"G").op(&0.1f64.to_be_bytes());
    pickle.text("losses").op(b"](").int(1).int(2).op(b"e").text("state_dict").state_dict(&entries).op(b"u");
    let (converted, tensors) = converted(&file(&pickle.end(), &[("0", &bytes(&counting(3, Kind::Float)))]));
    assert_eq!(converted.dropped, ["b.position_ids"]);
    same(&tensors["a"], &counting(3, Kind::Float));
}

#[test]
fn a_parameter_is_its_tensor() {
    let mut pickle = Pickle::new();
    pickle.op(b"}").text("a").global("torch._utils", "_rebuild_parameter");
    pickle.tensor(&entry("", "FloatStorage", 1, &[2], &[1])).op(b"\x88").ordered_dict().op(b"\x87Rs");
    let (_, tensors) = converted(&file(&pickle.end(), &[("0", &bytes(&counting(3, Kind::Float)))]));
    same(&tensors["a"], &counting(3, Kind::Float).narrow(0, 1, 2));
}

/// Eight dimensions and a name of 256 bytes, escaped in the file, is the most that loading takes; position ids of any kind are
/// no weights there.
#[test]
fn what_is_converted_is_what_loading_takes() {
    let long = "\"".repeat(256);
    let convertible =
        [entry(&long, "FloatStorage", 0, &[1; 8], &[1; 8]), entry("position_ids", "HalfStorage", 0, &[1], &[1])];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.bin"), file(&Pickle::new().state_dict(&convertible).end(), &[("0", &[0; 4])])).unwrap();
    let converted = convert(&path("a.bin"), &path("a.safetensors"), QUIET).unwrap();
    assert_eq!((converted.tensors, &converted.dropped[..]), (1, &["position_ids".to_owned()][..]));
    let loaded = gstharmonize::nets::weights::read(&path("a.safetensors")).unwrap();
    assert_eq!(loaded[&long].size(), [1; 8]);

    let refused = |names: &[String]| {
        let entries: Vec<_> = names.iter().map(|name| entry(name, "FloatStorage", 0, &[1], &[1])).collect();
        refused(&file(&Pickle::new().state_dict(&entries).end(), &[("0", &[0; 1 << 18])]))
    };
    assert!(refused(&["x".repeat(257)]).contains("has a name that no network's has"));
    assert!(refused(&["\u{1b}[2J".into()]).contains(r#"tensor "\u{1b}[2J" has a name"#));
    // Names that take a header of more than the 4 MB that are read, and one that a header gives another meaning.
    let names: Vec<_> = (0..8000).map(|i| format!("{}{i}", "\"".repeat(240))).collect();
    assert!(refused(&names).contains("its header claims"), "{}", refused(&names));
    assert!(refused(&["__metadata__".into(), "a".into()]).contains("safetensors"));
}

#[test]
fn errors_show_little_of_what_a_file_says_and_that_escaped() {
    let long = format!("\u{1b}]0;owned\u{7}{}", "x".repeat(1 << 20));
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let two = |first: &str, second: &str| [text(first), text(second), b"\x93.".to_vec()].concat();
    let storage = Entry { key: &long, ..entry("a", "FloatStorage", 0, &[1], &[1]) };
    let mut zip = Zip::default();
    zip.add(&format!("../{}", &long[..60_000]), b"");
    for file in [
        pickled(&two(&long, "system")),
        pickled(&two("os", &long)),
        pickled(&[b"}".to_vec(), text(&long), b"Ns.".to_vec()].concat()),
        file(&Pickle::new().state_dict(&[entry(&long, "FloatStorage", 0, &[1], &[1])]).end(), &[("0", &[0; 4])]),
        file(&Pickle::new().state_dict(&[storage]).end(), &[("0", &[0; 4])]),
        zip.end(),
    ] {
        let error = refused(&file);
        assert!(error.contains("owned") && error.contains(" bytes more"), "{error:.2000}");
        assert!(error.len() < 300 && !error.contains(char::is_control), "{error:.2000}");
    }
}

/// A file whose pickle is `pickle` behind its protocol.
fn pickled(pickle: &[u8]) -> Vec<u8> {
    file(&[b"\x80\x04", pickle].concat(), &[("0", &[0; 64])])
}

#[test]
fn what_asks_for_code_is_named_and_gets_none() {
    let cases: [(&[u8], &str); 19] = [
        (b"cos\nsystem\nX\x04\0\0\0true\x85R.", "it asks to run \"os.system\","),
        (b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "it asks to run \"posix.system\","),
        (b"c__builtin__\neval\n(X\x01\0\0\x001tR.", "it asks to run \"__builtin__.eval\","),
        (b"ctorch._utils\n_rebuild_tensor_v3\n.", "it asks to run \"torch._utils._rebuild_tensor_v3\","),
        (b"ctorch\nload\n.", "it asks to run \"torch.load\","),
        (b"(X\x04\0\0\0trueios\nsystem\n.", "it asks for opcode INST,"),
        (b"(X\x04\0\0\0trueo.", "it asks for opcode OBJ,"),
        (b"ccollections\nOrderedDict\n)\x81.", "it asks for opcode NEWOBJ,"),
        (b"ccollections\nOrderedDict\n)}\x92.", "it asks for opcode NEWOBJ_EX,"),
        (b"\x82\x01.", "it asks for opcode EXT1,"),
        (b"\x83\x01\0.", "it asks for opcode EXT2,"),
        (b"\x84\x01\0\0\0.", "it asks for opcode EXT4,"),
        (b"}2.", "it asks for opcode DUP,"),
        (b"\xff.", "it asks for opcode 0xff,"),
        (b"ccollections\nOrderedDict\n}b.", "it asks to set up an object (BUILD)"),
        (b"N}b.", "it asks to set up an object (BUILD)"),
        (b"X\x04\0\0\0true)R.", "it asks to call what is no function"),
        (b"ccollections\nOrderedDict\nN\x85R.", "it calls OrderedDict in a way"),
        (b"Pos.system\n.", "it asks for opcode PERSID,"),
    ];
    for (pickle, expected) in cases {
        let error = refused(&pickled(pickle));
        assert!(error.starts_with(expected), "{:?}: {error}", pickle.escape_ascii().to_string());
    }
}

#[test]
fn a_damaged_pickle_is_an_error() {
    let cases: [(&[u8], &str); 23] = [
        (b"", "cut short"),
        (b"}", "cut short"),
        (b".", "empty stack"),
        (b"(.", "empty stack"),
        (b"N.", "holds no state dict"),
        (b"}.", "holds no weights"),
        (b"}X\x01\0\0\0aNs.", "\"a\" in its state dict is not a tensor"),
        (b"}K\x01Ns.", "a key that is no text"),
        (b"}(Nu.", "a key without a value"),
        (b"NNNs.", "items of what is no dict"),
        (b"}Na.", "appends to what is no list"),
        (b"t.", "empty stack"),
        (b"(\x85.", "empty stack"),
        (b"N(\x85t.", "empty stack"),
        (b"h\x07.", "recalls 7, which it never kept"),
        (b"j\xff\xff\xff\xff.", "recalls 4294967295, which it never kept"),
        (b"X\xff\xff\xff\xffa.", "cut short"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.", "cut short"),
        (b"X\x01\0\0\0\xff.", "not UTF-8"),
        (b"\x8a\xff.", "a number of 255 bytes"),
        (b"cos", "cut short"),
        (b"K\x01K\x02\x93.", "by what is no text"),
        (b"K\x01Q.", "by what is no tuple"),
    ];
    for (pickle, expected) in cases {
        let error = refused(&pickled(pickle));
        assert!(error.contains(expected), "{:?}: {error}", pickle.escape_ascii().to_string());
    }
    assert!(refused(&file(b"\x80\x01}.", &[])).contains("protocol 2 to 5"));
    assert!(refused(&file(b"(dp0\n.", &[])).contains("protocol 2 to 5"));
}

#[test]
fn bombs_take_neither_the_stack_nor_the_memory() {
    let deep = [b")", &[0x85; 200_000][..], b"."].concat();
    assert!(refused(&pickled(&deep)).contains("holds no state dict"));
    assert!(refused(&pickled(&[b'('; 200_000])).contains("cut short"));
    assert!(refused(&pickled(&[b'N'; 1 << 20])).contains("values, more than weights need"));
    assert!(refused(&pickled(&vec![b'('; 5 << 20])).contains("larger than weights need"));
    // A list in a list twice over, forty times: a trillion values for who copies them.
    let doubled = [b"]".as_slice(), &b"q\0h\0\x86".repeat(40), b"."].concat();
    assert!(refused(&pickled(&doubled)).contains("holds no state dict"));
    // The memo's numbers need not be dense.
    assert!(refused(&pickled(b"Nr\xff\xff\xff\xff.")).contains("holds no state dict"));
}

#[test]
fn tensors_beyond_their_storage_are_named() {
    let refused = |storage: &str, offset, shape: &[i64], strides: &[i64]| {
        let entries = [entry("a", storage, offset, shape, strides)];
        refused(&file(&Pickle::new().state_dict(&entries).end(), &[("0", &[0; 64])]))
    };
    for (offset, shape, strides) in [
        (0, &[17][..], &[1][..]),
        (1, &[16], &[1]),
        (0, &[2], &[16]),
        (0, &[1 << 40], &[0]),
        (0, &[17], &[0]),
        (1 << 62, &[1], &[1]),
        (0, &[1 << 62, 1 << 62], &[1, 1]),
        (0, &[2, 2], &[1 << 62, 1]),
        (0, &[2], &[i64::MAX]),
    ] {
        let error = refused("FloatStorage", offset, shape, strides);
        assert!(error.starts_with("tensor \"a\": shape ") && error.contains("its 64 bytes"), "{error}");
    }
    assert!(refused("FloatStorage", -1, &[1], &[1]).contains("-1 for a size"));
    assert!(refused("FloatStorage", 0, &[1], &[-1]).contains("-1 for a size"));
    assert!(refused("FloatStorage", 0, &[1, 1], &[1]).contains("by strides [1]"));
    assert!(refused("FloatStorage", 0, &[1; 9], &[1; 9]).contains("9 dimensions"));
    assert!(refused("LongStorage", 0, &[1], &[1]).contains("tensor \"a\": it is of kind I64"));
    assert!(refused("DoubleStorage", 0, &[1], &[1]).contains("tensor \"a\": it is of kind F64"));
    assert!(refused("ComplexFloatStorage", 0, &[1], &[1]).contains("asks to run \"torch.ComplexFloatStorage\""));
}

#[test]
fn a_small_file_does_not_fill_a_disk() {
    let names: Vec<_> = (0..200).map(|i| i.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, "FloatStorage", 0, &[1 << 14], &[1])).collect();
    let file = file(&Pickle::new().state_dict(&entries).end(), &[("0", &[0; 1 << 16])]);
    assert!(refused(&file).contains("the same values too many names"));
}

/// Each entry would be read in full: many over the same bytes take for ever.
#[test]
fn entries_that_overlap_are_refused() {
    let tensors = ["0", "1"].map(|key| Entry { key, ..entry(key, "FloatStorage", 0, &[1 << 12], &[1]) });
    let mut zip = Zip::default();
    zip.add("m/data.pkl", &Pickle::new().state_dict(&tensors).end());
    let position = (zip.bytes.len() as u32).to_le_bytes();
    zip.add("m/data/0", &[0; 1 << 14]);
    let (length, record) = (zip.bytes.len(), zip.directory.len());
    zip.add("m/data/1", &[0; 1 << 14]);
    zip.bytes.truncate(length);
    zip.directory[record + 42..][..4].copy_from_slice(&position);
    assert!(refused(&zip.end()).contains("its entries overlap"));
}

#[test]
fn archives_that_lie_are_refused() {
    let pickle = Pickle::new().state_dict(&[entry("a", "FloatStorage", 0, &[16], &[1])]).end();
    let good = file(&pickle, &[("0", &[1; 64])]);
    converted(&good);
    let change = |change: &dyn Fn(&mut Zip)| {
        let mut zip = Zip::default();
        zip.add("m/data.pkl", &pickle).add("m/data/0", &[1; 64]);
        change(&mut zip);
        refused(&zip.end())
    };
    let last = 46 + "m/data/0".len();
    let field = |at: usize, value: [u8; 4]| {
        change(&|zip| {
            let at = zip.directory.len() - last + at;
            zip.directory[at..at + 4].copy_from_slice(&value);
        })
    };
    assert!(field(24, [0xf0, 0xff, 0xff, 0xff]).contains("\"m/data/0\" lies outside the file"));
    assert!(field(42, [0xf0, 0xff, 0xff, 0xff]).contains("\"m/data/0\" lies outside the file"));
    assert!(field(42, [1, 0, 0, 0]).contains("\"m/data/0\" lies outside the file"));
    assert!(field(24, [0xff; 4]).contains("\"m/data/0\" lies outside the file"));
    assert!(field(16, [1, 2, 3, 4]).contains("\"m/data/0\" is damaged"));
    assert!(field(8, [0, 0, 8, 0]).contains("\"m/data/0\" is compressed"));
    assert!(field(8, [1, 0, 0, 0]).contains("\"m/data/0\" is encrypted"));
    assert!(field(28, [0xff; 4]).contains("the directory is damaged"));
    let add = |name: &str, data: &[u8]| {
        change(&|zip| {
            zip.add(name, data);
        })
    };
    for name in ["m/../../etc/cron.d/x", "/etc/passwd", "..\\x"] {
        assert!(add(name, b"x").contains("leads out of the archive"));
    }
    assert!(add("m/data/0", b"x").contains("two entries \"m/data/0\""));
    assert!(change(&|zip| zip.count = 1 << 18).contains("the directory is damaged"));
    assert!(change(&|zip| zip.count = (1 << 18) + 1).contains("it claims 262145 entries"));
    assert!(add("n/data.pkl", b"x").contains("not one that torch.save wrote"));
    assert!(add("m/byteorder", b"big").contains("its byte order is \"big\""));
    assert!(add("m/byteorder", &[b'x'; 1 << 20]).contains("its byte order is an entry of 1048576 bytes"));
    assert!(change(&|zip| *zip = Zip::default()).contains("not one that torch.save wrote"));
    assert!(refused(&file(&pickle, &[])).contains("\"model/data/0\" is missing"));
}

/// As beyond 4 GiB: what doesn't fit 32 bits stands in a field of its own.
#[test]
fn numbers_of_64_bits_are_read_where_they_stand() {
    let pickle = Pickle::new().state_dict(&[entry("a", "FloatStorage", 0, &[16], &[1])]).end();
    let values = bytes(&counting(16, Kind::Float));
    let mut zip = Zip::default();
    zip.add("m/data.pkl", &pickle);
    let (position, record) = (zip.bytes.len() as u64, zip.directory.len());
    zip.add("m/data/0", &values);
    let size = values.len() as u64;
    zip.directory
        .extend([&[1, 0, 24, 0][..], &size.to_le_bytes(), &size.to_le_bytes(), &position.to_le_bytes()].concat());
    for (at, value) in [(20, &[0xff; 4][..]), (24, &[0xff; 4]), (30, &[28, 0]), (42, &[0xff; 4])] {
        zip.directory[record + at..][..value.len()].copy_from_slice(value);
    }
    same(&converted(&zip.end()).1["a"], &counting(16, Kind::Float));
}

#[test]
fn what_is_no_checkpoint_is_told_apart() {
    let good = include_bytes!("saved-by-torch.bin");
    assert!(refused(&good[..good.len() - 1]).contains("cut short or damaged"));
    assert!(refused(&good[..good.len() / 2]).contains("cut short or damaged"));
    assert!(refused(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").contains("before 1.6"));
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").contains("Git LFS pointer"));
    assert!(refused(b"\n<!DOCTYPE html><html>").contains("a web page"));
    assert!(refused(b"\x80\x04cos\nsystem\n.").contains("not a file that torch.save wrote"));
    assert!(refused(b"").contains("not a file that torch.save wrote"));
    let absent =
        format!("{:#}", convert(Path::new("/no/such.bin"), Path::new("/no/such.safetensors"), QUIET).unwrap_err());
    assert!(absent.contains("/no/such.bin: No such file"), "{absent}");
}

/// Bytes flipped, inserted, removed and cut, in the same order every time.
#[test]
fn mutations_end_in_a_file_or_an_error() {
    let good = include_bytes!("saved-by-torch.bin");
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..1500 {
        let mut file = good.to_vec();
        for _ in 0..=random(4) {
            // The pickle, the directory, or anywhere.
            let (start, end) = [(0x40, 0x340), (0xac0, file.len()), (0, file.len())][random(3)];
            let at = start + random(end.max(start + 1) - start);
            let at = at.min(file.len() - 1);
            match random(8) {
                0 => file.truncate(at.max(1)),
                1 => drop(file.remove(at)),
                2 => file.insert(at, random(256) as u8),
                3 => file[at] = 0xff,
                4 => file[at] = 0,
                _ => file[at] ^= 1 << random(8),
            }
        }
        let written = Checkpoint::read(&file).and_then(|checkpoint| {
            checkpoint.verify(QUIET)?;
            checkpoint.write(&folder.path().join("out"), QUIET)
        });
        match written {
            Ok(()) => {
                whole += 1;
                assert!(folder.path().join("out").metadata().unwrap().len() <= 4 * file.len() as u64);
            }
            Err(_) => broken += 1,
        }
    }
    assert!(whole > 50 && broken > 500, "{whole} whole, {broken} broken");
}

#[test]
fn an_interrupted_conversion_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("model.bin"), include_bytes!("saved-by-torch.bin")).unwrap();
    fs::write(path("model.safetensors.part"), vec![7; 100_000]).unwrap();
    convert(&path("model.bin"), &path("model.safetensors"), QUIET).unwrap();
    assert_eq!(Tensor::read_safetensors(path("model.safetensors")).unwrap().len(), 6);
    assert!(!path("model.safetensors.part").exists() && path("model.bin").exists());
}

/// An archive may hold a link where the new file is made.
#[test]
fn a_link_in_the_way_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("model.bin"), include_bytes!("saved-by-torch.bin")).unwrap();
    fs::write(path("precious"), "kept").unwrap();
    std::os::unix::fs::symlink(path("precious"), path("model.safetensors.part")).unwrap();
    convert(&path("model.bin"), &path("model.safetensors"), QUIET).unwrap();
    assert_eq!(fs::read_to_string(path("precious")).unwrap(), "kept");
    assert!(path("model.safetensors").symlink_metadata().unwrap().is_file());
}

#[test]
fn links_are_followed_within_the_model_folder_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for part in ["model/unet", "other/vae"] {
        fs::create_dir_all(path(part)).unwrap();
        fs::write(path(part).join("config.json"), "{}").unwrap();
        fs::write(path(part).join("weights.bin"), "").unwrap();
    }
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, path(at)).unwrap();
    link("unet", "model/refinement");
    link("../other/vae", "model/vae");
    link("..", "model/up");
    let found = find(&path("model")).unwrap();
    let weights = |part: &str| FoundPickle::Weights {
        pickle: path(part).join("weights.bin"),
        safetensors: path(part).join("weights.safetensors"),
    };
    let out = |at: &str| FoundPickle::Skipped {
        path: path(at),
        why: "it leads out of the model folder: convert it by its own name",
    };
    assert_eq!(found, [weights("model/refinement"), weights("model/unet"), out("model/up"), out("model/vae")]);
    assert_eq!(find(&path("other/vae")).unwrap(), [weights("other/vae")]);
}

#[test]
fn progress_goes_from_nothing_to_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("model.bin"), include_bytes!("saved-by-torch.bin")).unwrap();
    let told = std::cell::RefCell::new(vec![]);
    convert(&path("model.bin"), &path("model.safetensors"), &|done, of| told.borrow_mut().push((done, of))).unwrap();
    let told = told.into_inner();
    let (last, of) = *told.last().unwrap();
    // Each of six tensors is read and written.
    assert_eq!((told.len(), last), (12, of));
    assert!(told.is_sorted() && told.iter().all(|(_, total)| *total == of), "{told:?}");
}
