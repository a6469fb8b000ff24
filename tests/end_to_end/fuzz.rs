//! The targets of the fuzzer with their seeds, with every input that once failed, and with some hundred changes of them.

#[path = "../fuzz/mutation.rs"]
mod mutation;
#[path = "../fuzz/targets.rs"]
mod targets;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn run(target: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let seeds = mutation::seeds(target);
    seeds.iter().for_each(|seed| targets::run(target, seed, scratch.path()));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..300 {
        targets::run(target, &mutation::mutated(&seeds, &mut rng), scratch.path());
    }
}

#[test]
fn every_target_survives_changed_input() {
    targets::TARGETS.iter().for_each(|target| run(target));
}
