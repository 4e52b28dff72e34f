//! Decompression in a thread of its own: the stream is read ahead, a few blocks at most, while its bytes are used.

use std::io::{Error, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Builder;

use super::compression::CompressionFault;

/// Size of a block.
const BLOCK: usize = 1 << 18;
/// Number of blocks that are read ahead; as many more are in use or on their way back.
const BLOCKS: usize = 3;

/// The bytes of a stream, or its error, in the stream's order.
pub(super) struct Ahead {
    blocks: Receiver<std::io::Result<Vec<u8>>>,
    /// Where used blocks go to be filled again.
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    /// Number of bytes of `block` that are used.
    position: usize,
    /// Whether the stream has ended or failed.
    ended: bool,
    /// The fault that ended the stream, which is repeated, as the stream itself does.
    fault: Option<CompressionFault>,
}

impl Ahead {
    /// Starts to read `stream`. The thread ends with the stream, or soon after this is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(mut stream: impl Read + Send + 'static) -> std::io::Result<Self> {
        let (filled, blocks) = sync_channel(BLOCKS);
        let (used, free) = channel();
        Builder::new().name("decompression".to_owned()).spawn(move || fill(&mut stream, &filled, &free))?;
        Ok(Self { blocks, used, block: Vec::new(), position: 0, ended: false, fault: None })
    }
}

/// Reads until the stream or its reader ends. What one read returns is handed over at once, so that a live stream is
/// not held back.
fn fill(stream: &mut dyn Read, filled: &SyncSender<std::io::Result<Vec<u8>>>, free: &Receiver<Vec<u8>>) {
    loop {
        let mut block = free.try_recv().unwrap_or_default();
        block.resize(BLOCK, 0);
        let result = match stream.read(&mut block) {
            Ok(count) => {
                block.truncate(count);
                Ok(block)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = result.as_ref().map_or(true, Vec::is_empty);
        if filled.send(result).is_err() || is_last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        if self.position == self.block.len() {
            if let Some(fault) = &self.fault {
                return Err(Error::new(ErrorKind::InvalidData, fault.clone()));
            }
            let next = match self.blocks.recv() {
                Ok(next) => next,
                Err(_) if self.ended => return Ok(0),
                // Otherwise a capture would seem to end here.
                Err(_) => return Err(Error::other("the thread that decompresses ended early")),
            };
            self.ended = next.as_ref().map_or(true, Vec::is_empty);
            let next = next.inspect_err(|error| self.fault = CompressionFault::of(error).cloned())?;
            let used = std::mem::replace(&mut self.block, next);
            self.position = 0;
            // The thread may be gone already.
            let _ = self.used.send(used);
        }
        let rest = &self.block[self.position..];
        let count = rest.len().min(target.len());
        target[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `bytes` in reads of changing sizes, then an error or the end.
    struct Uneven {
        bytes: Vec<u8>,
        given: usize,
        fails: bool,
    }

    impl Read for Uneven {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            let rest = &self.bytes[self.given..];
            if rest.is_empty() && self.fails {
                return Err(Error::other("the disk failed"));
            }
            let count = rest.len().min(target.len()).min(1 + self.given % 100_003);
            target[..count].copy_from_slice(&rest[..count]);
            self.given += count;
            Ok(count)
        }
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index * 7 % 251) as u8).collect()
    }

    #[test]
    fn the_bytes_and_the_end_are_those_of_the_stream() {
        for count in [0, 1, BLOCK, 3 * BLOCK + 5, 20 * BLOCK] {
            let mut found = Vec::new();
            let stream = Uneven { bytes: bytes(count), given: 0, fails: false };
            let mut ahead = Ahead::start(stream).unwrap();
            ahead.read_to_end(&mut found).unwrap();
            assert!(found == bytes(count), "{count} bytes");
            assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 0);
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        let stream = Uneven { bytes: bytes(2 * BLOCK), given: 0, fails: true };
        let (mut found, mut ahead) = (Vec::new(), Ahead::start(stream).unwrap());
        let error = ahead.read_to_end(&mut found).unwrap_err();
        assert_eq!((error.to_string().as_str(), found.len()), ("the disk failed", 2 * BLOCK));
    }

    #[test]
    fn a_thread_that_panics_is_not_the_end_of_the_stream() {
        struct Panics(usize);
        impl Read for Panics {
            fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                assert!(self.0 < 3, "the decoder gave up");
                Ok(target.len())
            }
        }
        let (mut found, mut ahead) = (Vec::new(), Ahead::start(Panics(0)).unwrap());
        let error = ahead.read_to_end(&mut found).unwrap_err();
        assert!(error.to_string().contains("ended early"), "{error}");
        assert_eq!(found.len(), 2 * BLOCK);
        assert!(ahead.read(&mut [0; 9]).is_err(), "it stays so");
    }

    #[test]
    fn a_dropped_reader_ends_the_thread() {
        struct Endless(Sender<()>);
        impl Read for Endless {
            fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
                // Keeps the other end open for as long as the thread has the stream.
                let _ = &self.0;
                Ok(target.len())
            }
        }
        let (alive, ended) = channel();
        let mut ahead = Ahead::start(Endless(alive)).unwrap();
        ahead.read_exact(&mut [0; 1000]).unwrap();
        drop(ahead);
        assert!(ended.recv().is_err());
    }
}
