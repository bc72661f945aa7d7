//! What the guides in `docs/` and the front page say can be done: every conf that they show passes the check.
//!
//! A conf is a fenced block of `yaml` that begins with `app:`; other blocks are parts of confs, or an application's own. Links to
//! files of the house lead somewhere. This must never know what a guide is about.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::TempDir;

fn house() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The guides, without their index.
fn guides() -> Vec<PathBuf> {
    let files = fs::read_dir(house().join("docs")).expect("docs/ is there");
    let files = files.map(|entry| entry.expect("an entry").path());
    let guide =
        |path: &PathBuf| path.extension().is_some_and(|ext| ext == "md") && !path.ends_with("README.md");
    let mut files: Vec<PathBuf> = files.filter(guide).collect();
    files.sort();
    files
}

fn pages() -> Vec<PathBuf> {
    let mut pages = guides();
    pages.extend([house().join("docs/README.md"), house().join("README.md")]);
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).expect("a page")
}

/// The confs that a page shows, each with the line that it begins in.
fn confs(page: &Path) -> Vec<(usize, String)> {
    let (mut found, mut block) = (Vec::new(), None::<(usize, String)>);
    for (at, line) in read(page).lines().enumerate() {
        match &mut block {
            Some((from, text)) if line.trim_end() == "```" => {
                if text
                    .lines()
                    .find(|line| !line.starts_with('#'))
                    .is_some_and(|line| line.starts_with("app:"))
                {
                    found.push((*from, std::mem::take(text)));
                }
                block = None;
            }
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
            None if line.trim_end() == "```yaml" => block = Some((at + 2, String::new())),
            None => {}
        }
    }
    assert!(block.is_none(), "{}: a block without an end", page.display());
    found
}

#[test]
fn every_conf_that_is_shown_passes_the_check() {
    let dir = TempDir::new();
    let file = dir.path().join("shown.yaml");
    for page in pages() {
        for (line, conf) in confs(&page) {
            fs::write(&file, conf).expect("a file");
            let checked =
                Command::new(env!("CARGO_BIN_EXE_outrigger")).args(["check", "-c"]).arg(&file).output();
            let checked = checked.expect("the binary runs");
            let told = [checked.stdout, checked.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            assert!(checked.status.success(), "{}:{line}: {told}", page.display());
        }
    }
}

/// The guide for who runs registries, not applications.
const OF_REGISTRIES: &str = "bridges.md";

#[test]
fn every_guide_shows_confs_and_stands_in_the_index() {
    let index = read(&house().join("docs/README.md"));
    let guides = guides();
    assert!(guides.len() >= 4, "the guides are there: {guides:?}");
    for guide in guides {
        let name = guide.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(index.contains(&format!("({name})")), "docs/README.md does not lead to {name}");
        let shown = confs(&guide);
        assert!(!shown.is_empty(), "{name} shows no conf");
        if name == OF_REGISTRIES {
            continue;
        }
        // One for an application that calls, and one for an application that is called.
        assert!(shown.len() >= 2, "{name} shows {} confs", shown.len());
        for part in ["discover:", "to: { service:", "register:"] {
            let there = shown.iter().any(|(_, conf)| conf.contains(part));
            assert!(there, "{name} does not show {part}");
        }
    }
    assert!(!confs(&house().join("README.md")).is_empty(), "the front page shows a conf");
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let folder = page.parent().expect("a folder");
        let text = read(&page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(folder.join(path).exists(), "{}: {target} is not there", page.display());
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked} links were looked at");
}
