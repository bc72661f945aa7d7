//! Configs of Nacos, in which Dubbo 3 keeps which applications give an interface, and what they serve at a revision.
//!
//! Others write the same configs: a name is only ever added to what is there, and nothing is taken away.
//! Source: `NacosMetadataReport` of Dubbo 3.3, whose dumps of a server are the form that is held here; older releases of
//! dubbo-go for the second place of the metadata.

use std::collections::BTreeMap;

use outrigger_discovery::formats::application::{MetadataInfo, apps, with_app};

use crate::{
    Settings,
    message::{Config, ConfigPublishRequest, ConfigQueryRequest, NO_CONFIG},
    session::{Failed, Session},
};

/// The group of configs that say which applications give an interface.
const MAPPING: &str = "mapping";
/// The group in which older releases of dubbo-go keep metadata.
const OLD_METADATA: &str = "dubbo";

impl Settings {
    /// Where it stands which applications give an interface.
    pub(crate) fn mapping(&self, interface: &str) -> Config {
        self.config(MAPPING, interface)
    }

    /// Where it stands what an application serves at a revision.
    pub(crate) fn metadata(&self, app: &str, revision: &str) -> Config {
        self.config(revision, app)
    }

    fn old_metadata(&self, app: &str, revision: &str) -> Config {
        self.config(OLD_METADATA, &format!("{app}:{revision}"))
    }
}

/// What a config says, and the digest of that; `None`: there is none.
async fn read(session: &Session, config: &Config) -> Result<Option<(String, String)>, Failed> {
    match session.call(&ConfigQueryRequest { config }).await {
        Ok(answer) => Ok(answer.content.map(|content| (content, answer.md5.unwrap_or_default()))),
        Err(failed) if failed.code == NO_CONFIG => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// Writes a config; `before`: the digest of what it says now, if it is there.
async fn publish(
    session: &Session,
    config: &Config,
    content: &str,
    before: Option<&str>,
) -> Result<(), Failed> {
    let cas_md5 = before.filter(|before| !before.is_empty());
    session
        .call(&ConfigPublishRequest { config, content, cas_md5, addition_map: BTreeMap::new() })
        .await
        .map(drop)
}

/// The applications that give an interface.
pub(crate) async fn mapped(session: &Session, mapping: &Config) -> Result<Vec<String>, Failed> {
    let said = read(session, mapping).await?;
    Ok(said.iter().flat_map(|(content, _)| apps(content)).map(str::to_owned).collect())
}

/// What an application serves at a revision, if Nacos knows it.
pub(crate) async fn metadata(
    session: &Session,
    settings: &Settings,
    app: &str,
    revision: &str,
) -> Result<Option<MetadataInfo>, Failed> {
    for config in [settings.metadata(app, revision), settings.old_metadata(app, revision)] {
        if let Some((content, _)) = read(session, &config).await?
            && let Ok(info) = MetadataInfo::parse(content.as_bytes())
        {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// Has a config say this, whoever wrote it.
pub(crate) async fn have(session: &Session, config: &Config, content: &str) -> Result<(), Failed> {
    match read(session, config).await? {
        Some((said, _)) if said == content => Ok(()),
        _ => publish(session, config, content, None).await,
    }
}

/// Has a mapping name an application beside the others; says whether it was read there already. What was written just now is
/// not: of two who write the first name at once, one writes over the other.
pub(crate) async fn named(session: &Session, mapping: &Config, app: &str) -> Result<bool, Failed> {
    let said = read(session, mapping).await?;
    let (there, before) = match &said {
        Some((content, md5)) => (content.as_str(), Some(md5.as_str())),
        None => ("", None),
    };
    match with_app(there, app) {
        Some(content) => publish(session, mapping, &content, before).await.map(|()| false),
        None => Ok(true),
    }
}
