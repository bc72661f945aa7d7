//! CPU time of other processes, in nanoseconds, and the pinning of our own.
//!
//! Reads `/proc/PID/task/*/schedstat` (first field: time on a CPU, user and system together), which counts in
//! nanoseconds where `/proc/PID/stat` counts in hundredths of a second. Must never be read inside a measured
//! interval, only at its two ends.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::{fs, io};

/// Time that all threads of `pids` have run. A process or thread that is gone counts nothing.
pub fn time_of(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| time_of_one(*pid)).sum()
}

fn time_of_one(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok();
    let first = |text: String| text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    tasks.flatten().filter_map(stat).filter_map(first).sum()
}

/// Pins this thread, and what it starts from now on, to one core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_grows_and_a_missing_process_counts_nothing() {
        let own = [std::process::id()];
        let before = time_of(&own);
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 30 {
            std::hint::spin_loop();
        }
        // Schedulers update the number at switches and ticks, at worst every 10 ms.
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(time_of(&own) > before);
        assert_eq!(time_of(&[u32::MAX]), 0);
    }
}
