//! curl as a caller: one run, with what it wrote and what it counted.
//!
//! It must never follow or mend anything that the test did not ask for: no configuration of the user's is read, no
//! proxy of the environment is used.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::support::TempDir;
use super::support::peers::system_client;

/// One answer, or the last of several.
pub(crate) struct Got {
    /// 0 unless curl itself was unhappy.
    pub(crate) exit: i32,
    pub(crate) status: u16,
    /// Connections made by this run, for each of its transfers.
    pub(crate) connects: Vec<u32>,
    /// Every head that came, interim ones included.
    pub(crate) heads: String,
    pub(crate) body: Vec<u8>,
    /// What curl said of its failure.
    pub(crate) said: String,
}

impl Got {
    /// The value of this header in the last head.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let last = self.heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
        let mut fields = last.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.is(200);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    /// A whole answer of a service, with this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Self {
        let own = self.header("x-outrigger-error");
        let told = format!("{}\n{}\n{}", self.said, self.heads, self.text());
        assert_eq!((self.exit, self.status, own), (0, status, None), "{told:.600}");
        self
    }

    /// The sidecar's own answer, for this reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, name: &str) {
        let told = format!("{}\n{}", self.said, self.heads);
        assert_eq!((self.status, self.header("x-outrigger-error")), (status, Some(name)), "{told}");
    }
}

/// Runs curl with these arguments; `{}` in one of them is the address of the port.
#[track_caller]
pub(crate) fn curl(port: u16, args: &[&str]) -> Got {
    let dir = TempDir::new();
    let (body, heads) = (dir.path().join("body"), dir.path().join("heads"));
    let mut command = system_client("curl");
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "40", "-w", "%{http_code} %{num_connects}\n"]);
    command.arg("-o").arg(&body).arg("-D").arg(&heads);
    let mut first = true;
    for arg in args {
        let address = arg.contains("{}");
        // Each further transfer has its own output.
        if address && !first {
            command.arg("-o").arg(&body);
        }
        first &= !address;
        command.arg(arg.replace("{}", &format!("http://127.0.0.1:{port}")));
    }
    let output = command.stdin(Stdio::null()).output().expect("curl starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<Vec<u32>> =
        written.lines().map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect()).collect();
    let last = numbers.last().cloned().unwrap_or_default();
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    Got {
        exit: output.status.code().unwrap_or(-1),
        status: last.first().map_or(0, |status| *status as u16),
        connects: numbers.iter().filter_map(|line| line.get(1).copied()).collect(),
        heads: String::from_utf8_lossy(&read(&heads)).into_owned(),
        body: read(&body),
        said,
    }
}

/// What the servers stream: so many lines, each with its number.
pub(crate) fn parts(count: usize) -> String {
    let line = |i| format!("part {i} of {count}\n");
    (0..count).map(line).collect::<Vec<_>>().concat()
}

/// The bytes that every peer sends as a large body.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(i / 251)) as u8).collect()
}

/// A file of so many such bytes.
pub(crate) fn file(dir: &TempDir, len: usize) -> PathBuf {
    let path = dir.path().join(format!("{len}.bin"));
    std::fs::write(&path, pattern(len)).expect("the file can be written");
    path
}

/// What `sha256sum` says of a file.
pub(crate) fn sha256(path: &Path) -> String {
    let output = system_client("sha256sum").arg(path).output().expect("sha256sum starts");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}
