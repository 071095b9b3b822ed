//! Reading what C hands over, and writing what it gets back. Every pointer of the ABI is dereferenced in this file.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use super::boundary;
use super::handles::{bl_cancel, bl_error, bl_status};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

/// One call from C. Who makes it vouches for every pointer that is then read or written through it.
pub(super) struct Call<'a> {
    _pointers: PhantomData<&'a ()>,
}

/// Runs a fallible function: reports its error through `err` and as the status.
///
/// # Safety
/// Every pointer argument of the C function, `err` included, keeps the contract at the top of the
/// header. It is NULL, or of the stated kind and valid until the function returns.
pub(super) unsafe fn call<'a>(err: *mut *mut bl_error, body: impl FnOnce(&Call<'a>) -> Result<()>) -> bl_status {
    let result = boundary::run(|| body(&Call { _pointers: PhantomData }));
    let status = boundary::status_of(&result);
    if !err.is_null() {
        let error = result.err().map_or(std::ptr::null_mut(), |error| Box::into_raw(Box::new(bl_error::new(&error))));
        // SAFETY: the caller vouches for a non-NULL `err`.
        unsafe { err.write(error) };
    }
    status
}

/// Frees a handle; NULL is nothing to free.
///
/// # Safety
/// The pointer is NULL or came from [`into_handle`] and was not freed.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: by this function's own contract.
        let owned = unsafe { Box::from_raw(handle) };
        boundary::run_infallible(|| drop(owned));
    }
}

/// Reads a handle that may be NULL, for functions that cannot fail.
///
/// # Safety
/// The pointer is NULL or a live handle.
pub(super) unsafe fn borrow_handle<'a, T>(handle: *const T) -> Option<&'a T> {
    // SAFETY: by this function's own contract.
    unsafe { handle.as_ref() }
}

/// Gives a value to C as a handle.
pub(super) fn into_handle<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

