//! What every function does at the boundary, without a store: NULL for its arguments, and a panic in its body. Under miri too.

#![allow(clippy::multiple_unsafe_ops_per_block)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::args::{Call, SizedStruct, call};
use super::*;
use crate::error::{Result, Status};

/// NULL, zero, none.
trait Nil {
    const NIL: Self;
}

impl<T> Nil for *const T {
    const NIL: Self = null();
}

impl<T> Nil for *mut T {
    const NIL: Self = null_mut();
}

impl<T> Nil for Option<T> {
    const NIL: Self = None;
}

macro_rules! zero {
    ($($number:ty)*) => { $(impl Nil for $number { const NIL: Self = 0; })* };
}
zero!(i32 i64 u32 u64 usize);

fn nil<T: Nil>() -> T {
    T::NIL
}

macro_rules! every {
    ($($name:ident($($nil:ident),*),)*) => {
        // SAFETY: NULL is allowed for every pointer, and `err` is what the caller says.
        &[$((stringify!($name), |err| unsafe { $name($($nil(),)* err) })),*]
    };
}

type Function = unsafe fn(*mut *mut bl_error) -> bl_status;

/// Every function that can fail, with nothing for its arguments.
const FALLIBLE: &[(&str, Function)] = every![
    bl_cancel_new(nil),
    bl_set_log_callback(nil, nil, nil),
    bl_storage_open(nil, nil, nil),
    bl_images_dir(nil, nil),
    bl_layers_dir(nil, nil),
    bl_save_manifest(nil, nil, nil, nil),
    bl_load_manifest(nil, nil, nil),
    bl_has_manifest(nil, nil, nil),
    bl_manifest_path(nil, nil, nil),
    bl_has_layer(nil, nil, nil),
    bl_verify_layer(nil, nil, nil),
    bl_layer_tarball_path(nil, nil, nil),
    bl_layer_extracted_path(nil, nil, nil),
    bl_stage_layer(nil, nil, nil, nil),
    bl_extract_layer(nil, nil, nil, nil),
    bl_extracted_path(nil, nil, nil, nil),
    bl_layer_entries_open(nil, nil, nil, nil),
    bl_layer_entries_next(nil, nil),
    bl_write(nil, nil, nil),
    bl_commit(nil),
    bl_abort(nil),
    bl_staged_path(nil, nil),
    bl_final_path(nil, nil),
    bl_stage_config(nil, nil, nil),
    bl_load_config(nil, nil, nil),
    bl_has_config(nil, nil, nil),
    bl_config_path(nil, nil, nil),
    bl_tag_image(nil, nil, nil),
    bl_remove_image(nil, nil),
    bl_image_list(nil, nil),
    bl_image_open(nil, nil, nil),
    bl_image_layer(nil, nil, nil),
    bl_image_get_usage(nil, nil, nil),
    bl_import(nil, nil, nil, nil),
    bl_import_fd(nil, nil, nil, nil),
    bl_bundle_open(nil, nil, nil, nil, nil),
    bl_export(nil, nil, nil, nil, nil),
    bl_export_fd(nil, nil, nil, nil, nil),
    bl_assemble_rootfs(nil, nil, nil, nil, nil),
    bl_create_disk(nil, nil, nil, nil, nil),
    bl_format_disk(nil, nil, nil, nil, nil),
    bl_keep_disk(nil, nil, nil, nil, nil),
    bl_commit_image(nil, nil, nil, nil, nil),
    bl_squash_image(nil, nil, nil, nil, nil),
    bl_edit_image(nil, nil, nil, nil),
    bl_disk_get_info(nil, nil),
    bl_disk_get_part(nil, nil, nil),
    bl_lease_create(nil, nil, nil),
    bl_lease_open(nil, nil, nil),
    bl_lease_hold(nil, nil),
    bl_lease_extend(nil, nil),
    bl_lease_release(nil),
    bl_prepare_overlay(nil, nil, nil, nil, nil),
    bl_image_process(nil, nil, nil, nil),
    bl_process_get_user(nil, nil),
    bl_gc(nil, nil, nil),
    bl_check(nil, nil, nil),
    bl_disk_usage(nil, nil),
    bl_verify_blobs_exist(nil, nil, nil, nil),
    bl_local_bundle_cache_dir(nil, nil, nil, nil),
];

