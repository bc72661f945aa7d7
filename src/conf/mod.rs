//! The conf file, from bytes to typed values: what was written, where it stands, and every mistake in it at once.
//!
//! `yaml` reads the text into a tree that remembers positions, `decode` fits the tree to the structs and collects all
//! that does not fit, `report` shows it as a compiler would, `units` are the values that carry a unit. Nothing here
//! knows what the conf means.

mod blank;
pub mod bridges;
mod changes;
pub mod decode;
pub mod defaults;
mod endpoints;
pub mod file;
pub mod health;
pub mod learn;
pub mod lower;
pub mod off;
pub mod registries;
pub mod report;
mod respond;
pub mod units;
pub mod yaml;

#[cfg(test)]
mod tests;
