//! Runs the cases of each conf: one sidecar, some lanes in front of and behind it, each case whole, cut at every byte
//! and one byte at a time. It must never let one case touch another: a lane that failed is washed before it goes on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    rc::Rc,
};

use tokio::task::{LocalSet, spawn_local};

use crate::{
    lane::{Lane, Split},
    script::{Case, Conf, Group},
    support::{Sidecar, free_port},
    upstream::Upstream,
};

/// Lanes of one sidecar.
const LANES: usize = 12;

/// Longer streams are cut at every byte of their ends, and at some in the middle.
const CUT_BYTES_MAX: usize = 600;
const CUT_ENDS: usize = 60;
const CUT_STRIDE: usize = 97;

/// A conf of which so many cases failed is not run further: each takes its time to fail.
const FAILURES_MAX: usize = 25;

/// How the cases of one conf went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cases: usize,
    pub(crate) runs: usize,
    /// By the number of the case.
    pub(crate) failures: BTreeMap<usize, String>,
    /// So much failed that the rest was not run.
    pub(crate) stopped: bool,
}

/// Runs a conf's cases, all at the same time as far as there are lanes.
pub(crate) fn run(group: &Group) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let bound: Vec<TcpListener> = (0..LANES).map(|_| listener()).collect();
        let ports: Vec<u16> = (0..LANES).map(|_| free_port()).collect();
        let mut sidecar = Sidecar::start(&yaml(&group.conf, &ports, &bound));
        let lanes = ports.into_iter().zip(bound).map(|(port, bound)| Lane::new(port, Upstream::start(bound)));
        let report = share(&group.cases, lanes.collect()).await;
        sidecar.assert_well();
        report
    })
}

fn listener() -> TcpListener {
    // Another test process may take a port between the look and the bind.
    let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
    bound.expect("a free port")
}

/// The conf with a listener and a cluster for each lane.
fn yaml(conf: &Conf, ports: &[u16], upstreams: &[TcpListener]) -> String {
    let mut lines = vec![format!("app: table\nadmin: 127.0.0.1:{}\nworkers: 1", free_port())];
    if !conf.limits.is_empty() {
        lines.push(format!("limits: {}", conf.limits));
    }
    let routes = if conf.routes.is_empty() { "[{ match: {}, to: UP }]" } else { &conf.routes };
    lines.push("listeners:".to_owned());
    for (lane, port) in ports.iter().enumerate() {
        lines.push(format!("  lane{lane}:\n    bind: 127.0.0.1:{port}"));
        if !conf.listener.iter().any(|line| line.starts_with("protocol:")) {
            lines.push("    protocol: http1".to_owned());
        }
        lines.extend(conf.listener.iter().map(|line| format!("    {line}")));
        lines.push(format!("    routes: {}", routes.replace("UP", &format!("up{lane}"))));
    }
    lines.push("clusters:".to_owned());
    for (lane, upstream) in upstreams.iter().enumerate() {
        let address = upstream.local_addr().expect("it is bound");
        lines.push(format!("  up{lane}: {{ endpoints: [\"{address}\"] }}"));
    }
    let dead = format!("127.0.0.1:{}", free_port());
    lines.extend(conf.clusters.iter().map(|line| format!("  {}", line.replace("DEAD", &dead))));
    lines.join("\n") + "\n"
}

/// Every way in which a case is cut.
pub(crate) fn splits(case: &Case) -> Vec<Split> {
    if case.once {
        return vec![Split::Whole];
    }
    let cuts = |len: usize, split: fn(usize) -> Split| {
        let worth = move |at: &usize| {
            len <= CUT_BYTES_MAX || *at < CUT_ENDS || len - *at < CUT_ENDS || at.is_multiple_of(CUT_STRIDE)
        };
        (1..len).filter(worth).map(split)
    };
    let mut splits = vec![Split::Whole, Split::Bytes];
    splits.extend(cuts(case.sent(), Split::Client));
    splits.extend(cuts(case.answered(), Split::Upstream));
    splits
}

/// The lanes take runs from one list until it is empty. A case that failed is not run further.
async fn share(cases: &[Case], lanes: Vec<Lane>) -> Report {
    let cases: Rc<[Case]> = cases.into();
    let jobs: Vec<(usize, Split)> = cases
        .iter()
        .enumerate()
        .flat_map(|(number, case)| splits(case).into_iter().map(move |split| (number, split)))
        .collect();
    let jobs: Rc<[(usize, Split)]> = jobs.into();
    let next = Rc::new(Cell::new(0));
    let report = Rc::new(RefCell::new(Report { cases: cases.len(), ..Report::default() }));
    let mut working = Vec::new();
    for mut lane in lanes {
        let (cases, jobs, next, report) =
            (Rc::clone(&cases), Rc::clone(&jobs), Rc::clone(&next), Rc::clone(&report));
        working.push(spawn_local(async move {
            while let Some((number, split)) = jobs.get(next.replace(next.get() + 1)) {
                let failures = report.borrow().failures.len();
                if failures >= FAILURES_MAX {
                    break;
                }
                if report.borrow().failures.contains_key(number) {
                    continue;
                }
                report.borrow_mut().runs += 1;
                let case = &cases[*number];
                if let Err(error) = lane.run(case, *split).await {
                    let story = format!("{}\n    {} cut as {split:?}: {error}", case.name, case.place);
                    report.borrow_mut().failures.entry(*number).or_insert(story);
                    if !lane.wash().await {
                        break;
                    }
                }
            }
        }));
    }
    for lane in working {
        lane.await.expect("a lane does not panic");
    }
    let mut report = report.take();
    report.stopped = next.get() < jobs.len();
    report
}
