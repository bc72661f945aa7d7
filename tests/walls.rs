//! The walls of the house, held by a test that reads the manifests and the sources.
//!
//! Four verbs, four folders: `core` decides, `protocols` translate, `registries` inform, `src` moves; arrows only go
//! down, and `src/plugins.rs` alone names the plug-ins (ARCHITECTURE.md says why). Cargo forbids cycles; everything else
//! is forbidden here. Each check is a pure function from text to breaches and is itself tested on a bad sample, so that
//! a wall cannot be left unguarded by a check that sees nothing. It must stay fast: it reads, and never compiles.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 900;
const FUNCTION_LINES_MAX: usize = 80;

/// Functions that may be longer, each with its reason: (file, function, why).
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// What only `src` may use: whatever has a socket, a file, a thread or a clock in it.
const IO_WORDS: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime",
];

/// What a sans-io engine may not even mention.
const ENGINE_WORDS: &[&str] = &["tokio", "mio", "socket2", "std::net", "Instant", "SystemTime"];

/// What loses the place of a mistake in the conf.
const SERDE_WORDS: &[&str] = &["tag", "untagged", "flatten"];

/// Folders of some machine, which a file of the product must not know. Split, lest this file breaks its own rule.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/ho", "me"), concat!("/t", "mp")];

/// What the crates that read bytes of peers deny.
const PANIC_LINTS: &[&str] = &["unwrap_used", "expect_used", "indexing_slicing", "arithmetic_side_effects"];

// === the checks =====================================================================================================

/// The names of a manifest's dependencies, of every kind and target, with those of ours first to be judged.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut listing = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            // `[dependencies]`, `[target.'cfg(unix)'.dev-dependencies]`, or `[dependencies.name]`.
            listing = section.ends_with("dependencies") && !section.starts_with("workspace");
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                found.push(name.to_owned());
            }
        } else if listing && !line.starts_with('#') {
            let name: String =
                line.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
            found.extend(renamed.map(str::to_owned).or((!name.is_empty()).then_some(name)));
        }
    }
    found
}

/// The value of a manifest's `name`.
fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name"))?;
    line.split('"').nth(1)
}

/// Dependencies of ours that are not among `allowed`.
fn foreign<'a>(dependencies: &'a [String], allowed: &[&str]) -> Vec<&'a str> {
    let ours = dependencies.iter().map(String::as_str).filter(|name| name.starts_with("outrigger"));
    ours.filter(|name| !allowed.contains(name)).collect()
}

/// The source with comments, and what strings and characters hold, blanked out; the lines stay where they are.
fn code(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    let blank = |out: &mut String, text: &str| {
        out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    };
    while let Some(first) = rest.chars().next() {
        let len = literal_or_comment(rest, out.chars().next_back());
        let taken = if len == 0 { first.len_utf8() } else { len };
        let (text, later) = rest.split_at(taken);
        if len == 0 {
            out.push_str(text);
        } else {
            blank(&mut out, text);
        }
        rest = later;
    }
    out
}

/// The length of the comment, string or character that `rest` begins with; 0 when it begins with none.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let to = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return to(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return to(rest.find("*/").map(|at| at + 2));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.len() - raw.len() + hashes + 1;
            return to(rest[open..].find(&close).map(|at| open + at + close.len()));
        }
    }
    if let Some(text) = rest.strip_prefix('"') {
        return to(closing(text, '"').map(|at| at + 1));
    }
    if let Some(text) = rest.strip_prefix('\'') {
        // A lifetime has no second quote where a character has it.
        let mut chars = text.char_indices();
        let character =
            chars.next().is_some_and(|(_, c)| c == '\\') || chars.next().is_some_and(|(_, c)| c == '\'');
        return if character { to(closing(text, '\'').map(|at| at + 1)) } else { 0 };
    }
    0
}

/// Where the first `quote` that is not escaped ends.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The lines (from 1) on which `word` stands as a whole word.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |(at, _): (usize, &str), line: &str| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        let open = !word.starts_with(part) || !before.is_some_and(part);
        open && !after.is_some_and(part)
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| line.match_indices(word).any(|hit| whole(hit, line)))
        .map(|(n, _)| n + 1)
        .collect()
}

/// `word at line` for each of `words` that the code of a source uses.
fn uses(source: &str, words: &[&str]) -> Vec<String> {
    let code = code(source);
    let hits =
        |word: &&str| lines_with(&code, word).into_iter().map(|n| format!("{n}: {word}")).collect::<Vec<_>>();
    words.iter().flat_map(hits).collect()
}

