//! Protobuf bodies: what can be read is written, and is the same when it has gone round once.
#![no_main]

use corten_api::schema::proto;
use corten_fuzz::{bounded, kind};
use libfuzzer_sys::fuzz_target;

/// A body of a kind with any bytes as its message.
fn body(pick: u8, message: &[u8]) -> Vec<u8> {
    let kind = kind(pick);
    let head = serde_json::json!({"apiVersion": kind.api_version(), "kind": *kind.kind}).to_string();
    let whole = proto::from_json(head.as_bytes()).expect("built-in kinds have a protobuf form");
    // The envelope's first field names the kind; the message is its second.
    let meta = &whole[4..6 + usize::from(whole[5])];
    let mut out = [proto::MAGIC, meta, &[0x12]].concat();
    let mut length = message.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(message);
    out
}

fuzz_target!(|data: &[u8]| {
    let _ = bounded(data.len(), 4096, || proto::to_json(data));
    let Some((pick, message)) = data.split_first() else {
        return;
    };
    let body = body(*pick, message);
    let Ok(read) = bounded(body.len(), 4096, || proto::to_json(&body)) else {
        return;
    };
    let json = read.to_string();
    // A quantity or a base64 text is checked when the JSON is decoded; here it only has to survive.
    let written =
        bounded(json.len(), 64, || proto::from_json(json.as_bytes())).expect("what was read can be written");
    let again = proto::to_json(&written).expect("what was written can be read");
    let twice = proto::from_json(again.to_string().as_bytes()).expect("and written");
    assert!(twice == written, "{json}\n{again}");
});
