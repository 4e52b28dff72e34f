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

    pub(super) fn take(&mut self, position: u32) -> Option<T> {
        let value = self.slot(position).take();
        if value.is_some() {
            self.free.push(position);
        }
        value
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
            assert_eq!(slab.take(*position), Some(value));
            assert_eq!(slab.get(*position), None);
            assert_eq!(slab.take(*position), None);
        }
        let again: Vec<u32> = (0..334).map(|value| slab.insert(2000 + value)).collect();
        assert!(again.iter().all(|position| *position < 1000));
        *slab.get_mut(again[0]).unwrap() = 5000;
        let mut values: Vec<i32> = (0..1000).filter_map(|position| slab.take(position)).collect();
        values.sort_unstable();
        let mut expected: Vec<i32> = (0..1000).filter(|value| value % 3 != 0).chain(2001..2334).collect();
        expected.push(5000);
        assert_eq!(values, expected);
    }
}
