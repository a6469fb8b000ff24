//! The training: [`train_loop`] runs epochs of steps ([`stepper`]), scores them ([`validation`]) and saves them ([`checkpoints`]).

pub mod checkpoints;
pub mod cuda;
pub mod optimizer;
pub mod progress;
pub mod restore;
pub mod retained_pages;
pub mod schedule;
pub mod stepper;
pub mod train_loop;
pub mod validation;
