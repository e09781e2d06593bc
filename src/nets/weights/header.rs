//! The header of a safetensors file: which tensor lies where. What it says is believed as far as the file bears it out, and
//! reading it takes memory in proportion to its own length, whatever numbers it holds.
//!
//! Not the safetensors crate's reader (0.6 was tried): of two tensors with one name it silently keeps the last, it reads fields that
//! it doesn't know, its sentence on a shape that doesn't fit names no tensor, and one shape of 4 MiB takes it 24 times that.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Expected, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;

/// Many times what the largest checkpoint has.
const MAX_HEADER: u64 = 4 << 20;
/// Of a tensor, in bytes.
pub const MAX_NAME: usize = 256;
pub const MAX_DIMENSIONS: usize = 8;

/// Whether a tensor is no weight but the constant 0 to 76 that older files of CLIP hold among them, in whatever kind.
pub fn is_position_ids(name: &str) -> bool {
    name.rsplit('.').next() == Some("position_ids")
}

/// Why a file is no safetensors file, or not a whole one.
#[derive(Debug)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "not a whole safetensors file: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The kinds that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A tensor in a file: as many bytes as its shape and kind ask for, within the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<i64>,
    /// In bytes from the file's begin.
    pub range: Range<usize>,
}

/// The weights in the bytes of a safetensors file by name. Refuses other than floating-point kinds, and bytes that belong to
/// no tensor or to two.
pub fn read(file: &[u8]) -> Result<BTreeMap<String, Stored>> {
    let (tensors, begin) = parse(file)?;
    contiguous(&tensors, file.len() - begin)?;
    let weights = tensors.into_iter().filter(|(name, _)| !is_position_ids(name));
    weights.map(|(name, raw)| stored(&name, raw, begin).map(|tensor| (name, tensor))).collect()
}

/// What the header says, and where the data begin.
fn parse(file: &[u8]) -> Result<(BTreeMap<String, Raw<'_>>, usize), Malformed> {
    let (length, rest) = file.split_first_chunk().ok_or_else(|| Malformed("it has no header".into()))?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(Malformed(format!("its header claims {length} bytes, more than {MAX_HEADER}")));
    }
    let header = rest.get(..length as usize).ok_or_else(|| Malformed("it ends within its header".into()))?;
    let Header(tensors) = serde_json::from_slice(header).map_err(|e| Malformed(format!("its header has {e}")))?;
    Ok((tensors, size_of::<u64>() + header.len()))
}

/// That the tensors lie one after the other, the first at 0, and the last ends where the file's `length` bytes of data do.
fn contiguous(tensors: &BTreeMap<String, Raw>, length: usize) -> Result<(), Malformed> {
    let mut places: Vec<_> = tensors.iter().map(|(name, raw)| (raw.data_offsets, name)).collect();
    places.sort_unstable();
    let mut end = 0;
    for ([from, to], name) in places {
        if from != end || to < from {
            return Err(Malformed(format!("tensor {name} lies at bytes {from} to {to} where {end} is the next")));
        }
        end = to;
    }
    match end == length as u64 {
        true => Ok(()),
        false => Err(Malformed(format!("its tensors take {end} bytes and it holds {length}"))),
    }
}

fn stored(name: &str, raw: Raw, begin: usize) -> Result<Stored> {
    let dtype = match raw.dtype.as_ref() {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        other => bail!("tensor {name} is of kind {other:.32}: weights are F32, F16 or BF16"),
    };
    let Raw { shape: Shape(shape), data_offsets: [from, to], .. } = raw;
    let size = shape.iter().try_fold(dtype.size() as u64, |size, &d| size.checked_mul(d as u64));
    ensure!(
        size == Some(to - from),
        Malformed(format!("tensor {name} of shape {shape:?} has {} bytes of data", to - from))
    );
    let range = begin + usize::try_from(from)?..begin + usize::try_from(to)?;
    Ok(Stored { dtype, shape, range })
}