/// `line: word` for each of `words` that an attribute `#[serde(…)]` of a source names.
fn serde_uses(source: &str, words: &[&str]) -> Vec<String> {
    let code = code(source);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("serde(") {
        let line = code[..at].lines().count().max(1);
        let attribute = code[at..].split(']').next().unwrap_or_default();
        let named = words.iter().filter(|word| !lines_with(attribute, word).is_empty());
        found.extend(named.map(|word| format!("{line}: {word}")));
    }
    found
}

/// Paths of some machine in any text; `${TMPDIR:-…}` is how a script may spell its default.
fn machine_paths(text: &str) -> Vec<String> {
    let outside = |line: &str, at: usize, path: &str| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let inside_word = before.is_some_and(|c| c.is_alphanumeric() || "_.-}".contains(c));
        let default = line[..at].ends_with("TMPDIR:-");
        !inside_word && !default && !after.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c))
    };
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            if line.match_indices(path).any(|(at, _)| outside(line, at, path)) {
                found.push(format!("{}: {path}", n + 1));
            }
        }
    }
    found
}

/// The functions of a source that are longer than allowed: name and lines, from `fn` to the closing brace.
fn long_functions(source: &str, lines_max: usize) -> Vec<(String, usize)> {
    let code = code(source);
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(word)) {
        let name: String = code[at + 3..].chars().take_while(|c| word(*c)).collect();
        if let Some(len) = body_end(&code[at..]).filter(|_| !name.is_empty()) {
            let lines = code[at..at + len].lines().count();
            if lines > lines_max {
                found.push((name, lines));
            }
        }
    }
    found
}

/// Where the function that `code` begins with ends; `None` when it has no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

// === the house ======================================================================================================

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files under `folders` whose names end so, with their names from the root. What is built or fetched is not ours.
fn files(folders: &[&str], ends: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            if !matches!(&*name, "target" | "node_modules" | "corpus" | "artifacts" | "out") {
                open.extend(
                    fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
                );
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            let place =
                path.strip_prefix(root()).expect("a path below the root").to_string_lossy().into_owned();
            found.push((place, read(&path)));
        }
    }
    found.sort();
    found
}

const EVERYWHERE: &[&str] = &["src", "core", "protocols", "registries", "tests", "benches", "fuzz"];

fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let found = files(folders, &[".rs"]);
    assert!(!found.is_empty(), "no source under {folders:?}");
    found
}

/// The crates right below `folder`: folder, manifest.
fn crates(folder: &str) -> Vec<(String, String)> {
    let found = files(&[folder], &["Cargo.toml"]);
    assert!(!found.is_empty(), "no crate under {folder}");
    found
}

/// Fails with every breach, each on a line.
fn hold(wall: &str, breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "{wall}\n  {}", breaches.join("\n  "));
}

/// The breaches of a check over sources, each with its place.
fn over(sources: &[(String, String)], check: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let of = |(place, text): &(String, String)| {
        check(text).into_iter().map(|hit| format!("{place}:{hit}")).collect()
    };
    sources.iter().flat_map(|source| -> Vec<String> { of(source) }).collect()
}

fn plugins() -> Vec<String> {
    let manifests = [crates("protocols"), crates("registries")].concat();
    let names = manifests.iter().filter_map(|(_, manifest)| package_name(manifest));
    let plugins: Vec<String> = names
        .filter(|name| !matches!(*name, "outrigger-codec" | "outrigger-discovery"))
        .map(|name| name.replace('-', "_"))
        .collect();
    assert!(plugins.len() >= 3, "too few plug-ins to be true: {plugins:?}");
    plugins
}

#[test]
fn each_crate_depends_only_on_what_lies_below_it() {
    let floors: [(&str, &[&str]); 4] = [
        ("core", &["outrigger-codec"]),
        ("protocols", &["outrigger-codec"]),
        ("registries", &["outrigger-discovery"]),
        ("benches", &[]),
    ];
    for (folder, allowed) in floors {
        for (place, manifest) in crates(folder) {
            let interface = allowed.contains(&package_name(&manifest).expect("a name"));
            let allowed = if interface { &[] } else { allowed };
            let dependencies = dependencies(&manifest);
            let breaches = foreign(&dependencies, allowed).into_iter().map(str::to_owned);
            hold(&format!("{place} may depend on {allowed:?} of ours, not on"), breaches);
        }
    }
}