#[cfg(feature = "pull")]
const PULLING: &[(&str, Function)] = every![
    bl_pull_layers_get(nil, nil, nil),
    bl_credentials_set(nil, nil, nil),
    bl_pull(nil, nil, nil, nil),
    bl_pull_start(nil, nil, nil, nil),
    bl_op_wait(nil, nil, nil),
    bl_op_progress(nil, nil),
    bl_op_finish(nil, nil),
    bl_shutdown(nil),
];
#[cfg(not(feature = "pull"))]
const PULLING: &[(&str, Function)] = &[];

fn fallible() -> impl Iterator<Item = (&'static str, Function)> {
    FALLIBLE.iter().chain(PULLING).copied()
}

/// Calls a function; gives its status, which is also that of the error, and the error's message.
fn status_of(function: Function) -> (bl_status, String) {
    let mut err = null_mut();
    // SAFETY: `err` is valid for the call.
    let status = unsafe { function(&raw mut err) };
    // SAFETY: NULL, or an error that lives until it is freed below.
    assert_eq!(status, unsafe { bl_error_status(err) });
    // SAFETY: as above; a message is a string.
    let message = unsafe { CStr::from_ptr(bl_error_message(err)) }.to_str().unwrap().to_owned();
    // SAFETY: nobody has freed it.
    unsafe { bl_error_free(err) };
    (status, message)
}

#[test]
fn all_of_the_header_are_here() {
    let header = include_str!("../../include/boxlite_images.h");
    let declared =
        header.lines().filter_map(|line| line.strip_prefix("bl_status ")?.split_once('(').map(|(name, _)| name));
    // It takes an error and gives its status.
    let declared: Vec<&str> = declared.filter(|name| *name != "bl_error_status").collect();
    assert!(declared.len() >= 60, "{declared:?}");
    for name in declared.iter().filter(|_| cfg!(feature = "pull")) {
        assert!(fallible().any(|(known, _)| known == *name), "{name}");
    }
}

/// These two have nothing to do with NULL.
const FINE_WITH_NOTHING: [&str; 2] = ["bl_set_log_callback", "bl_shutdown"];

#[test]
fn nothing_for_an_argument_is_refused() {
    let _process = crate::fault::whole_process();
    for (name, function) in fallible() {
        let (status, message) = status_of(function);
        if FINE_WITH_NOTHING.contains(&name) {
            assert_eq!((status, &*message), (BL_OK, ""), "{name}");
        } else {
            assert_eq!(status, Status::InvalidArgument as i32, "{name}: {message}");
            assert!(message.contains("is NULL"), "{name}: {message}");
        }
        // SAFETY: nobody wants the error.
        assert_eq!(status, unsafe { function(null_mut()) }, "{name}");
    }
}

/// A bug in any of them is an error, and the process lives on.
#[test]
fn a_panic_becomes_internal_in_every_function() {
    let _process = crate::fault::whole_process();
    for (name, function) in fallible() {
        let (status, message) = crate::fault::panicking("call", || status_of(function));
        assert_eq!(status, Status::Internal as i32, "{name}: {message}");
        assert!(message.starts_with("internal error: "), "{name}: {message}");
    }
    assert!(fallible().any(|(name, function)| name == FINE_WITH_NOTHING[0] && status_of(function).0 == BL_OK));
}

#[test]
fn freeing_nothing_is_nothing() {
    // SAFETY: NULL is allowed for all of them.
    unsafe {
        bl_error_free(nil());
        bl_bytes_free(nil());
        bl_cancel_free(nil());
        bl_storage_close(nil());
        bl_staged_free(nil());
        bl_names_free(nil());
        bl_image_free(nil());
        bl_layer_entries_free(nil());
        bl_lease_free(nil());
        bl_process_free(nil());
        bl_cancel_trigger(nil());
        assert!(!bl_cancel_is_triggered(nil()));
        assert_eq!((bl_bytes_len(nil()), bl_names_count(nil()), bl_image_layer_count(nil())), (0, 0, 0));
        assert_eq!((bl_staged_bytes_written(nil()), bl_error_os_errno(nil()), bl_error_http_status(nil())), (0, 0, 0));
        assert!(
            bl_names_get(nil(), 3).is_null() && bl_image_text(nil(), 1, 2).is_null() && bl_lease_id(nil()).is_null()
        );
        assert!(bl_process_text(nil(), 1, 2).is_null() && !bl_error_retryable(nil()));
        for text in [bl_bytes_str(nil()), bl_error_registry_code(nil()), bl_error_actual_digest(nil())] {
            assert_eq!(CStr::from_ptr(text), c"");
        }
    }
}

