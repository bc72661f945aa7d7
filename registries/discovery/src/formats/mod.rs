//! What frameworks write into registries, and how it is read: text in, instances out, and back.
//!
//! The same for every registry that they are written to. Must never ask anybody anything, and never fail on what one
//! instance says at the cost of others.
