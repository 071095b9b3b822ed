//! Inflate by ISA-L: the one system library that the crate can be built with, behind the cargo feature `isal`.
//!
//! The header of a member is read by a call of its own. `isal_inflate` forgets, between two pieces
//! of input, which fields the header said would come.

use std::mem::MaybeUninit;

use isal_sys::igzip_lib as isal;

/// A decoder of one gzip member after the other (RFC 1952).
pub(crate) struct IsalInflate {
    state: Box<isal::inflate_state>,
    header: Box<isal::isal_gzip_header>,
    in_header: bool,
}

// SAFETY: the pointers in both structs are set anew in each step, and point to nothing between two.
unsafe impl Send for IsalInflate {}

impl IsalInflate {
    pub(crate) fn new() -> IsalInflate {
        // SAFETY: the struct is integers, arrays of them and pointers, for which zeros are values.
        let state = unsafe { MaybeUninit::<isal::inflate_state>::zeroed().assume_init() };
        // SAFETY: as above; zeros are a header of which nothing was read, and no buffers to copy its fields to.
        let header = unsafe { MaybeUninit::<isal::isal_gzip_header>::zeroed().assume_init() };
        let mut inflate = IsalInflate { state: Box::new(state), header: Box::new(header), in_header: true };
        // SAFETY: the state is ours, of the size that the library expects.
        unsafe { isal::isal_inflate_init(&raw mut *inflate.state) };
        inflate.reset();
        inflate
    }

    /// Begins another member.
    pub(crate) fn reset(&mut self) {
        // SAFETY: the state was initialised in `new`.
        unsafe { isal::isal_inflate_reset(&raw mut *self.state) };
        // SAFETY: the header is ours.
        unsafe { isal::isal_gzip_header_init(&raw mut *self.header) };
        self.state.crc_flag = isal::ISAL_GZIP_NO_HDR_VER;
        self.in_header = true;
    }

    /// Inflates as far as input and output go. Gives what was read, what was written, and whether the member is over.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize, bool), String> {
        let most = u32::MAX as usize;
        let (input, output_len) = (&input[..input.len().min(most)], output.len().min(most));
        self.state.next_in = input.as_ptr().cast_mut();
        self.state.avail_in = input.len() as u32;
        self.state.next_out = output.as_mut_ptr();
        self.state.avail_out = output_len as u32;
        let result = self.run();
        let read = input.len() - self.state.avail_in as usize;
        let written = output_len - self.state.avail_out as usize;
        let is_end = self.state.block_state == isal::isal_block_state_ISAL_BLOCK_FINISH;
        self.state.next_in = std::ptr::null_mut();
        self.state.next_out = std::ptr::null_mut();
        result.map(|()| (read, written, is_end))
    }

    fn run(&mut self) -> Result<(), String> {
        if self.in_header {
            // SAFETY: `next_in` and `avail_in` are of one slice, which the call only reads.
            let code = unsafe { isal::isal_read_gzip_header(&raw mut *self.state, &raw mut *self.header) };
            check(code)?;
            if code == isal::ISAL_DECOMP_OK as i32 {
                if self.header.flags & 0xe0 != 0 {
                    return Err("unknown header flags set".to_owned());
                }
                self.in_header = false;
            }
        }
        if !self.in_header {
            // SAFETY: as above; `next_out` and `avail_out` are of one slice that nobody else has.
            check(unsafe { isal::isal_inflate(&raw mut *self.state) })?;
        }
        Ok(())
    }
}

fn check(code: i32) -> Result<(), String> {
    let text = match code {
        0.. => return Ok(()),
        isal::ISAL_INVALID_BLOCK => "invalid block",
        isal::ISAL_INVALID_SYMBOL => "invalid symbol",
        isal::ISAL_INVALID_LOOKBACK => "invalid distance too far back",
        isal::ISAL_INVALID_WRAPPER => "invalid header",
        isal::ISAL_UNSUPPORTED_METHOD => "unknown compression method",
        isal::ISAL_INCORRECT_CHECKSUM => "incorrect checksum or length",
        _ => return Err(format!("corrupt stream ({code})")),
    };
    Err(text.to_owned())
}