struct Header<'a>(BTreeMap<String, Raw<'a>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// No dimension is negative.
struct Shape(Vec<i64>);

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = Header<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if name.contains(char::is_control) {
                        return Err(A::Error::custom("a tensor's name with control characters"));
                    }
                    if name.len() > MAX_NAME {
                        return Err(A::Error::custom(format!("a tensor's name of {} bytes", name.len())));
                    }
                    match tensors.entry(name) {
                        Entry::Occupied(entry) => {
                            return Err(A::Error::custom(format!("two tensors {}", entry.key())));
                        }
                        Entry::Vacant(entry) => entry.insert(map.next_value()?),
                    };
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;

        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} dimensions, each a length below 2^63")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(length) = seq.next_element::<i64>()? {
                    if length < 0 || shape.len() == MAX_DIMENSIONS {
                        return Err(A::Error::custom(format!("a shape that is not {}", &self as &dyn Expected)));
                    }
                    shape.push(length);
                }
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(Dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 0);
        file
    }

    fn error(header: &str, data: usize) -> String {
        format!("{:#}", read(&file(header, data)).unwrap_err())
    }

    #[test]
    fn a_tensor_is_found_where_the_header_says() {
        let header = r#"{"__metadata__": {"format": "pt"}, "b": {"dtype": "F16", "shape": [], "data_offsets": [12, 14]},
            "a": {"dtype": "F32", "shape": [3, 1], "data_offsets": [0, 12]}}  "#;
        let begin = 8 + header.len();
        let tensors = read(&file(header, 14)).unwrap();
        assert_eq!(tensors["a"], Stored { dtype: Dtype::F32, shape: vec![3, 1], range: begin..begin + 12 });
        assert_eq!(tensors["b"], Stored { dtype: Dtype::F16, shape: vec![], range: begin + 12..begin + 14 });
    }

    #[test]
    fn position_ids_of_older_clip_files_are_no_weights() {
        let header =
            r#"{"text_model.embeddings.position_ids": {"dtype": "I64", "shape": [1, 77], "data_offsets": [0, 616]}}"#;
        assert!(read(&file(header, 616)).unwrap().is_empty());
        assert!(read(&file(&header.replace("text_model.embeddings.", ""), 616)).unwrap().is_empty());
        assert!(error(&header.replace("position_ids", "positions"), 616).contains("is of kind I64"));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let one = |shape: &str, from: u64, to: u64| {
            error(&format!(r#"{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [{from}, {to}]}}}}"#), 24)
        };
        assert!(one("[2, 4]", 0, 24).contains("tensor a of shape [2, 4] has 24 bytes"));
        assert!(one("[1152921504606846976]", 0, 24).contains("tensor a of shape [1152921504606846976] has 24 bytes"));
        assert!(one("[4294967296, 4294967296]", 0, 24).contains("of shape"), "2^66 bytes are 0 in 64 bits");
        assert!(one("[9223372036854775808]", 0, 24).contains("9223372036854775808"));
        assert!(one("[-2, -3]", 0, 24).contains("each a length"));
        assert!(one("[1, 1, 1, 1, 1, 1, 1, 1, 6]", 0, 24).contains("at most 8 dimensions"));
        assert!(one("[5]", 0, 20).contains("its tensors take 20 bytes and it holds 24"));
        assert!(one("[7]", 0, 28).contains("its tensors take 28 bytes and it holds 24"));
        assert!(one("[5]", 4, 24).contains("tensor a lies at bytes 4 to 24 where 0 is the next"));
        assert!(one("[5]", 24, 4).contains("tensor a lies at bytes 24 to 4"));
    }

    #[test]
    fn tensors_share_neither_bytes_nor_a_name() {
        let two = |second: &str, from: u64| {
            let tensor = |name: &str, from| {
                format!(r#""{name}": {{"dtype": "F32", "shape": [3], "data_offsets": [{from}, {}]}}"#, from + 12)
            };
            error(&format!("{{{}, {}}}", tensor("a", 0), tensor(second, from)), 24)
        };
        assert!(two("b", 8).contains("tensor b lies at bytes 8 to 20 where 12 is the next"));
        assert!(two("a", 12).contains("two tensors a"));
    }

    #[test]
    fn a_header_is_a_map_of_tensors_within_the_file() {
        assert!(format!("{:#}", read(&[1; 7]).unwrap_err()).contains("it has no header"));
        let claims = |length: u64| {
            let mut file = file("{}", 0);
            file[..8].copy_from_slice(&length.to_le_bytes());
            format!("{:#}", read(&file).unwrap_err())
        };
        assert!(claims(u64::MAX).contains("its header claims 18446744073709551615 bytes"));
        assert!(claims(3).contains("it ends within its header"));
        assert!(claims(1).contains("its header has EOF"));
        assert!(error(&"[".repeat(1 << 20), 0).contains("its header has"));
        assert!(error(&r#"{"a":"#.repeat(1 << 16), 0).contains("its header has"));
        assert!(error(&format!(r#"{{"{}": 0}}"#, "a".repeat(1 << 20)), 0).contains("name of 1048576 bytes"));
        assert!(error(r#"{"\u001b[2J": 0}"#, 0).contains("name with control characters"));
        assert!(
            error(r#"{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "x": 0}}"#, 0).contains("field `x`")
        );
        let long = format!(r#"{{"a": {{"dtype": "{}", "shape": [0], "data_offsets": [0, 0]}}}}"#, "F".repeat(1 << 20));
        assert!(error(&long, 0).len() < 200);
    }
}
