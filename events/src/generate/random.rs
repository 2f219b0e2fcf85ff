//! Random numbers whose sequence is ours to keep.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Not a
//! library's: theirs may change between releases, and equal seeds must go on giving equal bytes.

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `0..bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(super) fn per_mille(&mut self, chance: u32) -> bool {
        self.below(1000) < u64::from(chance)
    }

    /// Two units on average, with a heavy tail: half to one and a half units half of the time, a
    /// unit more a quarter of it, and so on up to eight and a half.
    pub(super) fn around(&mut self, unit: u64) -> u64 {
        let whole = u64::from(self.next().trailing_zeros().min(7));
        unit / 2 + unit * whole + self.below(unit)
    }
}

/// Picks indices by weight in constant time (Vose's alias method).
pub(super) struct Weighted {
    /// Of each slot: the chance to stay, of 2^32, and where to go otherwise.
    slots: Vec<(u32, u32)>,
}

impl Weighted {
    /// Heavy tail: index n weighs `1/(n+1)`.
    pub(super) fn harmonic(len: usize) -> Weighted {
        Weighted::new(&(1..=len).map(|rank| 1.0 / rank as f64).collect::<Vec<_>>())
    }

    pub(super) fn new(weights: &[f64]) -> Weighted {
        let total: f64 = weights.iter().sum();
        let scale = weights.len() as f64 / total;
        let mut chance: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let mut slots: Vec<(u32, u32)> = (0..weights.len())
            .map(|slot| (u32::MAX, slot as u32))
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|slot| chance[*slot] < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            slots[less] = ((chance[less] * f64::from(u32::MAX)) as u32, more as u32);
            chance[more] -= 1.0 - chance[less];
            if chance[more] < 1.0 {
                small.push(more)
            } else {
                large.push(more)
            }
        }
        Weighted { slots }
    }

    pub(super) fn pick(&self, random: &mut Random) -> usize {
        let slot = random.below(self.slots.len() as u64) as usize;
        match self.slots.get(slot) {
            Some((stay, other)) if random.next() as u32 > *stay => *other as usize,
            _ => slot,
        }
    }
}
