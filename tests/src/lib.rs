//! The library part is empty: the tests are in `road/`.
