//! The whole road on a small corpus of six languages, by the tools as a user runs them.

mod bad_input;
mod faults;
mod outside;
mod publishing;
mod sources;
mod whole_road;
mod world;
