//! From JSON bytes to protobuf in one pass, without a tree of values between.
//!
//! The members of a JSON object are written as they come and put into the order of their numbers when the object ends.
//! Each byte moves a bounded number of times per level, and levels are bounded, so time is linear in the input.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::layout::{Form, Layout, Slot, layout, type_of};
use super::{MAGIC, MAX_DEPTH, Result};
use crate::schema::scan::{Scanner, Start};
use crate::schema::{Kind, Type, schema};
use crate::time;

/// A whole body from a JSON object with `apiVersion` and `kind`.
///
/// # Errors
/// The text of what is no such object, or of a kind that has no protobuf form.
pub fn from_json(json: &[u8]) -> Result<Vec<u8>> {
    let (entry, api_version, kind) = resolve(json)?;
    let mut raw = Vec::with_capacity(json.len());
    message(&mut raw, entry, json)?;
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    open(&mut out, &api_version, &kind, raw.len());
    out.extend_from_slice(&raw);
    close(&mut out);
    Ok(out)
}

/// The type of a JSON body, if it has a protobuf form.
///
/// # Errors
/// As [`from_json`], for the envelope alone.
pub fn type_of_body(json: &[u8]) -> Result<&'static Type> {
    resolve(json).map(|(entry, _, _)| entry)
}

fn resolve(json: &[u8]) -> Result<(&'static Type, String, String)> {
    let (api_version, kind) = type_meta(json)?;
    match type_of(&api_version, &kind) {
        Some(entry) => Ok((entry, api_version, kind)),
        None => Err(format!("{api_version}, Kind={kind} has no protobuf form")),
    }
}

/// `apiVersion` and `kind`, which usually come first.
fn type_meta(json: &[u8]) -> Result<(String, String)> {
    let text = |error: crate::schema::SyntaxError| error.to_string();
    let mut scanner = Scanner::new(json);
    if scanner.start().map_err(text)? != Start::Object {
        return Err("no JSON object".into());
    }
    scanner.open().map_err(text)?;
    let (mut api_version, mut kind) = (None, None);
    let mut first = true;
    while let Some(key) = scanner.key(first).map_err(text)? {
        first = false;
        let place = match &*key {
            "apiVersion" => &mut api_version,
            "kind" => &mut kind,
            _ => {
                scanner.skip().map_err(text)?;
                continue;
            }
        };
        if scanner.start().map_err(text)? != Start::String {
            return Err("apiVersion and kind are strings".into());
        }
        *place = Some(scanner.string().map_err(text)?.into_owned());
        if api_version.is_some() && kind.is_some() {
            break;
        }
    }
    // `APIVersions` names no version, as upstream's does not.
    match kind {
        Some(kind) => Ok((api_version.unwrap_or_default(), kind)),
        None => Err("Object 'Kind' is missing".into()),
    }
}

/// What comes before the message of a body.
fn open(out: &mut Vec<u8>, api_version: &str, kind: &str, length: usize) {
    out.extend_from_slice(MAGIC);
    let meta = 2 + varint_size(api_version.len()) + api_version.len() + varint_size(kind.len()) + kind.len();
    out.push(0x0a);
    put_varint(out, meta as u64);
    put_bytes(out, 1, api_version.as_bytes());
    put_bytes(out, 2, kind.as_bytes());
    out.push(0x12);
    put_varint(out, length as u64);
}

/// What comes after it: no content encoding, no content type.
fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x1a, 0, 0x22, 0]);
}

/// A list whose items are written one by one: its head needs to know how long they are together.
pub struct ListItems<'a> {
    pub api_version: &'a str,
    /// `PodList`.
    pub kind: &'a str,
    /// The list's metadata, as JSON.
    pub metadata: &'a str,
}

impl ListItems<'_> {
    /// Appends the body up to its items, which take `items` bytes in all ([`item_size`] each).
    ///
    /// # Errors
    /// Metadata that is no `ListMeta`.
    pub fn open(&self, out: &mut Vec<u8>, items: usize) -> Result<()> {
        let meta = schema().find("meta.v1.ListMeta").expect("lists have metadata");
        let mut head = Vec::new();
        message(&mut head, meta, self.metadata.as_bytes())?;
        let length = 1 + varint_size(head.len()) + head.len() + items;
        open(out, self.api_version, self.kind, length);
        put_bytes(out, 1, &head);
        Ok(())
    }
}

/// Appends what follows the last item of a list.
pub fn close_list(out: &mut Vec<u8>) {
    close(out);
}

