//! Which services there are.
//!
//! Directories are jumped over, not read: of each only the first page of keys is asked for. It must never ask for the
//! values, of which there may be very many.

use std::{collections::BTreeSet, sync::Arc};

use outrigger_discovery::{Framework, formats::percent};
use tokio::time;

use crate::{
    client::CALL,
    keys::{self, BESIDE_INTERFACES, Keys},
    mirror::{Range, after},
    read,
    session::{Hub, Link, Up},
};

/// The names of the services of a framework.
pub(crate) async fn names(hub: Arc<Hub>, framework: Framework) -> Result<Vec<String>, String> {
    let keys = hub.shared.keys.as_ref().map_err(|reason| (*reason).to_owned())?;
    let mut link = hub.link();
    let connected = link.wait_for(|link| !matches!(link, Link::New));
    // Connecting has a limit of its own, and what was wrong is worth more than that nothing was heard.
    let up = match time::timeout(CALL * 3, connected).await {
        Ok(Ok(link)) => match &*link {
            Link::Up(up) => up.clone(),
            Link::Down(reason) => return Err(reason.to_string()),
            Link::New | Link::Closed => return Err("the registry was closed".to_owned()),
        },
        _ => return Err("the server does not answer".to_owned()),
    };
    let names = match framework {
        Framework::Dubbo => dubbo(&up, keys).await?,
        Framework::Sofarpc | Framework::Spring | Framework::Plain => {
            let all = directories(&up, &keys::plain_all(framework), |rest| !rest.is_empty()).await?;
            all.iter().filter_map(|name| percent::decode(name)).collect()
        }
    };
    Ok(names.into_iter().collect())
}

async fn dubbo(up: &Up, keys: &Keys) -> Result<BTreeSet<String>, String> {
    let gives = |rest: &str| rest.strip_prefix("providers/").is_some_and(|node| !node.is_empty());
    let interfaces = directories(up, &keys.dubbo(), gives).await?;
    let interfaces = interfaces.iter().filter(|name| !BESIDE_INTERFACES.contains(&name.as_str()));
    let mut names: BTreeSet<String> = interfaces.filter_map(|name| percent::decode(name)).collect();
    let mappings = keys.mappings();
    let mut from = mappings.start().as_bytes().to_vec();
    loop {
        let (page, more) =
            read::names(&up.client, &from, &mappings).await.map_err(|error| error.to_string())?;
        let interface = |key: &Vec<u8>| String::from_utf8(mappings.node(key)?.to_vec()).ok();
        names.extend(page.iter().filter_map(interface));
        match page.last() {
            Some(last) if more => from = [&**last, &[0]].concat(),
            _ => return Ok(names),
        }
    }
}

/// The names in a directory that have something below them of which `counts` says that it counts.
async fn directories(
    up: &Up,
    range: &Range,
    counts: impl Fn(&str) -> bool,
) -> Result<BTreeSet<String>, String> {
    let (mut names, mut from) = (BTreeSet::new(), range.start().as_bytes().to_vec());
    loop {
        let (page, more) = read::names(&up.client, &from, range).await.map_err(|error| error.to_string())?;
        let mut last = None;
        for key in &page {
            let node = range.node(key).and_then(|node| std::str::from_utf8(node).ok());
            let Some((name, rest)) = node.and_then(|node| node.split_once('/')) else {
                last = None;
                continue;
            };
            if counts(rest) {
                names.insert(name.to_owned());
            }
            last = Some(name);
        }
        from = match (page.last(), last) {
            (Some(_), Some(name)) if more && names.contains(name) => {
                after(format!("{}{name}/", range.start()).as_bytes())
            }
            (Some(key), _) if more => [&**key, &[0]].concat(),
            _ => return Ok(names),
        };
    }
}
