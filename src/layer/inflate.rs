//! The inflate that the crate is built with: zlib-rs, or ISA-L with the cargo feature `isal`. Both decode one gzip
//! member at a time and check its CRC and length; what stands between and after members is for [`super::compression`].

/// What one step of an inflater did.
#[derive(Debug)]
pub(super) struct InflateStep {
    pub(super) read: usize,
    pub(super) written: usize,
    /// The member is over, and its checksum holds.
    pub(super) is_end: bool,
}

#[cfg(feature = "isal")]
pub(super) struct Inflate(crate::sys::IsalInflate);

#[cfg(feature = "isal")]
impl Inflate {
    pub(super) fn new() -> Inflate {
        Inflate(crate::sys::IsalInflate::new())
    }

    /// Begins another member.
    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    /// Inflates as far as input and output go.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<InflateStep, String> {
        self.0.step(input, output).map(|(read, written, is_end)| InflateStep { read, written, is_end })
    }
}

#[cfg(not(feature = "isal"))]
pub(super) struct Inflate(flate2::Decompress);

#[cfg(not(feature = "isal"))]
impl Inflate {
    pub(super) fn new() -> Inflate {
        Inflate(flate2::Decompress::new_gzip(15))
    }

    /// Begins another member.
    pub(super) fn reset(&mut self) {
        self.0.reset(true);
    }

    /// Inflates as far as input and output go.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<InflateStep, String> {
        let (in_before, out_before) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, output, flate2::FlushDecompress::None).map_err(|e| e.to_string())?;
        Ok(InflateStep {
            read: (self.0.total_in() - in_before) as usize,
            written: (self.0.total_out() - out_before) as usize,
            is_end: status == flate2::Status::StreamEnd,
        })
    }
}