#[test]
fn a_token_is_made_triggered_and_freed() {
    let mut cancel = null_mut();
    // SAFETY: the places are valid, and the token until it is freed.
    unsafe {
        assert_eq!(bl_cancel_new(&raw mut cancel, null_mut()), BL_OK);
        assert!(!bl_cancel_is_triggered(cancel));
        let shared = AtomicPtr::new(cancel);
        std::thread::spawn(move || bl_cancel_trigger(shared.into_inner())).join().unwrap();
        assert!(bl_cancel_is_triggered(cancel));
        bl_cancel_free(cancel);
    }
}

#[test]
fn bytes_end_with_a_nul_that_is_not_counted() {
    for content in [&b""[..], b"text", b"with\0one"] {
        let bytes = args::into_handle(bl_bytes::new(content.to_vec()));
        // SAFETY: the handle lives until it is freed, and what it gives as long.
        unsafe {
            assert_eq!(
                std::slice::from_raw_parts(bl_bytes_data(bytes), bl_bytes_len(bytes) + 1).split_last(),
                Some((&0, content))
            );
            bl_bytes_free(bytes);
        }
    }
}

#[test]
fn every_part_of_an_error_is_given() {
    let error = crate::error::Error::new(Status::DigestMismatch, "a message\0with a zero".to_owned());
    let error = args::into_handle(bl_error::new(&error));
    // SAFETY: the handle lives until it is freed, and what it gives as long.
    unsafe {
        assert_eq!(bl_error_status(error), Status::DigestMismatch as i32);
        assert_eq!(CStr::from_ptr(bl_error_message(error)), c"a message\\0with a zero");
        assert_eq!((bl_error_os_errno(error), bl_error_http_status(error)), (0, 0));
        assert_eq!(CStr::from_ptr(bl_error_expected_digest(error)), c"");
        bl_error_free(error);
    }
}

/// A struct of the host's with so many bytes, aligned as one; the first field is its size.
fn struct_of(size: usize, fill: u8) -> Vec<usize> {
    let mut words = vec![usize::from_ne_bytes([fill; size_of::<usize>()]); size.div_ceil(size_of::<usize>())];
    words[0] = size;
    words
}

