//! What the dialects of gRPC share: its content types, timeouts, statuses and messages.
//!
//! Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md, statuscodes.md of grpc/grpc) and gRFC A6 for the push-back. It must never
//! read bodies.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use crate::{Head, HeadIndex, Message, Outcome, Refusal, Response, Slot, Span};

/// Whether a content type is gRPC's own: `application/grpc`, also with `+proto` and the like, but not gRPC-Web.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some((own, rest)) = content_type.split_at_checked(TYPE.len()) else { return false };
    own.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Sets service and method by the path: all before its last slash, and all behind it.
pub fn service_and_method(bytes: &[u8], index: &mut HeadIndex) {
    let span = index.slot(Slot::Path);
    let Some(path) = span.of(bytes) else { return };
    let Some(last) = path.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 1) else { return };
    let at = span.at as usize;
    let verb = index.slot(Slot::Method);
    index.set(Slot::Verb, verb);
    index.set(Slot::Service, Span::new(at.saturating_add(1), last.saturating_sub(1)));
    let from = last.saturating_add(1);
    index.set(Slot::Method, Span::new(at.saturating_add(from), path.len().saturating_sub(from)));
}

/// Reads a `grpc-timeout`: at most eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number = super::chars::decimal(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3_600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The same in whole milliseconds, rounded up: nobody's time is cut short.
pub fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Spells a `grpc-timeout` in the finest unit that eight digits allow; never nothing.
pub fn spell_timeout(timeout: Duration, into: &mut [u8; 9]) -> &[u8] {
    const MOST: u128 = 99_999_999;
    let units =
        [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm'), (u128::from(timeout.as_secs()), 'S')];
    let (number, unit) = units.into_iter().find(|(number, _)| *number <= MOST).unwrap_or((MOST, 'S'));
    let mut rest = into.as_mut_slice();
    let _ = write!(rest, "{}{unit}", number.max(1)); // nine bytes are enough
    let left = rest.len();
    let (spelled, _) = into.split_at(into.len().saturating_sub(left));
    spelled
}

/// What is left of a caller's own time.
pub fn left_of(said: Duration, spent: Duration, left: Option<Duration>) -> Duration {
    let rest = said.saturating_sub(spent);
    left.map_or(rest, |left| left.min(rest))
}

/// Tells the next hop in a `grpc-timeout` what is left of a call's time.
pub fn pass_timeout(request: &mut Message, spent: Duration, left: Option<Duration>) {
    const NAME: &[u8] = b"grpc-timeout";
    let Some(said) = request.head().field(NAME) else {
        if let Some(left) = left {
            request.add(NAME, spell_timeout(left, &mut [0; 9]));
        }
        return;
    };
    // What is no time is the service's to refuse.
    let Some(said) = timeout(said) else { return };
    let rest = left_of(said, spent, left);
    if rest < said {
        request.replace(NAME, spell_timeout(rest, &mut [0; 9]));
    }
}

/// The status of a refusal.
pub const fn status(why: Refusal) -> u8 {
    match why {
        Refusal::NoRoute => 12,
        Refusal::Limited | Refusal::Overloaded | Refusal::TooLarge => 8,
        Refusal::NoEndpoint | Refusal::Unreachable => 14,
        Refusal::TimedOut => 4,
        Refusal::Forbidden => 7,
        Refusal::Malformed => 13,
    }
}

/// Writes a refusal: trailers alone, with the head's parts before them unless an answer was `begun`.
pub fn refuse(why: Refusal, wait: Option<Duration>, text: &str, begun: bool, answer: &mut Message) {
    if !begun {
        answer.set(Slot::Target, b"200");
        answer.add(b"content-type", b"application/grpc");
    }
    answer.add(b"grpc-status", status(why).to_string().as_bytes());
    answer.add(b"grpc-message", escape(text).as_bytes());
    if let Some(wait) = wait {
        answer.add(b"grpc-retry-pushback-ms", wait.as_millis().max(1).to_string().as_bytes());
    }
    answer.add(b"x-outrigger-error", why.name().as_bytes());
}

/// Writes what a route says itself to a caller of gRPC, by the table for statuses of HTTP: trailers alone.
pub fn respond(response: &Response, answer: &mut Message) {
    let status = match response.status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502..=504 => "14",
        _ => "2",
    };
    answer.set(Slot::Target, b"200");
    answer.add(b"content-type", b"application/grpc");
    answer.add(b"grpc-status", status.as_bytes());
    let text = String::from_utf8_lossy(&response.body);
    if text.is_empty() {
        answer.add(b"grpc-message", format!("HTTP status {}", response.status).as_bytes());
    } else {
        answer.add(b"grpc-message", escape(text.trim_end()).as_bytes());
    }
    for line in response.headers.iter().filter(|line| &*line.lower != b"content-type") {
        answer.add(&line.lower, &line.value);
    }
}