impl<'a> Call<'a> {
    /// A handle that may not be NULL.
    pub(super) fn handle<T>(&self, handle: *const T, name: &str) -> Result<&'a T> {
        self.optional_handle(handle).ok_or_else(|| null(name))
    }

    /// A handle that may be NULL.
    pub(super) fn optional_handle<T>(&self, handle: *const T) -> Option<&'a T> {
        // SAFETY: whoever made this `Call` vouches for its pointers.
        unsafe { handle.as_ref() }
    }

    /// A string.
    pub(super) fn text(&self, text: *const c_char, name: &str) -> Result<&'a str> {
        self.c_str(text, name)?.to_str().map_err(|_| invalid(name, "is not UTF-8"))
    }

    /// A digest in text form.
    pub(super) fn digest(&self, text: *const c_char, name: &str) -> Result<Digest> {
        Digest::parse(self.text(text, name)?).map_err(|error| error.context(name))
    }

    /// A path: any bytes but none.
    pub(super) fn path(&self, text: *const c_char, name: &str) -> Result<&'a Path> {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes = self.c_str(text, name)?.to_bytes();
        if bytes.is_empty() {
            return Err(invalid(name, "is an empty path"));
        }
        Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
    }

    /// Bytes, which may be NULL when there are none.
    pub(super) fn bytes(&self, data: *const u8, len: usize, name: &str) -> Result<&'a [u8]> {
        match (data.is_null(), len) {
            (_, 0) => Ok(&[]),
            (true, _) => Err(null(name)),
            _ if isize::try_from(len).is_err() => Err(invalid("len", "is larger than memory")),
            // SAFETY: whoever made this `Call` vouches for its pointers, here for `len` bytes.
            _ => Ok(unsafe { std::slice::from_raw_parts(data, len) }),
        }
    }

    /// An array of digests in text form.
    pub(super) fn digests(&self, texts: *const *const c_char, count: usize, name: &str) -> Result<Vec<Digest>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if texts.is_null() {
            return Err(null(name));
        }
        if count > isize::MAX as usize / size_of::<*const c_char>() {
            return Err(invalid("count", "is larger than memory"));
        }
        // SAFETY: whoever made this `Call` vouches for its pointers, here for `count` elements.
        let texts = unsafe { std::slice::from_raw_parts(texts, count) };
        texts.iter().enumerate().map(|(i, &text)| self.digest(text, &format!("{name}[{i}]"))).collect()
    }

    /// An array of handles, none of which may be NULL.
    pub(super) fn handles<T>(&self, handles: *const *mut T, count: usize, name: &str) -> Result<Vec<&'a T>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if handles.is_null() {
            return Err(null(name));
        }
        if count > isize::MAX as usize / size_of::<*mut T>() {
            return Err(invalid("count", "is larger than memory"));
        }
        // SAFETY: whoever made this `Call` vouches for its pointers, here for `count` elements.
        let handles = unsafe { std::slice::from_raw_parts(handles, count) };
        handles.iter().enumerate().map(|(i, &handle)| self.handle(handle, &format!("{name}[{i}]"))).collect()
    }

    /// Texts up to a NULL; none where there is no array.
    pub(super) fn texts(&self, texts: *const *const c_char, name: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if texts.is_null() {
            return Ok(found);
        }
        loop {
            // SAFETY: whoever made this `Call` vouches for its pointers, here for an array that ends with a NULL.
            let place = unsafe { texts.add(found.len()) };
            // SAFETY: as above; the end was not reached before.
            let text = unsafe { place.read() };
            if text.is_null() {
                return Ok(found);
            }
            found.push(self.text(text, &format!("{name}[{}]", found.len()))?.to_owned());
        }
    }

    /// Option structs up to a NULL; none where there is no array.
    pub(super) fn list<T: SizedStruct>(&self, structs: *const *const T, name: &str) -> Result<Vec<T>> {
        let mut found = Vec::new();
        if structs.is_null() {
            return Ok(found);
        }
        loop {
            // SAFETY: whoever made this `Call` vouches for its pointers, here for an array that ends with a NULL.
            let place = unsafe { structs.add(found.len()) };
            // SAFETY: as above; the end was not reached before.
            let one = unsafe { place.read() };
            if one.is_null() {
                return Ok(found);
            }
            found.push(self.options(one, &format!("{name}[{}]", found.len()))?);
        }
    }

    /// A place for a result, which may not be NULL. It is reset at once, so that it is also on every failure.
    pub(super) fn out<T: Reset>(&self, out: *mut T, name: &str) -> Result<Out<'a, T>> {
        if out.is_null() {
            return Err(null(name));
        }
        // SAFETY: whoever made this `Call` vouches for its pointers; the place need not be initialised.
        unsafe { out.write(T::RESET) };
        Ok(Out { place: out, _call: PhantomData })
    }

    /// An option struct by the rule of the header: NULL is all defaults, missing fields are zero, unknown ones must be.
    pub(super) fn options<T: SizedStruct>(&self, options: *const T, name: &str) -> Result<T> {
        let mut known = T::ZERO;
        if options.is_null() {
            return Ok(known);
        }
        let size = self.struct_size::<T>(options.cast(), name)?;
        let shared = size.min(size_of::<T>());
        // SAFETY: the caller's struct has `size` bytes, ours has `size_of::<T>()`, and any bytes make a valid `T`.
        unsafe { std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut known).cast::<u8>(), shared) };
        // SAFETY: both offsets are inside the caller's struct of `size` bytes.
        let tail = unsafe { std::slice::from_raw_parts(options.cast::<u8>().wrapping_add(shared), size - shared) };
        if tail.iter().any(|&byte| byte != 0) {
            let why = format!("{name}: has options that this version of the library does not know");
            return Err(Error::new(Status::Unsupported, why));
        }
        Ok(known)
    }

    /// A result struct by the same rule, or NULL. It is zeroed at once, but for its size.
    pub(super) fn result<T: SizedStruct>(&self, result: *mut T, name: &str) -> Result<Option<ResultOut<'a, T>>> {
        if result.is_null() {
            return Ok(None);
        }
        let size = self.struct_size::<T>(result.cast(), name)?;
        let head = size_of::<usize>();
        // SAFETY: the caller's struct has `size` bytes, at least those of its first field.
        unsafe { std::ptr::write_bytes(result.cast::<u8>().wrapping_add(head), 0, size - head) };
        Ok(Some(ResultOut { place: result, size, _call: PhantomData }))
    }

    /// A result struct that may not be NULL.
    pub(super) fn required_result<T: SizedStruct>(&self, result: *mut T, name: &str) -> Result<ResultOut<'a, T>> {
        self.result(result, name)?.ok_or_else(|| null(name))
    }

    /// Cancel token and timeout, as the options of long calls carry them.
    pub(super) fn interrupt(&self, cancel: *mut bl_cancel, timeout_ms: u64) -> Interrupt {
        // SAFETY: whoever made this `Call` vouches for its pointers, those in structs too.
        let cancel = unsafe { cancel.as_ref() }.map(|cancel| cancel.0.clone());
        Interrupt::new(cancel, (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)))
    }

    fn c_str(&self, text: *const c_char, name: &str) -> Result<&'a CStr> {
        if text.is_null() {
            return Err(null(name));
        }
        // SAFETY: whoever made this `Call` vouches for its pointers, here for a terminating NUL.
        Ok(unsafe { CStr::from_ptr(text) })
    }

    /// The first field of every option and result struct. No compiler gives a struct a size that is no multiple of its
    /// alignment; one that is could end in the middle of a pointer.
    fn struct_size<T>(&self, of: *const usize, name: &str) -> Result<usize> {
        // As the kernel does it: more than a page is garbage and not a struct of the future.
        const MAX_STRUCT_BYTES: usize = 4096;
        // SAFETY: whoever made this `Call` vouches for its pointers; the field is there by the struct's definition.
        let size = unsafe { of.read() };
        if size < size_of::<usize>() || size > MAX_STRUCT_BYTES || !size.is_multiple_of(align_of::<T>()) {
            return Err(invalid(name, &format!("has struct_size {size}; initialise it with its _INIT macro")));
        }
        Ok(size)
    }
}

