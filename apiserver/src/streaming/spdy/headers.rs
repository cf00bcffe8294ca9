//! Header blocks: names and values, compressed with one zlib stream per direction and connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::Error;
use super::dictionary::dictionary;

/// Largest block after decompression, in bytes. The streams of Kubernetes carry a few dozen bytes.
pub const BLOCK_LIMIT: usize = 64 << 10;

pub type Headers = Vec<(String, String)>;

pub struct Compressor(Compress);

impl Compressor {
    pub fn new() -> Compressor {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary())
            .expect("nothing was compressed yet");
        Compressor(zlib)
    }

    /// Names must be in lower case.
    pub fn compress(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend((headers.len() as u32).to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        // Deflate grows what it cannot shrink by a few bytes per block.
        let mut packed = Vec::with_capacity(plain.len() + 128);
        let before = self.0.total_in();
        loop {
            let done = (self.0.total_in() - before) as usize;
            let room = packed.capacity() - packed.len();
            let written = packed.len();
            self.0
                .compress_vec(&plain[done..], &mut packed, FlushCompress::Sync)
                .expect("deflate takes any input");
            // A flush that fills the room may have more to say.
            if packed.len() - written < room {
                return packed;
            }
            packed.reserve(128);
        }
    }
}

pub struct Decompressor(Decompress);

impl Decompressor {
    pub fn new() -> Decompressor {
        Decompressor(Decompress::new(true))
    }

    /// # Errors
    /// What is no zlib stream with SPDY's dictionary, too large, or no list of names and values.
    pub fn decompress(&mut self, packed: &[u8]) -> Result<Headers, Error> {
        let mut plain = Vec::with_capacity(packed.len() * 4 + 64);
        let start = self.0.total_in();
        loop {
            let done = (self.0.total_in() - start) as usize;
            let (had, room) = (plain.len(), plain.capacity() - plain.len());
            match self
                .0
                .decompress_vec(&packed[done..], &mut plain, FlushDecompress::Sync)
            {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| Error::Headers("another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Error::Headers("not compressed as SPDY/3 does")),
                Ok(_) => {}
            }
            let done = (self.0.total_in() - start) as usize;
            if done == packed.len() && plain.len() - had < room {
                return parse(&plain);
            }
            if plain.len() > BLOCK_LIMIT {
                return Err(Error::Headers("too large"));
            }
            if plain.len() == had && room > 0 {
                return Err(Error::Headers("cut off"));
            }
            plain.reserve(plain.capacity().max(256));
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    const CUT: Error = Error::Headers("cut off");
    let number = |block: &mut &[u8]| -> Result<usize, Error> {
        let (head, rest) = block.split_first_chunk::<4>().ok_or(CUT)?;
        *block = rest;
        Ok(u32::from_be_bytes(*head) as usize)
    };
    let text = |block: &mut &[u8]| -> Result<String, Error> {
        let length = number(block)?;
        let (text, rest) = block.split_at_checked(length).ok_or(CUT)?;
        *block = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Error::Headers("not UTF-8"))
    };
    let count = number(&mut block)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((text(&mut block)?, text(&mut block)?));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(blocks: &[&[(&str, &str)]]) {
        let (mut packer, mut unpacker) = (Compressor::new(), Decompressor::new());
        for block in blocks {
            let packed = packer.compress(block);
            let unpacked = unpacker.decompress(&packed).unwrap();
            let unpacked: Vec<(&str, &str)> =
                unpacked.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(&unpacked, block);
        }
    }

    #[test]
    fn blocks_share_one_stream() {
        let long = "x".repeat(20_000);
        check(&[
            &[("streamtype", "error")],
            &[],
            &[("streamtype", "stdin"), ("port", "80")],
            &[("long", &long)],
        ]);
    }

    #[test]
    fn the_first_block_names_the_dictionary() {
        let packed = Compressor::new().compress(&[("streamtype", "error")]);
        assert_eq!(packed[2..6], 0xe3c6_a7c2_u32.to_be_bytes());
        assert!(packed.ends_with(&[0, 0, 0xff, 0xff]), "a sync flush");
    }

    #[test]
    fn bad_blocks_are_errors() {
        assert!(Decompressor::new().decompress(b"plain text").is_err());
        let bomb = "a".repeat(BLOCK_LIMIT * 2);
        let packed = Compressor::new().compress(&[("a", &bomb)]);
        assert_eq!(
            Decompressor::new().decompress(&packed),
            Err(Error::Headers("too large"))
        );
        assert_eq!(parse(&[0, 0, 0, 9]), Err(Error::Headers("cut off")));
    }
}
