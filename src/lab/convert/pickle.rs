//! The pickles that PyTorch saves state dicts as, read by a machine that can't run code.
//!
//! It knows what a state dict is made of: plain values, dicts, and four names of Python, none of which does anything but
//! describe a tensor. Any other name or opcode ends the reading with an error that says which. What it makes lies in one
//! list, so nothing is nested however deep the pickle is, and takes a small multiple of the pickle's size at most.
//!
//! Our own: serde-pickle 1.2 has no persistent ids (opcode BINPERSID), by which every tensor of PyTorch's names its storage, refuses
//! the calls that rebuild tensors, and nests what it makes.

use super::quoted;
use crate::nets::weights::MAX_DIMENSIONS;
use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype;
use std::collections::{BTreeMap, HashMap};

/// A state dict's pickle takes 200 bytes a tensor.
const MAX_PICKLE: usize = 4 << 20;
const MAX_VALUES: usize = 1 << 18;

/// A tensor as a pickle describes it: offset, shape and strides in elements of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    pub kind: Dtype,
    pub storage: &'a str,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// The tensors of a pickled state dict by name; one under the key `state_dict` of another dict counts too.
pub fn state_dict(pickle: &[u8]) -> Result<BTreeMap<&str, Tensor<'_>>> {
    ensure!(pickle.len() <= MAX_PICKLE, "its pickle is {} MB, larger than weights need", pickle.len() >> 20);
    let mut machine = Machine { rest: pickle, values: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
    let top = machine.run()?;
    let Value::Dict(mut items) = machine.value(top).clone() else {
        bail!("it holds no state dict: save model.state_dict() instead");
    };
    let inner = items.iter().rev().find(|(key, _)| matches!(machine.value(*key), Value::Text("state_dict")));
    if let Some(Value::Dict(inner)) = inner.map(|(_, value)| machine.value(*value)) {
        items = inner.clone();
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in items {
        let Value::Text(name) = *machine.value(key) else { bail!("its state dict has a key that is no text") };
        let Value::Tensor(tensor) = machine.value(value) else {
            bail!("{} in its state dict is not a tensor: save model.state_dict() alone", quoted(name));
        };
        let first = tensors.insert(name, (**tensor).clone()).is_none();
        ensure!(first, "its state dict has two tensors {}", quoted(name));
    }
    Ok(tensors)
}

/// What Python would import.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn new(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            _ => {
                let name = quoted(&format!("{module}.{name}"));
                bail!("it asks to run {name}, which a weights file has no need to")
            }
        })
    }
}