#[test]
fn core_and_protocols_do_no_io_and_have_no_clock() {
    for folder in ["core", "protocols"] {
        for (place, manifest) in crates(folder) {
            let dependencies = dependencies(&manifest);
            let io = ["tokio", "mio", "socket2", "rustix", "libc", "hyper"];
            let found = io.iter().filter(|name| dependencies.iter().any(|have| have == *name));
            hold(&format!("{place} is sans-io and must not depend on"), found.map(|name| (*name).to_owned()));
        }
    }
    let product: Vec<_> =
        sources(&["core", "protocols"]).into_iter().filter(|(place, _)| place.contains("/src/")).collect();
    hold("core and protocols decide and translate; src moves", over(&product, |text| uses(text, IO_WORDS)));
}

#[test]
fn core_knows_no_protocol_by_name() {
    let breaches = over(&sources(&["core/src"]), |text| {
        let code = code(text).to_lowercase();
        ["bolt", "dubbo", "sofa", "hessian"].iter().flat_map(|word| uses(&code, &[word])).collect()
    });
    hold("core decides for any protocol", breaches);
}

#[test]
fn plug_ins_are_named_in_one_file_only() {
    let names = plugins();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (list, others): (Vec<_>, Vec<_>) =
        sources(&["src"]).into_iter().partition(|(place, _)| place == "src/plugins.rs");
    hold("only src/plugins.rs may name a plug-in crate", over(&others, |text| uses(text, &names)));
    for name in names {
        let listed = list.iter().any(|(_, text)| !uses(text, &[name]).is_empty());
        assert!(listed, "{name} is a plug-in that src/plugins.rs does not name");
    }
}

#[test]
fn engines_are_sans_io() {
    hold(
        "bytes and time come into src/session as arguments",
        over(&sources(&["src/session"]), |text| uses(text, ENGINE_WORDS)),
    );
}

#[test]
fn conf_keeps_the_place_of_every_mistake() {
    let conf = sources(&["src/conf/file.rs"]);
    hold("choices in the conf are externally tagged", over(&conf, |text| serde_uses(text, SERDE_WORDS)));
}

#[test]
fn every_source_opens_by_saying_what_it_is_for() {
    let unsaid = sources(EVERYWHERE).into_iter().filter(|(_, text)| !text.starts_with("//! "));
    hold("a source opens with `//! `", unsaid.map(|(place, _)| place));
}

#[test]
fn files_and_functions_stay_small() {
    let all = sources(EVERYWHERE);
    let long = all.iter().filter(|(_, text)| text.lines().count() > FILE_LINES_MAX);
    hold("a file has at most 900 lines", long.map(|(place, _)| place.clone()));
    let mut functions = Vec::new();
    for (place, text) in &all {
        functions.extend(long_functions(text, FUNCTION_LINES_MAX).into_iter().map(|found| (&**place, found)));
    }
    for (place, function, why) in LONG_FUNCTIONS {
        let before = functions.len();
        functions.retain(|(file, (name, _))| (file, &&**name) != (place, function));
        assert!(functions.len() < before, "{place}: {function} needs no exception ({why})");
    }
    let breaches = functions.into_iter().map(|(place, (name, lines))| format!("{place}: {name} has {lines}"));
    hold("a function has at most 80 lines", breaches);
}

#[test]
fn lints_hold_in_every_crate() {
    let (mut manifests, mut unchecked) =
        (vec![("Cargo.toml".to_owned(), read(&root().join("Cargo.toml")))], vec![]);
    for folder in ["core", "protocols", "registries", "benches"] {
        manifests.extend(crates(folder));
    }
    for (place, manifest) in &manifests {
        if !manifest.contains("[lints]\nworkspace = true") {
            unchecked.push(place.clone());
        }
    }
    hold("the workspace's lints are taken by", unchecked);
    assert!(
        manifests[0].1.contains("unsafe_code = \"forbid\""),
        "unsafe code is forbidden in the whole workspace"
    );
    let readers: Vec<_> = sources(&["core", "protocols"])
        .into_iter()
        .filter(|(place, _)| place.ends_with("src/lib.rs"))
        .collect();
    assert!(readers.len() >= 4);
    let lax = over(&readers, |text| {
        let denied = |lint: &&&str| !text.contains(&format!("clippy::{lint}"));
        PANIC_LINTS.iter().filter(denied).map(|lint| (*lint).to_owned()).collect()
    });
    hold("what reads bytes of peers denies", lax);
}

