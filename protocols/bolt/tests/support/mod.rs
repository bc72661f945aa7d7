//! Loads the recorded frames, and builds frames of any version for the properties and attacks.
//!
//! Each test file uses the part that it needs. It must not use the codec's own writers: what they write is what
//! is tested. Source: `tests/data/README.md`.
#![allow(dead_code, reason = "every test file is a crate of its own and uses a part of this")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use std::fs;
use std::path::PathBuf;

pub(crate) const SOFA_REQUEST: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";

pub(crate) fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A captured frame and what the independent decoder says of it.
pub(crate) struct Captured {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) json: serde_json::Value,
}

/// Every captured frame, requests and responses.
pub(crate) fn captured() -> Vec<Captured> {
    let mut frames = Vec::new();
    for entry in fs::read_dir(data("frames")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Some((case, side)) = file.strip_suffix(".hex").and_then(|stem| stem.rsplit_once('.')) else {
            continue;
        };
        let json = fs::read_to_string(data("frames").join(format!("{case}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        frames.push(Captured {
            name: format!("{case}.{side}"),
            bytes: hex(&fs::read_to_string(&path).unwrap()),
            json: json[side].clone(),
        });
    }
    frames.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(frames.len(), 33, "every recorded frame is there");
    frames
}

/// The named frames of `bolt_frames.txt`.
pub(crate) fn encoded() -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(data("bolt_frames.txt")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let named = lines.windows(2).filter(|pair| !pair[0].starts_with("  ") && pair[1].starts_with("  "));
    let frames: Vec<_> = named.map(|pair| (pair[0].to_owned(), hex(pair[1].trim()))).collect();
    assert_eq!(frames.len(), 14, "every encoded frame is there");
    frames
}

pub(crate) fn encoded_as(name: &str) -> Vec<u8> {
    encoded().into_iter().find(|(have, _)| have == name).unwrap().1
}

/// A frame to be built: version 0 is v1, 1 and 2 are v2 with that `ver1`.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) command: u8,
    pub(crate) id: u32,
    pub(crate) codec: u8,
    pub(crate) switch: u8,
    pub(crate) timeout: i32,
    pub(crate) status: u16,
    pub(crate) class: Vec<u8>,
    pub(crate) header: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl Draft {
    /// A v1 call of SOFARPC with Hessian content.
    pub(crate) fn request() -> Self {
        Self {
            version: 0,
            kind: 1,
            command: 1,
            id: 7,
            codec: 1,
            switch: 0,
            timeout: 3000,
            status: 0,
            class: SOFA_REQUEST.into(),
            header: Vec::new(),
            content: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = match self.version {
            0 => vec![1],
            ver1 => vec![2, ver1],
        };
        out.extend([self.kind, 0, self.command, 1]);
        out.extend(self.id.to_be_bytes());
        out.push(self.codec);
        if self.version != 0 {
            out.push(self.switch);
        }
        match self.kind {
            0 => out.extend(self.status.to_be_bytes()),
            _ => out.extend(self.timeout.to_be_bytes()),
        }
        out.extend((self.class.len() as u16).to_be_bytes());
        out.extend((self.header.len() as u16).to_be_bytes());
        out.extend((self.content.len() as u32).to_be_bytes());
        out.extend([self.class.as_slice(), &self.header, &self.content].concat());
        if self.version == 2 && self.switch & 1 == 1 {
            out.extend(crc(&out).to_be_bytes());
        }
        out
    }
}

/// The CRC of `java.util.zip.CRC32`, bit by bit.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

/// A header map; `None` is a null string.
pub(crate) fn map(pairs: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for string in pairs.iter().flat_map(|(key, value)| [key, value]) {
        match string {
            None => out.extend(u32::MAX.to_be_bytes()),
            Some(string) => {
                out.extend((string.len() as u32).to_be_bytes());
                out.extend(string.as_bytes());
            }
        }
    }
    out
}

/// A header map without nulls.
pub(crate) fn full_map(pairs: &[(&str, &str)]) -> Vec<u8> {
    map(&pairs.iter().map(|(key, value)| (Some(*key), Some(*value))).collect::<Vec<_>>())
}