#[derive(Clone, Debug)]
enum Value<'a> {
    /// None, a truth value, a fraction, a list: nothing that a tensor is made of.
    Plain,
    Int(i64),
    Text(&'a str),
    Tuple(Box<[Id]>),
    /// Later items replace earlier ones of the same key in Python.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Dtype, &'a str),
    Tensor(Box<Tensor<'a>>),
}

/// A value's place in the machine's list.
type Id = u32;

struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// The value that the pickle ends with.
    fn run(&mut self) -> Result<Id> {
        let [first, protocol] = self.array()?;
        ensure!(first == 0x80 && (2..=5).contains(&protocol), "its pickle is not of protocol 2 to 5");
        loop {
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // A frame is of no concern to who has the whole pickle.
            0x95 => self.array::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' | 0x88 | 0x89 | b']' => self.push(Value::Plain),
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Plain)
            }
            b'}' => self.push(Value::Dict(vec![])),
            b'J' | b'K' | b'M' | 0x8a => {
                let int = self.int(opcode)?;
                self.push(Value::Int(int))
            }
            0x8c | b'X' | 0x8d => {
                let text = self.text(opcode)?;
                self.push(Value::Text(text))
            }
            b')' | 0x85..=0x87 | b't' => {
                let items = match opcode {
                    b't' => self.since_mark()?,
                    b')' => vec![],
                    _ => self.last(usize::from(opcode - 0x84))?,
                };
                self.push(Value::Tuple(items.into()))
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(opcode),
            b's' | b'u' => self.set_items(opcode),
            b'a' => self.last(1).and_then(|_| self.expect_list()),
            b'e' => self.since_mark().and_then(|_| self.expect_list()),
            b'c' | 0x93 => {
                let global = self.global(opcode)?;
                self.push(Value::Global(global))
            }
            b'Q' => {
                let storage = self.storage()?;
                self.push(storage)
            }
            b'R' => {
                let value = self.reduce()?;
                self.push(value)
            }
            // A state dict's `_metadata`, versions of its layers.
            b'b' => {
                self.pop()?;
                let dict = matches!(self.top()?, Value::Dict(_));
                ensure!(dict, "it asks to set up an object (BUILD), which a weights file has no need to");
                Ok(())
            }
            _ => bail!("it asks for {}, which a weights file has no need to", name(opcode)),
        }
    }

    fn value(&self, id: Id) -> &Value<'a> {
        // Ids come from `push` alone.
        self.values.get(id as usize).unwrap_or(&Value::Plain)
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        ensure!(self.values.len() < MAX_VALUES, "its pickle has more than {MAX_VALUES} values, more than weights need");
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        Ok(self.last(1)?[0])
    }

    fn top(&mut self) -> Result<&mut Value<'a>> {
        let id = *self.stack.last().context(UNDERFLOW)?;
        self.values.get_mut(id as usize).context(UNDERFLOW)
    }

    /// Pops `count` values above the last mark, in the order they were pushed.
    fn last(&mut self, count: usize) -> Result<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= floor).context(UNDERFLOW)?;
        Ok(self.stack.split_off(start))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().context(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).context("its pickle is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn int(&mut self, opcode: u8) -> Result<i64> {
        Ok(match opcode {
            b'K' => self.array::<1>()?[0].into(),
            b'M' => u16::from_le_bytes(self.array()?).into(),
            b'J' => i32::from_le_bytes(self.array()?).into(),
            _ => {
                let [length] = self.array()?;
                ensure!(length <= 8, "its pickle holds a number of {length} bytes");
                let bytes = self.take(length.into())?;
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut all = [if negative { 0xff } else { 0 }; 8];
                all[..bytes.len()].copy_from_slice(bytes);
                i64::from_le_bytes(all)
            }
        })
    }

    fn text(&mut self, opcode: u8) -> Result<&'a str> {
        let length = match opcode {
            0x8c => self.array::<1>()?[0].into(),
            b'X' => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(length).context("its pickle is cut short")?)?;
        std::str::from_utf8(bytes).context("its pickle holds text that is not UTF-8")
    }

    fn line(&mut self) -> Result<&'a str> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').context("its pickle is cut short")?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).context("its pickle holds text that is not UTF-8")
    }

    /// Keeps the top of the stack under a number, or puts what a number keeps there.
    fn remember(&mut self, opcode: u8) -> Result<()> {
        let number = match opcode {
            b'q' | b'h' => self.array::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(opcode, b'h' | b'j') {
            let id =
                self.memo.get(&number).with_context(|| format!("its pickle recalls {number}, which it never kept"))?;
            self.stack.push(*id);
        } else {
            self.memo.insert(number, *self.stack.last().context(UNDERFLOW)?);
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<()> {
        let items = if opcode == b's' { self.last(2)? } else { self.since_mark()? };
        let Value::Dict(dict) = self.top()? else { bail!("its pickle sets items of what is no dict") };
        let (pairs, []) = items.as_chunks() else { bail!("its pickle has a key without a value") };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn expect_list(&mut self) -> Result<()> {
        ensure!(matches!(self.top()?, Value::Plain), "its pickle appends to what is no list");
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<Global> {
        if opcode == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            return Global::new(module, name);
        }
        let names = self.last(2)?;
        match (self.value(names[0]), self.value(names[1])) {
            (Value::Text(module), Value::Text(name)) => Global::new(module, name),
            _ => bail!("its pickle names something to import by what is no text"),
        }
    }

    fn tuple(&self, id: Id, what: &str) -> Result<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Ok(items),
            _ => bail!("its pickle describes {what} by what is no tuple"),
        }
    }

    /// A persistent id: `("storage", kind, key, device, elements)`.
    fn storage(&mut self) -> Result<Value<'a>> {
        let id = self.pop()?;
        if let [tag, kind, key, ..] = self.tuple(id, "a storage")?
            && let (Value::Text("storage"), Value::Global(Global::Storage(kind)), Value::Text(key)) =
                (self.value(*tag), self.value(*kind), self.value(*key))
        {
            return Ok(Value::Storage(*kind, key));
        }
        bail!("its pickle describes a storage in a way that is not known");
    }

    /// Calls what the allow-list has.
    fn reduce(&mut self) -> Result<Value<'a>> {
        let ids = self.last(2)?;
        let arguments = self.tuple(ids[1], "a call")?;
        let Value::Global(global) = self.value(ids[0]) else {
            bail!("it asks to call what is no function, which a weights file has no need to");
        };
        match (global, arguments) {
            (Global::OrderedDict, []) => Ok(Value::Dict(vec![])),
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let Value::Storage(kind, storage) = *self.value(*storage) else {
                    bail!("its pickle describes a tensor without a storage");
                };
                let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
                ensure!(
                    shape.len() == strides.len(),
                    "its pickle describes a tensor of shape {shape:?} by strides {strides:?}"
                );
                let offset = self.size(*offset)?;
                Ok(Value::Tensor(Box::new(Tensor { kind, storage, offset, shape, strides })))
            }
            (Global::RebuildParameter, [tensor, ..]) => match self.value(*tensor) {
                Value::Tensor(tensor) => Ok(Value::Tensor(tensor.clone())),
                _ => bail!("its pickle describes a parameter without a tensor"),
            },
            _ => bail!("it calls {global:?} in a way that is not known"),
        }
    }

    fn size(&self, id: Id) -> Result<usize> {
        match *self.value(id) {
            Value::Int(int) => usize::try_from(int).with_context(|| format!("its pickle has {int} for a size")),
            _ => bail!("its pickle has something for a size that is no number"),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>> {
        let ids = self.tuple(id, "a shape")?;
        ensure!(ids.len() <= MAX_DIMENSIONS, "its pickle describes a tensor of {} dimensions", ids.len());
        ids.iter().map(|id| self.size(*id)).collect()
    }
}

const UNDERFLOW: &str = "its pickle takes from an empty stack";

/// Python's name of an opcode that is refused.
fn name(opcode: u8) -> String {
    let name = match opcode {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'B' | b'C' | 0x8e => "BINBYTES",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'T' | b'U' => "BINSTRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x80 => "PROTO",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("opcode {opcode:#04x}"),
    };
    format!("opcode {name}")
}
