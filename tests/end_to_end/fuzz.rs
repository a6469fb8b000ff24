//! The fuzzer's targets on their seeds, on every case that was once found, and on some thousand changes of them.

#[path = "../fuzz/mutation.rs"]
mod mutation;
#[path = "../fuzz/targets.rs"]
mod targets;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[test]
fn bytes_from_strangers_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    for target in targets::TARGETS {
        let seeds = mutation::seeds(target);
        seeds.iter().for_each(|seed| targets::run(target, seed, scratch.path()));
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..300 {
            targets::run(target, &mutation::mutated(&seeds, &mut rng), scratch.path());
        }
    }
}
