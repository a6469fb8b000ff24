//! The whole road on a small corpus of six languages, by the tools as a user runs them.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod archiving;
mod bad_input;
mod clouds;
mod corpus;
mod downloads;
mod faults;
mod fuzz;
mod judging;
mod layouts;
mod outside;
mod pipeline_runs;
mod pretrained;
mod publishing;
mod retrieval;
mod sealing;
mod searching;
mod sources;
mod tracking;
mod training;
mod world;
