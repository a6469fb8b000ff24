//! End-to-end tests: the `codenets` command as a user runs it, on a small corpus of six languages.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod bad_input;
mod candidates;
mod cloud_storage;
mod concurrent_runs;
mod configuration;
mod corpus_reports;
mod crash_safety;
mod damaged_bundles;
mod dataset_layouts;
mod downloads;
mod duplicates;
mod durability;
mod evaluation;
mod events;
mod fourteen_nights;
mod fuzz;
mod graphs;
mod help;
#[path = "../hostile/mod.rs"]
mod hostile;
mod interruptions;
mod make_targets;
mod mirrors;
mod mlflow;
mod mlflow_refusals;
mod nightly;
mod old_versions;
mod one_repository;
mod pipeline_runs;
mod predecessor;
mod pretrained;
mod publishing;
mod python_readers;
mod random_nights;
mod records;
mod resuming;
mod retracting;
mod retrieval;
mod searching;
mod snapshots;
mod sources;
mod splits;
mod stage_processes;
mod toy_stage;
mod training;
mod workspace;
