//! Ways to spoil a model's files. Each leaves a file that no model can be loaded with; what might be harmless isn't done.

use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// SplitMix64 (Steele et al. 2014): the same corruption for the same seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Spoils `good`, writes it to `file` and says how.
type Edit = fn(file: &Path, good: &[u8], random: &mut Random) -> String;

const WEIGHTS: [Edit; 17] = [
    cut,
    longer,
    pickled,
    header_length,
    header_flipped,
    header_flipped,
    offsets,
    offsets,
    shape,
    shape,
    dtype,
    duplicate,
    renamed,
    not_finite,
    not_finite,
    nested,
    sparse,
];
const CONFIGURATION: [Edit; 10] =
    [cut, config_value, config_value, config_value, config_value, config_value, config_key, config_key, bomb, bomb];
const REPLACEMENTS: [&str; 9] =
    ["nothing", "empty", "folder", "dangling link", "loop", "/dev/zero", "FIFO", "zeros", "noise"];

/// Puts at `file`, where there is nothing yet, what is left of the file or folder `good` when it is spoilt in the `number`th
/// way; after the last comes the first, with other numbers in it. What a model can do without is never just missing.
pub fn spoil(file: &Path, good: &Path, needed: bool, number: usize, random: &mut Random) -> String {
    let edits: &[Edit] = match good.extension().and_then(|extension| extension.to_str()) {
        Some("json") => &CONFIGURATION,
        Some("safetensors") => &WEIGHTS,
        _ => &[],
    };
    let replacements = &REPLACEMENTS[if needed { 0 } else { 1 }..];
    let way = number % (edits.len() + replacements.len());
    match edits.get(way) {
        Some(edit) => edit(file, &fs::read(good).unwrap(), random),
        None => replace(file, replacements[way - edits.len()], random),
    }
}

fn cut(file: &Path, good: &[u8], random: &mut Random) -> String {
    let whole = good.trim_ascii_end().len();
    let length = random.below(whole);
    fs::write(file, &good[..length]).unwrap();
    format!("cut to {length} of {whole} bytes")
}

fn longer(file: &Path, good: &[u8], random: &mut Random) -> String {
    let more = 1 + random.below(100);
    fs::write(file, [good, &vec![random.next() as u8; more]].concat()).unwrap();
    format!("{more} bytes longer")
}

/// Something else than a file or a folder of the right kind.
fn replace(file: &Path, what: &str, random: &mut Random) -> String {
    match what {
        "nothing" => (),
        "empty" => fs::write(file, "").unwrap(),
        "folder" => fs::create_dir(file).unwrap(),
        "dangling link" => symlink("nowhere", file).unwrap(),
        "loop" => symlink(file.file_name().unwrap(), file).unwrap(),
        "/dev/zero" => symlink("/dev/zero", file).unwrap(),
        "FIFO" => assert!(Command::new("mkfifo").arg(file).status().unwrap().success()),
        "zeros" => fs::File::create(file).unwrap().set_len(1 << 40).unwrap(),
        _ => fs::write(file, (0..4096).map(|_| random.next() as u8).collect::<Vec<_>>()).unwrap(),
    }
    format!("{what} in its place")
}

fn pickled(file: &Path, _: &[u8], random: &mut Random) -> String {
    let extension = *random.pick(&["bin", "pt", "pth", "ckpt", "pkl"]);
    fs::write(file.with_extension(extension), b"\x80\x02cos\nsystem\nX\x04\0\0\0exit\x85R.").unwrap();
    format!("a pickle .{extension} in its place")
}

/// A safetensors file in its two halves.
struct Parts<'a> {
    header: Map<String, Value>,
    data: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(file: &'a [u8]) -> Self {
        let (header, data) = split(file);
        Self { header: serde_json::from_slice(header).unwrap(), data }
    }

    /// The name of one tensor.
    fn any(&self, random: &mut Random) -> String {
        let names: Vec<_> = self.header.keys().filter(|name| *name != "__metadata__").collect();
        random.pick(&names).to_string()
    }

    fn write(&self, file: &Path) {
        write(file, &serde_json::to_vec(&self.header).unwrap(), self.data);
    }
}

fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    file[8..].split_at(length)
}

fn write(file: &Path, header: &[u8], data: &[u8]) {
    let mut out = fs::File::create(file).unwrap();
    for part in [&(header.len() as u64).to_le_bytes()[..], header, data] {
        out.write_all(part).unwrap();
    }
}

