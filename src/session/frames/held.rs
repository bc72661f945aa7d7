//! Calls to services whose endpoints have still to be found: their frames are held until a snapshot has them.
//!
//! Bounded in number and, with all that is kept to be sent again, in bytes. A caller's other calls go on meanwhile. Must never
//! hold a call that nobody will answer: whoever makes snapshots answers each service by one, if only with no endpoint.

use outrigger_codec::{FrameCodec, Refusal, Ticket};
use outrigger_core::{End, Plan, Tick, retry, settle};

use super::{super::arena::Key, Context, Frames};

/// Calls that are held at once; more are refused.
const HELD_MAX: usize = 10_000;

/// A call that waits.
#[derive(Debug)]
pub(super) struct Held {
    down: Key,
    /// Absent for one-way calls.
    id: Option<u64>,
    ticket: Ticket,
    frame: Vec<u8>,
    plan: Plan,
}

impl<C: FrameCodec> Frames<C> {
    /// Holds a call until its service is known.
    pub(super) fn hold(
        &mut self,
        context: &mut Context<'_>,
        down: Key,
        id: Option<u64>,
        frame: &[u8],
        plan: Plan,
    ) {
        let mut kept = Vec::new();
        let ticket = C::ticket(frame);
        if self.held.len() >= HELD_MAX || !self.buffers.keep(&mut kept, frame) {
            return self.refuse_planned(context, id.map(|id| (down, id)), ticket, plan, Refusal::Overloaded);
        }
        self.next_held = self.next_held.min(plan.deadline);
        if let Some(caller) = self.downs.get_mut(down).filter(|_| id.is_some()) {
            caller.in_flight += 1;
        }
        self.held.push(Held { down, id, ticket, frame: kept, plan });
    }

    /// Sends on what waited for services that are known now, and answers what waited too long.
    pub(super) fn go_on_held(&mut self, context: &mut Context<'_>) {
        self.next_held = Tick::NEVER;
        let mut at = 0;
        while let Some(held) = self.held.get(at) {
            let gone = self.downs.get(held.down).is_none();
            if !gone
                && !self.ending
                && held.plan.deadline > context.now
                && context.local.is_awaited(held.plan.endpoint)
            {
                self.next_held = self.next_held.min(held.plan.deadline);
                at += 1;
                continue;
            }
            let Held { down, id, ticket, frame, mut plan } = self.held.swap_remove(at);
            if let Some(caller) = self.downs.get_mut(down).filter(|_| id.is_some()) {
                caller.in_flight = caller.in_flight.saturating_sub(1);
            }
            let (local, snapshot, now) = (&mut *context.local, context.snapshot, context.now);
            let caller = id.map(|id| (down, id));
            if gone {
                settle(local, plan, End::Abandoned, now);
            } else if self.ending {
                self.refuse_planned(context, caller, ticket, plan, Refusal::Unreachable);
            } else if plan.deadline <= now {
                self.refuse_planned(context, caller, ticket, plan, Refusal::TimedOut);
            } else if let Some(to) = retry::place(local, snapshot, &plan, false, now) {
                local.reassign(&mut plan, to, now);
                self.forward(context, down, id, &frame, plan);
            } else {
                self.refuse_planned(context, caller, ticket, plan, Refusal::NoEndpoint);
            }
            self.buffers.let_go(frame);
        }
    }
}
