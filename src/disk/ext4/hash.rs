//! The hash that names in a large directory are sorted by: half of MD4, over bytes without a sign (Linux, fs/ext4/hash.c).

/// What a name is sorted by: the part that an index says, and what tells more names apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameHash {
    pub(super) major: u32,
    minor: u32,
}

impl NameHash {
    /// For tests of what is done with it.
    #[cfg(test)]
    pub(super) fn of(major: u32) -> NameHash {
        NameHash { major, minor: 0 }
    }
}

/// A hash that is kept for the end of a directory.
const END: u32 = 0xffff_fffe;
/// Bytes that one step takes.
const STEP_BYTES: usize = 32;

pub(super) fn name_hash(name: &[u8], seed: &[u8; 16]) -> NameHash {
    let mut state = [0u32; 4];
    for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    if state == [0; 4] {
        state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    }
    let mut rest = name;
    // Of an empty name there is nothing to mix in.
    while !rest.is_empty() {
        mix(&mut state, &words(rest));
        rest = rest.get(STEP_BYTES..).unwrap_or_default();
    }
    let major = state[1] & !1;
    NameHash { major: if major == END { END - 2 } else { major }, minor: state[2] }
}

/// The first 32 bytes as words; what is missing is the length of all that is left.
fn words(rest: &[u8]) -> [u32; 8] {
    let length = rest.len() as u32 & 0xff;
    let fill = u32::from_ne_bytes([length as u8; 4]);
    let mut words = [fill; 8];
    for (word, bytes) in words.iter_mut().zip(rest[..rest.len().min(STEP_BYTES)].chunks(4)) {
        *word = bytes.iter().fold(fill, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

/// Three rounds of MD4 over half of its input.
fn mix(state: &mut [u32; 4], input: &[u32; 8]) {
    type Mixer = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mixer, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let mut s = *state;
    for (mixer, constant, order, shifts) in ROUNDS {
        for (step, &at) in order.iter().enumerate() {
            // a, d, c and b in turn get what the others come to.
            let target = (4 - step % 4) % 4;
            let [x, y, z] = [1, 2, 3].map(|next| s[(target + next) % 4]);
            let sum = s[target].wrapping_add(mixer(x, y, z)).wrapping_add(input[at]).wrapping_add(constant);
            s[target] = sum.rotate_left(shifts[step % 4]);
        }
    }
    for (word, mixed) in state.iter_mut().zip(s) {
        *word = word.wrapping_add(mixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `debugfs -R 'dx_hash -h half_md4 [-s SEED] NAME'` says.
    #[test]
    fn it_is_the_hash_that_the_kernel_looks_for() {
        let seed = std::array::from_fn(|at| at as u8 + 1);
        let hash = |name: &str, seed| {
            let NameHash { major, minor } = name_hash(name.as_bytes(), seed);
            (major, minor)
        };
        assert_eq!(hash("hello", &[0; 16]), (0x1746_da32, 0x4200_13b5));
        assert_eq!(hash("hello", &seed), (0xe2dd_f968, 0xc8bc_0924));
        assert_eq!(hash("abcd", &seed), (0x3306_0ba6, 0x931b_a061));
        assert_eq!(hash(&"n".repeat(33), &seed), (0xbcc1_db2a, 0x5916_0a25));
        assert_eq!(hash(&"x".repeat(255), &seed), (0xac45_f49a, 0x874d_addc));
    }
}
