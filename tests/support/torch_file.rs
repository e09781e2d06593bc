//! Files as `torch.save` writes them, for tests: a pickle of protocol 2 and the storages, in a zip archive.

use std::collections::HashMap;
use tch::{Kind, Tensor};

/// A tensor within a storage, in elements.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub name: &'a str,
    /// torch's class, `FloatStorage`.
    pub storage: &'a str,
    pub key: &'a str,
    pub offset: i64,
    pub shape: &'a [i64],
    pub strides: &'a [i64],
}

/// Writes opcodes; what comes again is recalled from the memo, as Python does.
#[derive(Default)]
pub struct Pickle {
    pub bytes: Vec<u8>,
    memo: HashMap<String, u8>,
    next: u32,
}

impl Pickle {
    pub fn new() -> Self {
        Self { bytes: b"\x80\x02".to_vec(), ..Self::default() }
    }

    pub fn op(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn put(&mut self) -> &mut Self {
        let number = self.next;
        self.next += 1;
        match u8::try_from(number) {
            Ok(number) => self.op(&[b'q', number]),
            Err(_) => self.op(b"r").op(&number.to_le_bytes()),
        }
    }

    fn once(&mut self, what: &str, bytes: &[u8]) -> &mut Self {
        if let Some(number) = self.memo.get(what) {
            let number = *number;
            return self.op(&[b'h', number]);
        }
        if let Ok(number) = u8::try_from(self.next) {
            self.memo.insert(what.to_owned(), number);
        }
        self.op(bytes).put()
    }

    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.once(&format!("{module} {name}"), format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        let bytes = [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        self.once(&format!("text {text}"), &bytes)
    }

    pub fn int(&mut self, int: i64) -> &mut Self {
        match int {
            0..256 => self.op(&[b'K', int as u8]),
            256..65536 => self.op(b"M").op(&(int as u16).to_le_bytes()),
            _ if i32::try_from(int).is_ok() => self.op(b"J").op(&(int as i32).to_le_bytes()),
            _ => self.op(b"\x8a\x08").op(&int.to_le_bytes()),
        }
    }

    pub fn sizes(&mut self, sizes: &[i64]) -> &mut Self {
        let close = match sizes.len() {
            0 => return self.op(b")"),
            1..=3 => [0x84 + sizes.len() as u8],
            _ => {
                self.op(b"(");
                *b"t"
            }
        };
        for size in sizes {
            self.int(*size);
        }
        self.op(&close).put()
    }

    pub fn ordered_dict(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").op(b")R").put()
    }

    pub fn tensor(&mut self, entry: &Entry) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2").op(b"((").text("storage").global("torch", entry.storage);
        // A number of elements that no storage has: a reader has to go by the storage itself.
        self.text(entry.key).text("cpu").int(1 << 20).op(b"t").put().op(b"Q").int(entry.offset);
        self.sizes(entry.shape).sizes(entry.strides).op(b"\x89").ordered_dict().op(b"t").put().op(b"R").put()
    }

    /// The dict on top of the stack gets these items.
    pub fn items(&mut self, entries: &[Entry]) -> &mut Self {
        self.op(b"(");
        for entry in entries {
            self.text(entry.name).tensor(entry);
        }
        self.op(b"u")
    }

    /// What `Module.state_dict()` gives: the tensors, and the layers' versions as an attribute.
    pub fn state_dict(&mut self, entries: &[Entry]) -> &mut Self {
        self.ordered_dict().items(entries).op(b"}").put().text("_metadata").ordered_dict();
        self.op(b"(").text("").op(b"}").put().text("version").int(1).op(b"susb")
    }

    pub fn end(&mut self) -> Vec<u8> {
        self.op(b".").bytes.clone()
    }
}

/// A zip archive of stored entries with the 64-bit end record that PyTorch writes.
#[derive(Default)]
pub struct Zip {
    pub bytes: Vec<u8>,
    pub directory: Vec<u8>,
    pub count: u64,
}

impl Zip {
    pub fn add(&mut self, name: &str, data: &[u8]) -> &mut Self {
        let position = self.bytes.len() as u32;
        let (size, length) = ((data.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
        let crc = crc32(data).to_le_bytes();
        // Values begin at multiples of 64 bytes, behind a field of padding.
        let padding = 64 - (self.bytes.len() + 30 + name.len() + 4) % 64;
        self.bytes.extend([b"PK\x03\x04", &[0; 10][..], &crc, &size, &size, &length].concat());
        self.bytes.extend(((padding + 4) as u16).to_le_bytes());
        self.bytes
            .extend([name.as_bytes(), b"FB", &(padding as u16).to_le_bytes(), &vec![b'Z'; padding], data].concat());
        self.directory.extend([b"PK\x01\x02", &[0; 12][..], &crc, &size, &size, &length, &[0; 12]].concat());
        self.directory.extend(position.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
        self
    }

    pub fn end(&self) -> Vec<u8> {
        let (start, length) = (self.bytes.len() as u64, self.directory.len() as u64);
        let end = start + length;
        let (count, start, length, end) =
            (self.count.to_le_bytes(), start.to_le_bytes(), length.to_le_bytes(), end.to_le_bytes());
        let wide = [b"PK\x06\x06", &44u64.to_le_bytes()[..], &[0; 12], &count, &count, &length, &start].concat();
        let locator = [b"PK\x06\x07", &[0; 4][..], &end, &1u32.to_le_bytes()].concat();
        let last = [b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat();
        [&self.bytes[..], &self.directory, &wide, &locator, &last].concat()
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// The archive of a pickle and its storages.
pub fn file(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Zip::default();
    zip.add("model/data.pkl", pickle).add("model/byteorder", b"little");
    for (key, data) in storages {
        zip.add(&format!("model/data/{key}"), data);
    }
    zip.add("model/version", b"3\n").end()
}

/// What `torch.save` makes of a state dict.
pub fn save(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let keys: Vec<_> = (0..tensors.len()).map(|i| i.to_string()).collect();
    let shapes: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.size()).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.contiguous())).collect();
    let strides: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.stride()).collect();
    let entries: Vec<_> = (0..tensors.len())
        .map(|i| Entry {
            name: tensors[i].0,
            storage: match tensors[i].1.kind() {
                Kind::Float => "FloatStorage",
                Kind::Half => "HalfStorage",
                Kind::BFloat16 => "BFloat16Storage",
                other => panic!("{other:?}"),
            },
            key: &keys[i],
            offset: 0,
            shape: &shapes[i],
            strides: &strides[i],
        })
        .collect();
    let data: Vec<_> = tensors.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let storages: Vec<_> = keys.iter().map(String::as_str).zip(data.iter().map(Vec::as_slice)).collect();
    file(&Pickle::new().state_dict(&entries).end(), &storages)
}

/// A tensor's values in memory.
pub fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