/// A text as `grpc-message` spells it: whatever is not printable ASCII, or is the sign of an escape, is escaped.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// How a call ended, by an answer's head (`ends`: nothing follows) or its trailers.
pub fn outcome(head: Head<'_>, ends: bool, so_far: Outcome) -> Outcome {
    if let Some(status) = head.slot(Slot::Target)
        && !status.starts_with(b"200")
    {
        return match status.get(..3) {
            Some(b"429" | b"503") => Outcome::Busy,
            Some(b"408" | b"504") => Outcome::TimedOut,
            _ => Outcome::Error,
        };
    }
    if !ends {
        return so_far;
    }
    match head.field(b"grpc-status") {
        Some(b"0") => so_far,
        Some(b"4") => Outcome::TimedOut,
        Some(b"8") => Outcome::Busy,
        Some(b"13" | b"14" | b"15") | None => Outcome::Error,
        // What the service itself says of its call: the transport did well.
        Some(_) => Outcome::Exception,
    }
}

/// A number as a header's value.
pub fn number(number: u128) -> Vec<u8> {
    let mut text = Vec::with_capacity(20);
    let _ = write!(text, "{number}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_spells_them() {
        let ms = |text: &str| timeout(text.as_bytes()).map(milliseconds);
        assert_eq!(
            [ms("1S"), ms("5000000u"), ms("1n"), ms("2M")],
            [Some(1_000), Some(5_000), Some(1), Some(120_000)]
        );
        assert_eq!(ms("99999999H"), Some(u32::MAX));
        for wrong in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1 S", "0x1S", "1.5S"] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_left_is_spelled_so_that_it_is_read_again() {
        for micros in [0, 1, 999, 99_999_999, 100_000_000, 99_999_999_000, 100_000_000_000, u64::MAX] {
            let mut room = [0; 9];
            let spelled = spell_timeout(Duration::from_micros(micros), &mut room);
            let read = timeout(spelled);
            assert!(read.is_some_and(|read| read <= Duration::from_micros(micros.max(1))), "{spelled:?}");
        }
        let mut request = Message::default();
        request.add(b"grpc-timeout", b"100m");
        pass_timeout(&mut request, Duration::from_millis(30), None);
        assert_eq!(request.head().field(b"grpc-timeout"), Some(&b"70000u"[..]));
        pass_timeout(&mut request, Duration::ZERO, Some(Duration::from_millis(5)));
        assert_eq!(request.head().field(b"grpc-timeout"), Some(&b"5000u"[..]));
    }

    #[test]
    fn content_types_are_told_apart() {
        for own in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=x"] {
            assert!(is_grpc(own.as_bytes()), "{own}");
        }
        for other in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn messages_stay_on_their_line() {
        assert_eq!(escape("100 % é"), "100 %25 %C3%A9");
        assert_eq!(escape("a\r\nb"), "a%0D%0Ab");
    }
}