#[test]
fn no_file_knows_a_machine() {
    let ends =
        [".rs", ".toml", ".sh", ".md", ".yaml", ".yml", ".py", ".java", ".js", ".xml", ".cfg", ".conf"];
    let mut texts = files(EVERYWHERE, &ends);
    texts.extend(files(&["conf"], &ends));
    texts.extend(files(&[".ci"], &["run"]));
    for name in fs::read_dir(root()).expect("the root").map(|entry| entry.expect("an entry").path()) {
        // Neither what cargo writes, nor where git says that a worktree belongs.
        let ours = name.file_name().is_some_and(|name| name != "Cargo.lock" && name != ".git");
        if name.is_file() && ours {
            texts.push((name.file_name().expect("a name").to_string_lossy().into_owned(), read(&name)));
        }
    }
    hold("no path of a machine stands in", over(&texts, machine_paths));
}

// === the checks can fail ============================================================================================

#[test]
fn a_dependency_is_seen_however_it_is_written() {
    let manifest = "[package]\nname = \"outrigger-core\"\n[lints]\nworkspace = true\n\n[dependencies]\n\
        # outrigger-not = \"1\"\noutrigger-codec.workspace = true\ntokio = { version = \"1\" }\n\
        alias = { package = \"outrigger-bolt\", path = \"x\" }\n[dev-dependencies]\noutrigger-dubbo = { path = \"y\" }\n\
        [target.'cfg(unix)'.build-dependencies]\nlibc=\"1\"\n[dependencies.outrigger]\npath = \"..\"\n\
        [features]\noutrigger-feature = []\n";
    let found = dependencies(manifest);
    assert_eq!(found, ["outrigger-codec", "tokio", "outrigger-bolt", "outrigger-dubbo", "libc", "outrigger"]);
    assert_eq!(package_name(manifest), Some("outrigger-core"));
    assert_eq!(foreign(&found, &["outrigger-codec"]), ["outrigger-bolt", "outrigger-dubbo", "outrigger"]);
}

#[test]
fn a_forbidden_word_is_seen_in_code_and_only_there() {
    let source = "//! tokio\n/* std::net */ use std::net::TcpStream;\nlet s = \"tokio\"; let r = r#\"a \"tokio\" b\"#;\n\
        let c = '\"'; tokio::spawn(x); // tokio\nfn f<'a>(x: &'a str) { Instant::now() }\nlet tokio_like = 1;\n";
    assert_eq!(uses(source, &["tokio"]), ["4: tokio"]);
    assert_eq!(uses(source, &["std::net"]), ["2: std::net"]);
    assert_eq!(uses(source, &["Instant"]), ["5: Instant"]);
    assert_eq!(uses("use outrigger_bolt::Bolt;\n", &["outrigger_bolt"]), ["1: outrigger_bolt"]);
    assert!(uses(source, &["SystemTime"]).is_empty());
}

#[test]
fn a_serde_attribute_that_loses_places_is_seen() {
    for bad in [
        "#[serde(untagged)]",
        "#[serde(default, flatten)]",
        "#[serde(tag = \"kind\")]",
        "#[serde(\n  flatten\n)]",
    ] {
        let found = serde_uses(&format!("\n{bad}\nstruct A;"), SERDE_WORDS);
        assert!(found.len() == 1 && found[0].starts_with("2: "), "{bad}: {found:?}");
    }
    let good = "// serde(untagged)\n#[serde(default)]\nstruct Tag { tag: u8, flatten: u8 }\n#[serde(rename = \"tag\")]";
    assert!(serde_uses(good, SERDE_WORDS).is_empty());
}

#[test]
fn a_machine_path_is_seen() {
    for path in MACHINE_PATHS {
        assert_eq!(machine_paths(&format!("ok\ncd {path}/x")), [format!("2: {path}")]);
        assert_eq!(machine_paths(&format!("in `{path}`.")).len(), 1);
        for good in
            [format!("src{path}"), format!("{path}er"), format!("${{dir}}{path}/x"), format!("./a.b{path}")]
        {
            assert!(machine_paths(&good).is_empty(), "{good}");
        }
    }
    assert!(machine_paths(&format!("${{TMPDIR:-{}}}", MACHINE_PATHS[3])).is_empty());
}

#[test]
fn a_long_function_is_seen() {
    let body = "    x();\n".repeat(10);
    let source = format!(
        "fn short() {{\n    let a = \"{{\";\n}}\nfn none();\npub fn long<T>(a: [u8; 4]) -> u8\nwhere\n    T: A,\n{{\n{body}}}\n"
    );
    assert_eq!(long_functions(&source, 12), [("long".to_owned(), 15)]);
    assert!(long_functions(&source, 15).is_empty());
}
