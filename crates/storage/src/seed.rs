//! Randomness comes from one seed per run, split by purpose, so that drawing more random numbers for one purpose never
//! changes another. There is no global generator and no clock.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Derives the seed for one purpose (`"split"`, `"initialisation"`, `"shuffle"`, `"dropout"`, `"bootstrap"`, ...): the
/// first eight bytes (little-endian) of SHA-256 over the root seed and the purpose.
pub fn derive(seed: u64, purpose: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    let digest = hasher.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"))
}

/// Returns the generator for one purpose; ChaCha8 produces the same stream on every machine.
pub fn generator(seed: u64, purpose: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(seed, purpose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_seeds_give_different_streams() {
        assert_ne!(derive(0, "split"), derive(0, "shuffle"));
        assert_ne!(derive(0, "split"), derive(1, "split"));
        assert_eq!(derive(7, "split"), derive(7, "split"));
    }
}