/// Appends one item of a list.
///
/// # Errors
/// JSON that is no object of this type.
pub fn write_item(out: &mut Vec<u8>, entry: &'static Type, json: &[u8]) -> Result<()> {
    let mut writer = Writer::new(json, std::mem::take(out));
    let done = writer.delimited(2, |writer| writer.object(entry));
    *out = writer.out;
    done
}

/// Bytes that an item whose message has `length` bytes takes in a list.
pub fn item_size(length: usize) -> usize {
    1 + varint_size(length) + length
}

/// Appends one frame of a watch: four bytes of length, then a `WatchEvent` with `object`, a whole body.
pub fn watch_event(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    let inner = item_size(object.len());
    let length = item_size(kind.len()) + item_size(inner);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    put_bytes(out, 1, kind.as_bytes());
    out.push(0x12);
    put_varint(out, inner as u64);
    put_bytes(out, 1, object);
}

/// Appends the message of one type.
fn message(out: &mut Vec<u8>, entry: &'static Type, json: &[u8]) -> Result<()> {
    let mut writer = Writer::new(json, std::mem::take(out));
    let done = writer
        .start()
        .and_then(|()| writer.object(entry))
        .and_then(|()| writer.scanner.end().map_err(|error| error.to_string()));
    *out = writer.out;
    done
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint_size(number: usize) -> usize {
    (number.max(1).ilog2() / 7 + 1) as usize
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_varint(out, u64::from(number << 3 | wire));
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, VARINT);
    put_varint(out, value.cast_unsigned());
}

/// What Go writes for a value that is not a pointer and was never set.
fn put_zero(out: &mut Vec<u8>, number: u32, kind: Kind) {
    match kind {
        Kind::String | Kind::Time | Kind::MicroTime | Kind::Any => put_bytes(out, number, b""),
        Kind::Boolean | Kind::Int32 | Kind::Int64 => put_number(out, number, 0),
        Kind::Double => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&[0; 8]);
        }
        Kind::Quantity => put_bytes(out, number, b"\x0a\x010"),
        Kind::IntOrString => put_bytes(out, number, &[0x08, 0, 0x10, 0, 0x1a, 0]),
        Kind::Struct(idx) => put_bytes(out, number, zero(schema().get(idx))),
        Kind::Bytes | Kind::List(_) | Kind::Map(_) => {}
    }
}

