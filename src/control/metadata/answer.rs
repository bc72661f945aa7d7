//! The forms in which an instance tells what it serves: an object of Hessian, and messages of Protocol Buffers.
//!
//! Source: the fields of `MetadataInfo` and `MetadataInfo.ServiceInfo`, and of `metadata_service_v2.proto` and
//! `triple_wrapper.proto`, of Apache Dubbo 3.3.6. It must never trust a length that it read. A service that cannot be read is left out;
//! what is no message at all is an error.

use outrigger_discovery::formats::{
    Params,
    application::{MetadataInfo, ServiceInfo},
};

use crate::plugins::dubbo2::{Seen, Tree, Walker};

// === Hessian ========================================================================================================

/// Out of the object that Dubbo's `MetadataService` returns.
pub(super) fn of_object(root: Seen<'_>) -> Result<MetadataInfo, String> {
    if root.is_null() {
        return Err(super::UNKNOWN.into());
    }
    let services = root.field("services").ok_or("an answer that is no MetadataInfo")?;
    let services = services.entries().filter_map(|(_, service)| service_of(service));
    Ok(MetadataInfo::new(text(root, "app"), text(root, "revision"), services))
}

fn text(object: Seen<'_>, field: &str) -> String {
    object.field(field).and_then(Seen::text).unwrap_or_default().to_owned()
}

fn service_of(object: Seen<'_>) -> Option<ServiceInfo> {
    let params = object.field("params");
    let params = params.iter().flat_map(|params| params.entries());
    let params = params.filter_map(|(name, value)| Some((name.text()?.to_owned(), value.text()?.to_owned())));
    let port = object.field("port").and_then(Seen::number);
    let service = ServiceInfo {
        name: text(object, "name"),
        group: some(text(object, "group")),
        version: some(text(object, "version")),
        protocol: text(object, "protocol"),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        path: text(object, "path"),
        params: params.collect(),
    };
    (!service.name.is_empty()).then_some(service)
}

/// What is not there is null in the one form, and an empty text in the other.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

// === Protocol Buffers ===============================================================================================

/// Appends a field of bytes.
pub(super) fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// Out of a `MetadataInfoV2`.
pub(super) fn of_message(message: &[u8]) -> Result<MetadataInfo, String> {
    let (mut app, mut revision, mut services) = (String::new(), String::new(), Vec::new());
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(bytes)) => app = utf8(bytes)?,
            // The proto calls it the version.
            (2, Field::Bytes(bytes)) => revision = utf8(bytes)?,
            (3, Field::Bytes(entry)) => services.extend(service_of_message(value(entry)?)?),
            _ => {}
        }
    }
    Ok(MetadataInfo::new(app, revision, services))
}

/// Out of the `TripleResponseWrapper` of a call with Hessian in it.
pub(super) fn of_wrapper(message: &[u8]) -> Result<MetadataInfo, String> {
    let mut data = None;
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(kind)) if !matches!(kind, b"hessian4" | b"hessian2") => {
                return Err("an answer that is not in Hessian".into());
            }
            (2, Field::Bytes(bytes)) => data = Some(bytes),
            _ => {}
        }
    }
    let data = data.ok_or(super::UNKNOWN)?;
    let tree = Tree::read(&mut Walker::new(data, 0)).map_err(|why| why.0)?;
    of_object(tree.root())
}

/// The value of a map's entry.
fn value(entry: &[u8]) -> Result<&[u8], String> {
    let mut found: &[u8] = &[];
    for field in Fields(entry) {
        if let (2, Field::Bytes(bytes)) = field? {
            found = bytes;
        }
    }
    Ok(found)
}

fn service_of_message(message: &[u8]) -> Result<Option<ServiceInfo>, String> {
    let mut service = ServiceInfo::default();
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(bytes)) => service.name = utf8(bytes)?,
            (2, Field::Bytes(bytes)) => service.group = some(utf8(bytes)?),
            (3, Field::Bytes(bytes)) => service.version = some(utf8(bytes)?),
            (4, Field::Bytes(bytes)) => service.protocol = utf8(bytes)?,
            (5, Field::Number(port)) => service.port = u16::try_from(port).unwrap_or(0),
            (6, Field::Bytes(bytes)) => service.path = utf8(bytes)?,
            (7, Field::Bytes(entry)) => param(entry, &mut service.params)?,
            _ => {}
        }
    }
    Ok((!service.name.is_empty()).then_some(service))
}

fn param(entry: &[u8], into: &mut Params) -> Result<(), String> {
    let (mut name, mut value) = (String::new(), String::new());
    for field in Fields(entry) {
        match field? {
            (1, Field::Bytes(bytes)) => name = utf8(bytes)?,
            (2, Field::Bytes(bytes)) => value = utf8(bytes)?,
            _ => {}
        }
    }
    into.insert(name, value);
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "an answer with a text that is none".into())
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length: nobody asks for one.
    Fixed,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "an answer that is no message of Protocol Buffers".into()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, field))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