fn header_length(file: &Path, good: &[u8], random: &mut Random) -> String {
    let length = u64::from_le_bytes(good[..8].try_into().unwrap());
    let all = good.len() as u64;
    let lies =
        [0, 1, length - 1, length + 1, length / 2, all - 8, all - 7, all, 1 << 24, 1 << 32, 1 << 60, u64::MAX - 7];
    let lie = *random.pick(&lies);
    fs::write(file, [&lie.to_le_bytes(), &good[8..]].concat()).unwrap();
    format!("header of {length} bytes claims {lie}")
}

fn header_flipped(file: &Path, good: &[u8], random: &mut Random) -> String {
    let (header, data) = split(good);
    let meaning = |header: &[u8]| {
        let mut tensors: Map<String, Value> = serde_json::from_slice(header).ok()?;
        tensors.remove("__metadata__");
        Some(tensors)
    };
    loop {
        let (at, bit) = (random.below(header.len()), random.below(8));
        let mut spoilt = header.to_vec();
        spoilt[at] ^= 1 << bit;
        if meaning(&spoilt) != meaning(header) {
            write(file, &spoilt, data);
            return format!("bit {bit} of header byte {at} flipped");
        }
    }
}

fn offsets(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut parts = Parts::of(good);
    let name = parts.any(random);
    let at = |i: usize| parts.header[&name]["data_offsets"][i].as_u64().unwrap();
    let (from, to) = (at(0), at(1));
    let all = parts.data.len() as u64;
    let lies = [
        [from + 1, to + 1],
        [from + 4, to],
        [from, to + 4],
        [to, from],
        [from, from],
        [from, all + 1],
        [from, 1 << 60],
        [1 << 60, (1 << 60) + to - from],
        [u64::MAX - 3, u64::MAX],
        [all, all + to - from],
    ];
    let lie = *random.pick(&lies);
    parts.header[&name]["data_offsets"] = json!(lie);
    parts.write(file);
    format!("{name} from {from} to {to} lies at {lie:?}")
}

fn shape(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut parts = Parts::of(good);
    let name = parts.any(random);
    let shape = parts.header[&name]["shape"].clone();
    let (mut more, mut larger) = (shape.clone(), shape.clone());
    more.as_array_mut().unwrap().push(json!(1));
    larger[0] = json!(larger[0].as_u64().unwrap() + 1);
    let lies = [
        more,
        larger,
        json!([1u64 << 60]),
        json!([1u64 << 63]),
        json!([u64::MAX]),
        json!([1u64 << 32, 1u64 << 32]),
        json!([1u64 << 32, 1u64 << 31, 2, shape[0]]),
        json!([-1]),
        json!([0]),
        json!([1.5]),
        json!(["1"]),
        json!(null),
        json!(vec![1; 100_000]),
    ];
    let lie = random.pick(&lies).clone();
    parts.header[&name]["shape"] = lie.clone();
    parts.write(file);
    format!("{name} of shape {shape} is {lie:.60}", lie = lie.to_string())
}

fn dtype(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut parts = Parts::of(good);
    let name = parts.any(random);
    let long = "F".repeat(1 << 20);
    let lie = *random.pick(&["F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "f32", "", &long]);
    parts.header[&name]["dtype"] = json!(lie);
    parts.write(file);
    format!("{name} is of kind {lie:.60}")
}

fn duplicate(file: &Path, good: &[u8], random: &mut Random) -> String {
    let parts = Parts::of(good);
    let (name, other) = (parts.any(random), parts.any(random));
    let text = serde_json::to_string(&parts.header).unwrap();
    let (head, _) = text.rsplit_once('}').unwrap();
    write(file, format!("{head},{}:{}}}", json!(name), parts.header[&other]).as_bytes(), parts.data);
    format!("{name} twice, the second as {other}")
}

fn renamed(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut parts = Parts::of(good);
    let name = parts.any(random);
    let tensor = parts.header.remove(&name).unwrap();
    let long = "x".repeat(1 << 20);
    let to = *random.pick(&["", "weight", "conv_in.weigh", "\u{0}", "../../etc", &long]);
    if random.below(4) > 0 {
        parts.header.insert(to.into(), tensor);
    }
    parts.write(file);
    format!("{name} is gone or called {to:.60}")
}

fn not_finite(file: &Path, good: &[u8], random: &mut Random) -> String {
    let parts = Parts::of(good);
    let name = parts.any(random);
    let offset = |i: usize| parts.header[&name]["data_offsets"][i].as_u64().unwrap() as usize;
    assert_eq!(parts.header[&name]["dtype"], "F32");
    let at = offset(0) + 4 * random.below((offset(1) - offset(0)) / 4);
    let value = *random.pick(&[f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)]);
    let mut bytes = good.to_vec();
    let at = good.len() - parts.data.len() + at;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).unwrap();
    format!("{name} holds {value} at byte {at}")
}

