//! What the tests of this crate share: captured frames, and frames built by hand.
//!
//! The files are read from `tests/data`, whose README says which programs wrote them. A builder writes only what
//! a test is about; nothing here reads a frame.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

use std::fs;
use std::path::{Path, PathBuf};

use outrigger_codec::{FrameCodec as _, Head, HeadIndex, Malformed, Slot, Wants};
use outrigger_dubbo::Dubbo;

pub(crate) const FRAME_MAX: usize = 8 << 20;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(crate) fn captured(name: &str) -> Vec<u8> {
    unhex(&fs::read_to_string(data(name)).unwrap())
}

/// All captured frames, with the file each is in.
pub(crate) fn all_captured() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for folder in ["dubbo-3.3", "dubbo-2.7"] {
        for file in fs::read_dir(data(folder)).unwrap() {
            let name = format!("{folder}/{}", file.unwrap().file_name().to_str().unwrap());
            if Path::new(&name).extension().is_some_and(|kind| kind == "hex") {
                let frame = captured(&name);
                frames.push((name, frame));
            }
        }
    }
    frames.sort();
    frames
}

/// A frame of the given flags and body, with id 7.
pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xda, 0xbb, flags, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// A Hessian string of fewer than 32 characters.
pub(crate) fn string(text: &str) -> Vec<u8> {
    assert!(text.is_ascii() && text.len() < 32);
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// The five strings that begin a Hessian body.
pub(crate) fn strings(path: &str, version: &str, method: &str, descriptor: &str) -> Vec<u8> {
    ["2.0.2", path, version, method, descriptor].map(string).concat()
}

/// A Hessian call of `a.B:1.0#m`, with arguments and attachments as they are to stand in the frame.
pub(crate) fn call(descriptor: &str, arguments: &[u8], attachments: &[u8]) -> Vec<u8> {
    frame(0xc2, &[&strings("a.B", "1.0", "m", descriptor), arguments, attachments].concat())
}

/// A map of strings.
pub(crate) fn map(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut map = vec![0x48];
    for (key, value) in entries {
        map.extend(string(key));
        map.extend(string(value));
    }
    map.push(0x5a);
    map
}

/// A head as the core sees it, copied.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Read {
    pub(crate) service: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) fields: Vec<(String, String)>,
}

pub(crate) fn head(frame: &[u8], wants: Wants) -> Result<Read, Malformed> {
    let mut index = HeadIndex::default();
    Dubbo::head(frame, wants, &mut index)?;
    let head = Head { bytes: frame, index: &index };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let slot = |slot| head.slot(slot).map(text);
    let field = |span: outrigger_codec::Span| text(span.of(frame).unwrap());
    Ok(Read {
        service: slot(Slot::Service),
        version: slot(Slot::Version),
        method: slot(Slot::Method),
        group: slot(Slot::Group),
        timeout_ms: index.timeout_ms,
        fields: index.fields.iter().map(|one| (field(one.name), field(one.value))).collect(),
    })
}
