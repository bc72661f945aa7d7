//! What must have ended by now because it stalls: the other half of timeouts, which end nothing else.
//!
//! Judged with a margin: connections are looked over a few times a second, not at each moment. Must never be stricter
//! than that.

use std::time::Duration;

use outrigger_core::Tick;

use crate::{callers::Caller, life::Life};

/// Looks at connections are never further apart, and one may just have happened.
const MARGIN: Duration = Duration::from_millis(1_500);

impl Life {
    /// Nobody was let stall for longer than the conf allows.
    pub(crate) fn nobody_is_late(&self) {
        for caller in self.callers.iter().filter(|caller| !caller.gone) {
            self.caller_is_not_late(caller);
        }
    }

    fn over(&self, since: Tick, limit: Duration) -> bool {
        self.world.passed(Some(since), limit + MARGIN)
    }

    fn caller_is_not_late(&self, caller: &Caller) {
        let (number, manners) = (caller.number, &self.world.shape.manners);
        if let Some(since) = caller.pipe.blocked_since {
            // Its time may begin anew once, with the last answer it is given.
            let late = self.over(since, 2 * manners.idle_timeout);
            assert!(!late, "caller {number} takes nothing, and is waited for");
            return;
        }
        if caller.pipe.flush_said || caller.closing || caller.ended {
            return;
        }
        let Some(call) = caller.front().map(|id| &self.world.calls[id]) else { return };
        let Some(began) = call.began else { return };
        // Its turn came with the answer before it.
        let turn = began.max(caller.last_out);
        if call.headed.is_none() {
            let late = caller.pipe.reading && self.over(turn, manners.head_timeout);
            assert!(!late, "caller {number} does not finish a head, and is waited for: {call:?}");
            return;
        }
        let reads = caller.reads_answer_of() == Some(call.id);
        let up = self.ups.iter().find(|up| up.current == Some(call.id) && up.open);
        let Some(whole) = call.whole else {
            let taken = up.is_some_and(|up| up.pipe.blocked_since.is_none() && !up.pipe.flush_said);
            let stalls = caller.pipe.reading && taken && !reads;
            let moved = up.map_or(turn, |up| up.moved.max(turn)).max(caller.last_in);
            let late = stalls && self.over(moved, manners.idle_timeout);
            assert!(!late, "caller {number} does not finish a request, and is waited for: {call:?}");
            return;
        };
        if let Some(up) = up.filter(|up| reads && up.pipe.reading) {
            let moved = up.moved.max(caller.last_out);
            let late = self.over(moved, manners.idle_timeout);
            assert!(!late, "an endpoint does not finish an answer, and is waited for: {call:?}");
        }
        let limit = call.route.and_then(|route| self.world.shape.timeout(route));
        if let Some(limit) = limit.filter(|_| !reads) {
            assert!(
                !self.over(whole.max(turn), limit),
                "nobody answers in time, and is waited for: {call:?}"
            );
        }
    }
}
