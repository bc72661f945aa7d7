//! Two readers of heads that share nothing with the crate: one as strict as RFC 9112 allows, one as sloppy as servers are
//! found to be. What this crate spells must mean the same to both. They work on text, line by line, and know no limits.

/// A head as somebody understood it; bytes are kept as characters of Latin-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// The first line, in three parts.
    pub(crate) first: [String; 3],
    /// Names in lower case, and values.
    pub(crate) fields: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nowhere,
    Length(u64),
    Chunked,
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn is_token(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

impl Meaning {
    /// Reads a whole head by the letter; `None` where the letter does not allow it.
    pub(crate) fn strict(bytes: &[u8]) -> Option<Self> {
        let all = latin(bytes);
        let mut lines = all.strip_suffix("\r\n\r\n")?.split("\r\n");
        let text = |line: &&str| !line.chars().any(|c| c.is_ascii_control() && c != '\t');
        let mut first = lines.next().filter(text)?.splitn(3, ' ').map(str::to_owned);
        let first = [first.next()?, first.next()?, first.next().unwrap_or_default()];
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = Some(line).filter(text)?.split_once(':')?;
            is_token(name).then_some(())?;
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Some(Self { first, fields })
    }

    /// Reads as much as it can, in the way that makes the most of it: any line ends, any white space, folded lines,
    /// underscores as hyphens, names anywhere.
    pub(crate) fn sloppy(bytes: &[u8]) -> Self {
        let all = latin(bytes).replace("\r\n", "\n").replace('\r', "\n");
        let mut lines = all.trim_start().split('\n').map(str::to_owned).collect::<Vec<_>>().into_iter();
        let first = lines.next().unwrap_or_default();
        let mut parts = first.splitn(3, char::is_whitespace).map(|part| part.trim().to_owned());
        let mut next = || parts.next().unwrap_or_default();
        let first = [next(), next(), next()];
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            if line.starts_with(char::is_whitespace)
                && let Some((_, value)) = fields.last_mut()
            {
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let junk = |c: char| c.is_whitespace() || c.is_control();
            fields.push((
                name.trim_matches(junk).to_ascii_lowercase().replace('_', "-"),
                value.trim_matches(junk).to_owned(),
            ));
        }
        Self { first, fields }
    }

    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(theirs, _)| theirs == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The words of a header's lists, in lower case.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let lists = self.all(name);
        lists
            .iter()
            .flat_map(|list| list.split(','))
            .map(|word| word.trim_matches([' ', '\t']).to_ascii_lowercase())
            .collect()
    }

    /// How the end of the body is told; `None` where that can be argued about.
    pub(crate) fn told(&self) -> Option<Told> {
        match (&self.all("content-length")[..], &self.all("transfer-encoding")[..]) {
            ([], []) => Some(Told::Nowhere),
            ([length], []) if length.chars().all(|c| c.is_ascii_digit()) => {
                length.parse().ok().map(Told::Length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Some(Told::Chunked),
            _ => None,
        }
    }

    /// The headers that are for whoever is at the end, by RFC 9110 §7.6.1 and what this house strips besides.
    pub(crate) fn end_to_end(&self, underscores: bool) -> Vec<(String, String)> {
        const HOP: [&str; 10] = [
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "http2-settings",
            "transfer-encoding",
            "content-length",
            "host",
            "expect",
            "proxy-connection",
        ];
        const OURS: [&str; 2] = ["via", "x-request-id"];
        let nominated = self.words("connection");
        let stays = |name: &str| {
            let ours =
                OURS.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("x-outrigger-");
            let hop = HOP.contains(&name) || (name.starts_with("proxy-") && name.len() > 6);
            !hop && (ours || !nominated.iter().any(|word| word == name))
                && (underscores || !name.contains('_'))
        };
        self.fields.iter().filter(|(name, _)| stays(name)).cloned().collect()
    }
}

/// Reads a chunked body by the letter, its trailers too: its content, and how much of the bytes it was.
pub(crate) fn chunks(bytes: &[u8]) -> Option<(String, usize)> {
    let all = latin(bytes);
    let mut rest = all.as_str();
    let mut content = String::new();
    loop {
        let (line, after) = rest.split_once("\r\n")?;
        let (digits, extension) = line.split_once(';').unwrap_or((line, ""));
        let hexadecimal = (1..=16).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
        let clean = !extension.chars().any(|c| c.is_ascii_control() && c != '\t');
        (hexadecimal && clean).then_some(())?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            rest = after;
            break;
        }
        let end = after.char_indices().map(|(at, _)| at).chain([after.len()]).nth(size)?;
        content.push_str(&after[..end]);
        rest = after[end..].strip_prefix("\r\n")?;
    }
    let end = if rest.starts_with("\r\n") { 2 } else { rest.find("\r\n\r\n")? + 4 };
    let trailer = format!("x x x\r\n{}", &rest[..end]);
    Meaning::strict(&trailer.chars().map(|c| c as u8).collect::<Vec<_>>())?;
    let left = rest[end..].chars().count();
    Some((content, bytes.len() - left))
}
