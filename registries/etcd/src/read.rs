//! The questions that many put to the server: what stands in a range, or under a key.
//!
//! What is not there is no error; everything else is. None of them may wait without a limit, and none may want more in one
//! answer than a page.

use crate::{
    client::{Client, Error},
    mirror::{Entry, Range, Read},
    wire::RangeRequest,
};

/// How many keys one answer may have.
const PAGE: i64 = 1_000;
/// Keys of one range; more are not read.
const KEYS_MAX: usize = 1_000_000;

/// What changed in a range after a revision, and how many keys there are; 0: everything.
pub(crate) async fn range(client: &Client, range: &Range, since: i64) -> Result<Read, Error> {
    if since > 0 {
        let min_mod_revision = since.saturating_add(1);
        let question = RangeRequest { min_mod_revision, ..page_of(range.start().as_bytes(), range) };
        if let (read, false) = page(client, question).await? {
            return Ok(read);
        }
    }
    let mut whole = Read { is_whole: true, ..Read::default() };
    let mut from = range.start().as_bytes().to_vec();
    loop {
        // All pages tell of the same moment.
        let question = RangeRequest { revision: whole.revision, ..page_of(&from, range) };
        let (mut read, more) = page(client, question).await?;
        if whole.revision == 0 {
            (whole.revision, whole.count) = (read.revision, read.count);
        }
        let last = read.entries.last().map(|(key, _)| key.clone());
        whole.entries.append(&mut read.entries);
        match last {
            // A server that gives no next key, or goes on for ever, is not believed.
            Some(last) if more && (last < from || whole.entries.len() > KEYS_MAX) => {
                return Err(Error::Refused("it tells a list that does not end".to_owned()));
            }
            Some(last) if more => {
                from = last;
                from.push(0);
            }
            _ => return Ok(whole),
        }
    }
}

fn page_of(from: &[u8], range: &Range) -> RangeRequest {
    let range_end = range.end().unwrap_or_default();
    RangeRequest { key: from.to_vec(), range_end, limit: PAGE, ..RangeRequest::default() }
}

async fn page(client: &Client, question: RangeRequest) -> Result<(Read, bool), Error> {
    let answer = client.range(question).await?;
    let read = Read {
        revision: answer.header.map_or(0, |header| header.revision),
        count: usize::try_from(answer.count).unwrap_or(0),
        entries: answer.kvs.into_iter().map(Entry::of).collect(),
        is_whole: false,
    };
    Ok((read, answer.more))
}

/// What stands under a key; `None`: nothing.
pub(crate) async fn key(client: &Client, key: &str) -> Result<Option<Entry>, Error> {
    let (read, _) = page(client, page_of(key.as_bytes(), &Range::key(key))).await?;
    Ok(read.entries.into_iter().next().map(|(_, entry)| entry))
}

/// Keys of a range from one on, at most a page of them, without their values; and whether there are more.
pub(crate) async fn names(
    client: &Client,
    from: &[u8],
    range: &Range,
) -> Result<(Vec<Vec<u8>>, bool), Error> {
    let (read, more) = page(client, RangeRequest { keys_only: true, ..page_of(from, range) }).await?;
    Ok((read.entries.into_iter().map(|(key, _)| key).collect(), more))
}

/// Whether a question gets an answer, of whatever kind.
pub(crate) async fn is_well(client: &Client, key: &str) -> Result<(), Error> {
    let key = key.as_bytes().to_vec();
    let question = RangeRequest { key, count_only: true, serializable: true, ..RangeRequest::default() };
    match client.range(question).await {
        Ok(_) | Err(Error::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
