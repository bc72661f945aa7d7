//! Timeouts and messages of gRPC: read as the protocol spells them, and spelled so that nobody gets more time than there is.
//!
//! Source: PROTOCOL-HTTP2.md of grpc/grpc. Beside the product's own reading stands a simple one of this file.

use std::time::Duration;

use outrigger_codec::{Message, http::grpc};

/// Holds timeouts to their promises; `bytes` are one, and the bytes in front of it say how much is spent and left.
pub fn timeouts(bytes: &[u8]) {
    let Some((&[spent @ .., more], value)) = bytes.split_first_chunk::<6>() else { return };
    let [a, b, c, d, e] = spent;
    let spent = Duration::from_micros(u32::from_be_bytes([a, b, c, d]).into());
    let left = (more & 1 == 1).then(|| Duration::from_millis(u64::from(e) * u64::from(more)));
    let read = grpc::timeout(value);
    assert_eq!(read, simply(value), "{:?}", String::from_utf8_lossy(value));
    if let Some(read) = read {
        spelled(read);
        let ms = grpc::milliseconds(read);
        assert!(ms == u32::MAX || Duration::from_millis(ms.into()) >= read, "{read:?} was cut short");
        assert!(Duration::from_millis(u64::from(ms.saturating_sub(1))) < read || ms == 0);
    }
    spelled(spent);
    passed(value, spent, left);
    escaped(value);
}

fn simply(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain)?;
    let nanos = match unit {
        'n' => 1,
        'u' => 1_000,
        'm' => 1_000_000,
        'S' => 1_000_000_000,
        'M' => 60_000_000_000,
        'H' => 3_600_000_000_000,
        _ => return None,
    };
    Some(Duration::from_nanos_u128(u128::from(number) * nanos))
}

/// What is spelled is read again as no more, and hardly less.
fn spelled(timeout: Duration) {
    let mut into = [0; 9];
    let spelled = grpc::spell_timeout(timeout, &mut into);
    let text = String::from_utf8_lossy(spelled);
    let read = simply(spelled).unwrap_or_else(|| panic!("{timeout:?} is spelled {text}"));
    let finest = Duration::from_micros(1);
    assert!(read > Duration::ZERO && read <= timeout.max(finest), "{timeout:?} is spelled {text}");
    let most = Duration::from_secs(99_999_999);
    let lost = timeout.min(most).saturating_sub(read);
    assert!(lost * 10_000 <= timeout || lost < finest, "{timeout:?} is spelled {text}");
}

/// The next hop is told what is left, and a value that says nothing stays.
fn passed(value: &[u8], spent: Duration, left: Option<Duration>) {
    let mut request = Message::default();
    request.add(b"grpc-timeout", value);
    request.add(b"x", b"y");
    grpc::pass_timeout(&mut request, spent, left);
    let head = request.head();
    let now = head.field(b"grpc-timeout").expect("it does not go");
    assert_eq!((head.field(b"x"), request.index.fields.len()), (Some(&b"y"[..]), 2));
    let Some(said) = simply(value) else {
        assert_eq!(now, value);
        return;
    };
    let due = said.saturating_sub(spent).min(left.unwrap_or(Duration::MAX));
    if due >= said {
        assert_eq!(now, value);
    } else {
        assert_eq!(now, grpc::spell_timeout(due, &mut [0; 9]));
    }
}

/// A message stays on its line and comes back as it was.
fn escaped(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let escaped = grpc::escape(&text);
    assert!(escaped.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{escaped}");
    let (mut back, mut rest) = (Vec::new(), escaped.as_bytes());
    while let Some((byte, later)) = rest.split_first() {
        rest = later;
        if *byte != b'%' {
            back.push(*byte);
            continue;
        }
        let (hex, later) = rest.split_at(2);
        let hex = std::str::from_utf8(hex).expect("two digits");
        back.push(u8::from_str_radix(hex, 16).expect("two digits"));
        rest = later;
    }
    assert_eq!(back, text.as_bytes());
}
