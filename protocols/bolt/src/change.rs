//! The header map of a frame, changed on its way.
//!
//! Class and content stay as they are; lengths and checksum are made true. Reference: SOFARPC `SimpleMapSerializer`.

use outrigger_codec::change::Change;

use crate::layout::{self, be32};

/// The length of a null string.
const NULL: u32 = u32::MAX;

/// Appends `frame` with its header map changed. `false`: that cannot be done, and nothing was appended.
pub(crate) fn apply(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    if rewrite(frame, change, out).is_some() {
        return true;
    }
    out.truncate(start);
    false
}

fn rewrite(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> Option<()> {
    let layout = layout::of(frame)?;
    let ends = layout.ends(frame).filter(|ends| ends.frame == frame.len())?;
    let start = out.len();
    out.extend_from_slice(frame.get(..ends.class)?);
    let map = out.len();
    let mut at = ends.class;
    while at < ends.header {
        let from = at;
        let (name, behind) = string(frame, from, ends.header)?;
        let (value, behind) = string(frame, behind, ends.header)?;
        at = behind;
        let drops = name.is_some_and(|name| change.drops(name, false)) && value.is_some();
        if !drops {
            out.extend_from_slice(frame.get(from..at)?);
        }
    }
    for line in change.lines() {
        for bytes in [&line.name, &line.value] {
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
    // Java's `short`: a longer map would be read as none.
    let map_len = i16::try_from(out.len().checked_sub(map)?).ok()?;
    out.extend_from_slice(frame.get(ends.header..)?);
    let place = out.get_mut(start.checked_add(layout.header_len)?..)?.first_chunk_mut()?;
    *place = map_len.to_be_bytes();
    Some(())
}

/// The string at `at`, `None` when it is null, and where it ends.
fn string(frame: &[u8], at: usize, end: usize) -> Option<(Option<&[u8]>, usize)> {
    let len = be32(frame, at)?;
    let from = at.checked_add(4).filter(|from| *from <= end)?;
    if len == NULL {
        return Some((None, from));
    }
    let to = from.checked_add(len as usize).filter(|to| *to <= end)?;
    Some((Some(frame.get(from..to)?), to))
}