fn with_call(body: impl FnOnce(&Call<'_>) -> Result<()>) -> bl_status {
    // SAFETY: the bodies pass what they own.
    unsafe { call(null_mut(), body) }
}

/// Older and newer hosts: what they do not have is zero, what we do not know must be, and nothing is read or written beyond.
#[test]
fn structs_of_every_size() {
    let word = size_of::<usize>();
    let known = size_of::<bl_tree_options>();
    for size in (word..=known + 5 * word).step_by(word) {
        let mut theirs = struct_of(size, 0);
        if size > word {
            theirs[1] = 7;
        }
        assert_eq!(
            with_call(|c| {
                let ours = c.options::<bl_tree_options>(theirs.as_ptr().cast(), "options")?;
                assert_eq!(ours.flags, if size > word { 7 } else { 0 });
                Ok(())
            }),
            BL_OK
        );
        if size > known {
            *theirs.last_mut().unwrap() = 1;
            let status = with_call(|c| c.options::<bl_tree_options>(theirs.as_ptr().cast(), "options").map(|_| ()));
            assert_eq!(status, Status::Unsupported as i32);
        }
        // As a result: zeroed, and filled as far as both know it. A byte behind it stays.
        let mut place = struct_of(size, 0xee);
        place.push(usize::MAX);
        assert_eq!(
            with_call(|c| {
                let result = c.required_result::<bl_gc_result>(place.as_mut_ptr().cast(), "result")?;
                result.set(&bl_gc_result { struct_size: 99, removed: 1, bytes: 2, kept: 3 });
                Ok(())
            }),
            BL_OK
        );
        let expected: Vec<usize> = [size, 1, 2, 3].into_iter().chain(std::iter::repeat(0)).take(size / word).collect();
        assert_eq!((&place[..size / word], place[size / word]), (&expected[..], usize::MAX));
    }
    for size in [0, 1, word - 1, known + 1, 4097, usize::MAX] {
        let theirs = [size; 2];
        let status = with_call(|c| c.options::<bl_gc_options>(theirs.as_ptr().cast(), "options").map(|_| ()));
        assert_eq!(status, Status::InvalidArgument as i32, "{size}");
    }
    assert_eq!(
        with_call(|c| {
            assert_eq!(c.options::<bl_gc_options>(null(), "options")?.flags, bl_gc_options::ZERO.flags);
            Ok(())
        }),
        BL_OK
    );
}

#[test]
fn strings_arrays_and_bytes() {
    let texts = [c"one".as_ptr(), c"two".as_ptr(), null()];
    assert_eq!(
        with_call(|c| {
            assert_eq!(c.text(texts[0], "text")?, "one");
            assert_eq!(c.path(c"/a/\xff".as_ptr(), "path")?.as_os_str().len(), 4);
            assert_eq!(c.bytes(b"abc".as_ptr(), 3, "data")?, b"abc");
            assert_eq!(c.bytes(null(), 0, "data")?, b"");
            assert!(c.digests(null(), 0, "digests")?.is_empty());
            #[cfg(feature = "pull")]
            assert_eq!(c.texts(texts.as_ptr(), "texts")?, ["one", "two"]);
            Ok(())
        }),
        BL_OK
    );
    let invalid =
        |body: &dyn Fn(&Call<'_>) -> Result<()>| assert_eq!(with_call(|c| body(c)), Status::InvalidArgument as i32);
    invalid(&|c| c.text(c"\xff".as_ptr(), "text").map(|_| ()));
    invalid(&|c| c.path(c"".as_ptr(), "path").map(|_| ()));
    invalid(&|c| c.bytes(null(), 1, "data").map(|_| ()));
    invalid(&|c| c.bytes(b"".as_ptr(), usize::MAX, "data").map(|_| ()));
    invalid(&|c| c.digest(c"sha256:../..".as_ptr(), "digest").map(|_| ()));
    invalid(&|c| c.digests(texts.as_ptr(), 3, "digests").map(|_| ()));
    invalid(&|c| c.digests(texts.as_ptr(), usize::MAX, "digests").map(|_| ()));
    invalid(&|c| c.handles::<bl_cancel>(null(), 1, "handles").map(|_| ()));
    invalid(&|c| c.handles::<bl_cancel>([null_mut()].as_ptr(), 1, "handles").map(|_| ()));
}

/// What is logged reaches the host, and its pointer comes along.
#[test]
fn a_callback_is_called_with_its_pointer() {
    let _process = crate::fault::whole_process();
    unsafe extern "C" fn count(_: i32, text: *const c_char, user_data: *mut c_void) {
        // SAFETY: the library gives a string, and the pointer that it was given.
        let (text, lines) = unsafe { (CStr::from_ptr(text), &*user_data.cast::<AtomicU32>()) };
        // Other tests may log at the same time.
        if text == c"a line" || text == c"not this one" {
            lines.fetch_add(1, Ordering::Relaxed);
        }
    }
    let lines = AtomicU32::new(0);
    // SAFETY: the counter outlives the callback's last call.
    unsafe {
        assert_eq!(
            bl_set_log_callback(BL_LOG_WARN, Some(count), (&raw const lines).cast_mut().cast(), null_mut()),
            BL_OK
        );
        tracing::warn!("a line");
        tracing::info!("not this one");
        assert_eq!(bl_set_log_callback(BL_LOG_OFF, None, null_mut(), null_mut()), BL_OK);
        tracing::warn!("a line");
    }
    assert_eq!(lines.load(Ordering::Relaxed), 1);
}