/// A place for one result.
pub(super) struct Out<'a, T> {
    place: *mut T,
    _call: PhantomData<&'a mut T>,
}

impl<T> Out<'_, T> {
    pub(super) fn set(self, value: T) {
        // SAFETY: checked for NULL when made; the caller vouches for the rest.
        unsafe { self.place.write(value) };
    }
}

/// A place for a result struct of the caller's size.
pub(super) struct ResultOut<'a, T> {
    place: *mut T,
    size: usize,
    _call: PhantomData<&'a mut T>,
}

impl<T: SizedStruct> ResultOut<'_, T> {
    /// Writes the fields that the caller's struct has, but for its size, which is the caller's.
    pub(super) fn set(self, value: &T) {
        let value = &value.cut_to(self.size);
        let head = size_of::<usize>();
        let len = self.size.min(size_of::<T>()) - head;
        let from = std::ptr::from_ref(value).cast::<u8>().wrapping_add(head);
        let to = self.place.cast::<u8>().wrapping_add(head);
        // SAFETY: both structs have at least `head + len` bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    }
}

/// What an output is on failure.
pub(super) trait Reset {
    const RESET: Self;
}

impl<T> Reset for *mut T {
    const RESET: *mut T = std::ptr::null_mut();
}

impl Reset for bool {
    const RESET: bool = false;
}

/// A `#[repr(C)]` struct that begins with `struct_size: usize`.
///
/// # Safety
/// Every pattern of bytes is a valid value: integers, arrays of them and raw pointers only. A
/// function pointer may be zero, which is none; a caller that sets one vouches for it.
pub(super) unsafe trait SizedStruct: Copy {
    // SAFETY: that zeros are a value is what an implementation promises.
    const ZERO: Self = unsafe { std::mem::zeroed() };

    /// The value as a caller whose struct has only `size` bytes is to see it.
    fn cut_to(self, _size: usize) -> Self {
        self
    }
}

pub(super) fn invalid(name: &str, why: &str) -> Error {
    Error::new(Status::InvalidArgument, format!("{name} {why}"))
}

/// Refuses flags that are none of `known`.
pub(super) fn check_flags(flags: u64, known: u64, name: &str) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::new(Status::Unsupported, format!("{name} has unknown bits {unknown:#x}"))),
    }
}

fn null(name: &str) -> Error {
    invalid(name, "is NULL")
}
