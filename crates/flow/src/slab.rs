//! Values at fixed positions, in pieces that never move: a growing vector would hold everything twice while it is
//! copied.

/// Number of values in a piece.
const PIECE: usize = 256;

/// Values by position. Freed positions are reused.
pub(super) struct Slab<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { pieces: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(position) = self.free.pop() {
            *self.slot(position) = Some(value);
            return position;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let whole = self.pieces.len() - 1;
        let piece = &mut self.pieces[whole];
        piece.push(Some(value));
        u32::try_from(whole * PIECE + piece.len() - 1).expect("a position fits into 32 bits")
    }

    fn slot(&mut self, position: u32) -> &mut Option<T> {
        &mut self.pieces[position as usize / PIECE][position as usize % PIECE]
    }

    pub(super) fn get(&self, position: u32) -> Option<&T> {
        self.pieces[position as usize / PIECE][position as usize % PIECE].as_ref()
    }

    pub(super) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        self.slot(position).as_mut()
    }

    /// Puts a value in the place of another, which gets a new position.
    pub(super) fn displace(&mut self, position: u32, value: T) -> Option<u32> {
        let old = self.slot(position).replace(value)?;
        Some(self.insert(old))
    }

    /// Drops the value at a position; returns whether there was one.
    pub(super) fn free(&mut self, position: u32) -> bool {
        let used = self.slot(position).take().is_some();
        if used {
            self.free.push(position);
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_hold_until_they_are_freed_and_serve_again() {
        let mut slab = Slab::new();
        let positions: Vec<u32> = (0..1000).map(|value| slab.insert(value)).collect();
        assert!(positions.iter().zip(0..).all(|(position, value)| slab.get(*position) == Some(&value)));
        for (position, value) in positions.iter().zip(0..).step_by(3) {
            assert_eq!(slab.get(*position), Some(&value));
            assert!(slab.free(*position));
            assert_eq!(slab.get(*position), None);
            assert!(!slab.free(*position));
        }
        let again: Vec<u32> = (0..334).map(|value| slab.insert(2000 + value)).collect();
        assert!(again.iter().all(|position| *position < 1000));
        *slab.get_mut(again[0]).unwrap() = 5000;
        let moved = slab.displace(again[1], 6000).unwrap();
        assert_eq!((slab.get(moved), slab.get(again[1])), (Some(&2001), Some(&6000)));
        slab.free(again[1]);
        let mut values: Vec<i32> = (0..=moved).filter_map(|position| slab.get(position).copied()).collect();
        values.sort_unstable();
        let mut expected: Vec<i32> = (0..1000).filter(|value| value % 3 != 0).chain(2001..2334).collect();
        expected.push(5000);
        assert_eq!(values, expected);
    }
}
