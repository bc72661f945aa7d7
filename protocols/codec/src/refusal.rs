//! Why a call was not carried, by meaning rather than by status.
//!
//! The core and the engines speak only of meanings; each protocol crate owns the table from meaning to its own
//! status, and a person reads the message that goes with it. There must be no catch-all.

/// The reason a call gets an answer from us rather than from its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// No route matches the call.
    NoRoute,
    /// The route's rate limit is used up.
    Limited,
    /// The cluster has no endpoint.
    NoEndpoint,
    /// A bound of ours is reached (pending calls, queued bytes).
    Overloaded,
    /// The deadline passed before the answer was complete.
    TimedOut,
    /// The endpoint could not be connected to, or was lost while the call was with it.
    Unreachable,
    /// Policy forbids the call.
    Forbidden,
    /// The request cannot be read.
    Malformed,
    /// The request is larger than `frame_max`.
    TooLarge,
}

impl Refusal {
    /// Every refusal, in the order of their numbers (`Refusal::NoRoute as usize == 0`).
    pub const ALL: [Self; 9] = [
        Self::NoRoute,
        Self::Limited,
        Self::NoEndpoint,
        Self::Overloaded,
        Self::TimedOut,
        Self::Unreachable,
        Self::Forbidden,
        Self::Malformed,
        Self::TooLarge,
    ];

    /// The name used in metrics, logs and messages: lower case, words joined by `_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Limited => "limited",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }
}