fn nested(file: &Path, good: &[u8], random: &mut Random) -> String {
    let n = 1 << (10 + random.below(10));
    let headers =
        ["[".repeat(n), r#"{"a":"#.repeat(n), format!(r#"{{"a":{}}}"#, "[".repeat(n)), " ".repeat(n), "9".repeat(n)];
    let header = random.pick(&headers);
    write(file, header.as_bytes(), split(good).1);
    format!("header is {:.10} and so on, {} bytes", header, header.len())
}

/// A file of a terabyte that takes no room, and a header that agrees with it.
fn sparse(file: &Path, good: &[u8], random: &mut Random) -> String {
    const HOLE: u64 = 1 << 40;
    let mut parts = Parts::of(good);
    let all = parts.data.len() as u64;
    let (shape, offsets) = (json!([HOLE / 4]), json!([all, all + HOLE]));
    let name = match random.below(2) {
        0 => "surplus".into(),
        _ => {
            // The hole follows the data, so the tensor's own bytes need another owner.
            let name = parts.any(random);
            let own = parts.header[&name].clone();
            parts.header.insert("owner".into(), own);
            name
        }
    };
    parts.header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": offsets}));
    parts.write(file);
    let out = fs::OpenOptions::new().write(true).open(file).unwrap();
    out.set_len(out.metadata().unwrap().len() + HOLE).unwrap();
    format!("{name} has a terabyte of zeros")
}

/// Hyper-parameters of which no other value fits the weights; those of each class are found in its file.
const DECISIVE: [&str; 22] = [
    "_class_name",
    "model_type",
    "class",
    "hidden_act",
    "act_fn",
    "in_channels",
    "out_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "latent_channels",
    "additional_in_channels",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
    "num_train_timesteps",
    "channels",
    "groups",
];

fn config_value(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut config: Map<String, Value> = serde_json::from_slice(good).unwrap();
    let keys: Vec<_> = DECISIVE.into_iter().filter(|key| config.contains_key(*key)).collect();
    let key = *random.pick(&keys);
    let mut deep = json!(1);
    (0..100).for_each(|_| deep = json!([deep]));
    let values = [
        json!(1_000_003),
        json!(0),
        json!(-8),
        json!(1u64 << 60),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!("x".repeat(10_000)),
        json!({}),
        json!([]),
        json!([1u64 << 40, 1, 1]),
        json!(vec![65536; 16]),
        json!(vec![65536; 5000]),
        json!(true),
        deep,
    ];
    // 65536 passes for a count.
    let counts = config[key].is_number() && key != "num_train_timesteps" && random.below(3) == 0;
    let value = if counts { json!(65536) } else { random.pick(&values).clone() };
    config[key] = value.clone();
    fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    format!("{key} is {:.60}", value.to_string())
}

fn config_key(file: &Path, good: &[u8], random: &mut Random) -> String {
    let mut config: Map<String, Value> = serde_json::from_slice(good).unwrap();
    let keys: Vec<_> = config.keys().filter(|key| !key.starts_with('_')).cloned().collect();
    let key = random.pick(&keys);
    let value = config.remove(key).unwrap();
    let to = format!("{key}{}", "_".repeat(1 + random.below(1000)));
    config.insert(to, value);
    fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    format!("{key} is called {key}_")
}

fn bomb(file: &Path, good: &[u8], random: &mut Random) -> String {
    let good = std::str::from_utf8(good).unwrap().trim_end().strip_suffix('}').unwrap();
    let n = 1 << (8 + random.below(14));
    let bombs = [
        "[".repeat(n),
        r#"{"a":"#.repeat(n),
        format!("{good}, \"bomb\": [{}0]}}", "0,".repeat(n)),
        format!("{good}, \"bomb\": {}{}}}", "[".repeat(n), "]".repeat(n)),
        format!("{good}, \"bomb\": \"{}\"}}", "b".repeat(n)),
        format!("{good}{}}}", (0..n.min(1 << 16)).map(|i| format!(", \"b{i}\": {i}")).collect::<String>()),
        format!("{good}, \"bomb\": {}}}", "9".repeat(n)),
        format!("{good}, \"bomb\": 1e{n}}}"),
    ];
    let bomb = random.pick(&bombs);
    fs::write(file, bomb).unwrap();
    format!("a bomb of {} bytes, n = {n}", bomb.len())
}