fn zero(entry: &'static Type) -> &'static [u8] {
    let own = layout(entry);
    own.zero.get_or_init(|| {
        let mut writer = Writer::new(b"", Vec::new());
        writer.written.resize(entry.fields.len(), 0..0);
        writer.assemble(entry, &own.slots, 0);
        writer.out
    })
}

struct Writer<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
    /// Where the fields of the objects that are open lie in `out`; empty for those not seen.
    written: Vec<Range<usize>>,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn new(json: &'a [u8], out: Vec<u8>) -> Self {
        Self {
            scanner: Scanner::new(json),
            out,
            written: Vec::new(),
            depth: 0,
        }
    }

    fn peek(&mut self) -> Result<Start> {
        self.scanner.start().map_err(|error| error.to_string())
    }

    fn start(&mut self) -> Result<()> {
        match self.peek()? {
            Start::Object => Ok(()),
            other => Err(format!("cannot write {} as a message", other.word())),
        }
    }

    fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>> {
        let key = self.scanner.key(std::mem::replace(first, false));
        key.map_err(|error| error.to_string())
    }

    fn element(&mut self, first: &mut bool) -> Result<bool> {
        let more = self.scanner.element(std::mem::replace(first, false));
        more.map_err(|error| error.to_string())
    }

    fn open(&mut self) -> Result<()> {
        self.scanner.open().map_err(|error| error.to_string())
    }

    fn skip(&mut self) -> Result<()> {
        self.scanner.skip().map_err(|error| error.to_string())
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        match self.peek()? {
            Start::String => self.scanner.string().map_err(|error| error.to_string()),
            other => Err(format!("cannot write {} as a string", other.word())),
        }
    }

    fn null(&mut self) -> Result<bool> {
        if self.peek()? != Start::Null {
            return Ok(false);
        }
        self.scanner
            .word(Start::Null)
            .map_err(|error| error.to_string())?;
        Ok(true)
    }

    /// The text of any value, as it stands.
    fn raw(&mut self) -> Result<&'a [u8]> {
        self.peek()?;
        let from = self.scanner.position();
        self.skip()?;
        Ok(self.scanner.since(from))
    }

    /// Appends tag, length and what `write` appends.
    fn delimited(&mut self, number: u32, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        put_tag(&mut self.out, number, BYTES);
        let at = self.out.len();
        self.out.push(0);
        write(self)?;
        self.set_length(at);
        Ok(())
    }

    /// Replaces the byte at `at` by the length of what follows it.
    fn set_length(&mut self, at: usize) {
        let length = self.out.len() - at - 1;
        let more = varint_size(length) - 1;
        if more > 0 {
            self.out.resize(self.out.len() + more, 0);
            self.out.copy_within(at + 1..at + 1 + length, at + 1 + more);
        }
        let mut rest = length;
        for idx in 0..=more {
            self.out[at + idx] = (rest & 0x7f) as u8 | if idx < more { 0x80 } else { 0 };
            rest >>= 7;
        }
    }

    /// Appends the message of the object that starts here.
    fn object(&mut self, entry: &'static Type) -> Result<()> {
        self.start()?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        let own = layout(entry);
        let (start, base) = (self.out.len(), self.written.len());
        self.written.resize(base + entry.fields.len(), 0..0);
        self.open()?;
        let mut first = true;
        while let Some(key) = self.key(&mut first)? {
            match entry.index_of(&key).filter(|idx| own.fields[*idx].0 > 0) {
                Some(idx) => {
                    let from = self.out.len();
                    self.field(entry, own, idx)?;
                    self.written[base + idx] = from..self.out.len();
                }
                None => self.skip()?,
            }
        }
        let end = self.out.len();
        self.assemble(entry, &own.slots, base);
        self.out.drain(start..end);
        self.written.truncate(base);
        self.depth -= 1;
        Ok(())
    }

    /// Appends what was written of an object in the order of its numbers, and zeros for the rest.
    fn assemble(&mut self, entry: &'static Type, slots: &[(u32, Slot)], base: usize) {
        for (number, slot) in slots {
            match slot {
                Slot::Field(idx) => {
                    let field = &entry.fields[*idx];
                    let written = self.written[base + idx].clone();
                    if !written.is_empty() {
                        self.out.extend_from_within(written);
                    } else if !field.pointer {
                        put_zero(&mut self.out, *number, field.kind);
                    }
                }
                Slot::Nested(inner) => {
                    put_tag(&mut self.out, *number, BYTES);
                    let at = self.out.len();
                    self.out.push(0);
                    self.assemble(entry, inner, base);
                    self.set_length(at);
                }
            }
        }
    }

    /// Appends one field; nothing for `null`.
    fn field(&mut self, entry: &'static Type, own: &Layout, idx: usize) -> Result<()> {
        let (number, form) = own.fields[idx];
        if self.null()? {
            return Ok(());
        }
        match entry.fields[idx].kind {
            Kind::List(inner) if form == Form::Wrapped => self.wrapped(number, *inner),
            Kind::List(inner) => self.list(number, *inner, form),
            Kind::Map(inner) => self.map(number, *inner, form),
            kind => self.value(number, kind, form),
        }
    }

    fn list(&mut self, number: u32, inner: Kind, form: Form) -> Result<()> {
        if self.peek()? != Start::Array {
            return Err("expected a list".into());
        }
        self.open()?;
        let mut first = true;
        while self.element(&mut first)? {
            if self.null()? {
                put_zero(&mut self.out, number, inner);
            } else {
                self.value(number, inner, form)?;
            }
        }
        Ok(())
    }

    fn wrapped(&mut self, number: u32, inner: Kind) -> Result<()> {
        self.delimited(number, |writer| writer.list(1, inner, Form::Plain))
    }

    fn map(&mut self, number: u32, inner: Kind, form: Form) -> Result<()> {
        self.start()?;
        self.open()?;
        let start = self.out.len();
        let mut entries: Vec<(Cow<'a, str>, Range<usize>)> = Vec::new();
        let mut first = true;
        while let Some(key) = self.key(&mut first)? {
            let from = self.out.len();
            self.delimited(number, |writer| {
                put_bytes(&mut writer.out, 1, key.as_bytes());
                match (inner, writer.null()?) {
                    (Kind::List(_), true) => put_bytes(&mut writer.out, 2, b""),
                    (inner, true) => put_zero(&mut writer.out, 2, inner),
                    (Kind::List(element), false) => writer.wrapped(2, *element)?,
                    (inner, false) => writer.value(2, inner, form)?,
                }
                Ok(())
            })?;
            entries.push((key, from..self.out.len()));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            let end = self.out.len();
            // Stable, so that the last of several equal keys stays last and wins when it is read.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            for (_, written) in entries {
                self.out.extend_from_within(written);
            }
            self.out.drain(start..end);
        }
        Ok(())
    }

    /// Appends one value that is not null.
    fn value(&mut self, number: u32, kind: Kind, form: Form) -> Result<()> {
        match kind {
            Kind::String => {
                let text = self.string()?;
                put_bytes(&mut self.out, number, text.as_bytes());
            }
            Kind::Boolean => {
                let value = match self.peek()? {
                    start @ (Start::True | Start::False) => start,
                    other => return Err(format!("cannot write {} as a boolean", other.word())),
                };
                self.scanner.word(value).map_err(|error| error.to_string())?;
                put_number(&mut self.out, number, i64::from(value == Start::True));
            }
            Kind::Int32 | Kind::Int64 => {
                let value = self.whole()?;
                put_number(&mut self.out, number, value);
            }
            Kind::Double => {
                let value = self.number()?.parse::<f64>().map_err(|error| error.to_string())?;
                put_tag(&mut self.out, number, FIXED64);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Bytes => {
                let text = self.string()?;
                let bytes = STANDARD
                    .decode(text.as_bytes())
                    .map_err(|error| error.to_string())?;
                put_bytes(&mut self.out, number, &bytes);
            }
            Kind::Time | Kind::MicroTime => {
                let text = self.string()?;
                let at = time::parse(&text).ok_or_else(|| format!("no time: {text:?}"))?;
                let nanos = match kind {
                    Kind::MicroTime => at.subsec_nanosecond() / 1000 * 1000,
                    _ => 0,
                };
                self.delimited(number, |writer| {
                    put_number(&mut writer.out, 1, at.as_second());
                    put_number(&mut writer.out, 2, nanos.into());
                    Ok(())
                })?;
            }
            Kind::Quantity => {
                let text = match self.peek()? {
                    Start::Number => Cow::Borrowed(self.number()?),
                    _ => self.string()?,
                };
                self.delimited(number, |writer| {
                    put_bytes(&mut writer.out, 1, text.as_bytes());
                    Ok(())
                })?;
            }
            Kind::IntOrString => {
                let (is_text, whole, text) = match self.peek()? {
                    Start::Number => (0, self.whole()?, Cow::Borrowed("")),
                    _ => (1, 0, self.string()?),
                };
                self.delimited(number, |writer| {
                    put_number(&mut writer.out, 1, is_text);
                    put_number(&mut writer.out, 2, whole);
                    put_bytes(&mut writer.out, 3, text.as_bytes());
                    Ok(())
                })?;
            }
            Kind::Any => return self.any(number, form),
            Kind::Struct(idx) => return self.delimited(number, |writer| writer.object(schema().get(idx))),
            Kind::List(_) | Kind::Map(_) => return Err("lists of lists do not exist in protobuf".into()),
        }
        Ok(())
    }

    fn any(&mut self, number: u32, form: Form) -> Result<()> {
        let start = self.peek()?;
        let schemas = || {
            let name = "apiextensions.v1.JSONSchemaProps";
            schema().find(name).expect("schemas are in the table")
        };
        let single = |writer: &mut Self, number| writer.delimited(number, |writer| writer.object(schemas()));
        self.delimited(number, |writer| match (form, start) {
            (Form::SchemaOrArray, Start::Array) => {
                writer.open()?;
                let mut first = true;
                while writer.element(&mut first)? {
                    single(writer, 2)?;
                }
                Ok(())
            }
            (Form::SchemaOrArray, _) => single(writer, 1),
            (Form::SchemaOrBool, Start::True | Start::False) => writer.value(1, Kind::Boolean, Form::Plain),
            (Form::SchemaOrBool, _) => {
                put_number(&mut writer.out, 1, 1);
                single(writer, 2)
            }
            (Form::SchemaOrStrings, Start::Array) => writer.list(2, Kind::String, Form::Plain),
            (Form::SchemaOrStrings, _) => single(writer, 1),
            (Form::Plain | Form::Wrapped, _) => {
                let raw = writer.raw()?;
                put_bytes(&mut writer.out, 1, raw);
                Ok(())
            }
        })
    }

    fn number(&mut self) -> Result<&'a str> {
        match self.peek()? {
            Start::Number => self.scanner.number().map_err(|error| error.to_string()),
            other => Err(format!("cannot write {} as a number", other.word())),
        }
    }

    fn whole(&mut self) -> Result<i64> {
        let text = self.number()?;
        text.parse().map_err(|_| format!("no whole number: {text}"))
    }
}
