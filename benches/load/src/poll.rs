//! Readiness and time: epoll, a periodic timerfd, and a nanosecond clock.
//!
//! A timerfd is not subject to timer slack and costs nothing between its ticks, so an open loop neither drifts by
//! milliseconds nor burns the core that it shares with the echo service. Must never know what travels on a socket.

use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::{Duration, Instant};

/// One ready source: the token it was registered with and what it is ready for.
#[derive(Clone, Copy)]
pub struct Ready {
    /// What the source was registered as.
    pub token: u64,
    /// Room to write again.
    pub writable: bool,
    /// Bytes, an end or an error to read.
    pub readable: bool,
}

/// An epoll instance and its event buffer.
pub struct Poll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// A new, empty set.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { fd, events: Vec::with_capacity(256) })
    }

    /// Watches `source` for bytes to read.
    pub fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Watches `source` for room to write as well, or no longer.
    pub fn want_write(&self, source: impl AsFd, token: u64, wanted: bool) -> io::Result<()> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, wanted);
        Ok(epoll::modify(&self.fd, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Waits at most `wait` (or for ever) and returns how many sources are ready; see [`Poll::ready`].
    pub fn wait(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        self.events.clear();
        let wait = wait.map(timespec);
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut self.events), wait.as_ref()) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The `i`th ready source of the last wait.
    pub fn ready(&self, i: usize) -> Option<Ready> {
        let event = self.events.get(i)?;
        let (flags, data) = (event.flags, event.data);
        let writable = flags.contains(epoll::EventFlags::OUT);
        let readable =
            flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        Some(Ready { token: data.u64(), writable, readable })
    }
}

/// Takes note of a timer's ticks; until then it does not tick again.
pub fn acknowledge(timer: &OwnedFd) {
    // Nothing to read means that the tick was noted already.
    let _ = rustix::io::read(timer, &mut [0; 8]);
}

/// A timer that ticks every `interval`, first after one interval.
pub fn ticker(interval: Duration) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let every = timespec(interval);
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: every, it_value: every })?;
    Ok(timer)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Nanoseconds since the clock was made.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
