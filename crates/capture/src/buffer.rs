//! A window onto a byte stream: the unconsumed bytes in one contiguous slice, as many as a record needs.

use std::io::{ErrorKind, Read};
use std::ops::Range;

/// Number of bytes requested from the stream at a time. Records are parsed in place, so a large window makes moves
/// rare.
const READ_SIZE: usize = 1 << 18;

/// The window. Its memory is at most the longest record requested with [`StreamBuffer::fill`] plus one read; it grows
/// as bytes arrive, never because a length field promises them.
pub(super) struct StreamBuffer {
    stream: Box<dyn Read + Send>,
    storage: Vec<u8>,
    window: Range<usize>,
    /// Position of the window's first byte in the stream.
    offset: u64,
    ended: bool,
}

impl StreamBuffer {
    pub(super) fn new(stream: Box<dyn Read + Send>) -> StreamBuffer {
        StreamBuffer { stream, storage: vec![0; 2 * READ_SIZE], window: 0..0, offset: 0, ended: false }
    }

    /// Reads until the window contains at least `length` bytes or the stream ends; returns the window's length.
    pub(super) fn fill(&mut self, length: usize) -> std::io::Result<usize> {
        while self.window.len() < length && !self.ended {
            if self.storage.len() - self.window.end < READ_SIZE {
                self.storage.copy_within(self.window.clone(), 0);
                self.window = 0..self.window.len();
                let needed = self.window.end + READ_SIZE;
                if self.storage.len() < needed {
                    self.storage.resize(needed.max(2 * self.window.len()), 0);
                }
            }
            match self.stream.read(&mut self.storage[self.window.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.window.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.window.len())
    }

    /// Returns the bytes in the window.
    pub(super) fn data(&self) -> &[u8] {
        &self.storage[self.window.clone()]
    }

    /// Returns where the window begins in the coordinates of [`StreamBuffer::bytes_at`].
    pub(super) fn start(&self) -> usize {
        self.window.start
    }

    /// Returns bytes by position in the storage, valid until the next `fill`, even after being consumed.
    pub(super) fn bytes_at(&self, range: Range<usize>) -> &[u8] {
        &self.storage[range]
    }

    /// Drops bytes from the start of the window.
    pub(super) fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.window.len());
        self.window.start += length;
        self.offset += length as u64;
    }

    /// Returns the position of the window's first byte in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the position after the last byte read from the stream.
    pub(super) fn read_offset(&self) -> u64 {
        self.offset + self.window.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns its bytes one at a time, with occasional interrupts.
    struct Dripping(Vec<u8>, usize);

    impl Read for Dripping {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(ErrorKind::Interrupted.into());
            }
            match self.0.pop() {
                Some(byte) => {
                    target[0] = byte;
                    Ok(1)
                }
                None => Ok(0),
            }
        }
    }

    #[test]
    fn bytes_arrive_in_order_however_the_stream_gives_them() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut buffer = StreamBuffer::new(Box::new(Dripping(bytes.iter().rev().copied().collect(), 0)));
        assert_eq!(buffer.fill(100).unwrap(), 100);
        assert_eq!(buffer.data(), &bytes[..100]);
        buffer.consume(60);
        assert_eq!(buffer.offset(), 60);
        assert_eq!(buffer.fill(1000).unwrap(), 196);
        assert_eq!(buffer.data(), &bytes[60..]);
    }

    #[test]
    fn a_long_record_grows_the_window_and_moves_keep_the_bytes() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut buffer = StreamBuffer::new(Box::new(std::io::Cursor::new(bytes.clone())));
        let mut position = 0;
        for length in [7, 700_000, 1, 400_000, 900_000, 999_992] {
            assert!(buffer.fill(length).unwrap() >= length);
            assert_eq!(&buffer.data()[..length], &bytes[position..position + length]);
            buffer.consume(length);
            position += length;
        }
        assert_eq!(buffer.fill(1).unwrap(), 0);
        assert!(buffer.storage.len() <= 2_000_000 + READ_SIZE);
    }
}
