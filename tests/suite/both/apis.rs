//! The two: the Rust API as it is, and the C API through its own pointers.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxlite_images::ffi::*;
use boxlite_images::{Digest, Durability, ExtractOptions, Staged, Status, Storage, StorageOptions, VerifyOptions};

use super::{Answer, Api, StagedApi};

pub(super) struct Rust(Storage);

fn digest(text: &str) -> Answer<Digest> {
    Digest::parse(text).map_err(|error| error.status())
}

fn status<T>(result: boxlite_images::Result<T>) -> Answer<T> {
    result.map_err(|error| error.status())
}

impl Api for Rust {
    type Staged = RustStaged;

    fn open(dir: &Path, read_only: bool, max_blob_bytes: u64) -> Answer<Rust> {
        let mut options = StorageOptions::default();
        options.read_only = read_only;
        options.durability = Durability::Full;
        options.max_blob_bytes = (max_blob_bytes > 0).then_some(max_blob_bytes);
        status(Storage::open(dir, &options)).map(Rust)
    }
    fn images_dir(&self) -> PathBuf {
        self.0.images_dir().to_owned()
    }
    fn layers_dir(&self) -> PathBuf {
        self.0.layers_dir()
    }
    fn save_manifest(&self, text: &str, bytes: &[u8]) -> Answer<()> {
        status(self.0.save_manifest(&digest(text)?, bytes))
    }
    fn load_manifest(&self, text: &str) -> Answer<Vec<u8>> {
        status(self.0.load_manifest(&digest(text)?))
    }
    fn has_manifest(&self, text: &str) -> Answer<bool> {
        status(self.0.has_manifest(&digest(text)?))
    }
    fn stage_config(&self, text: &str) -> Answer<RustStaged> {
        status(self.0.stage_config(&digest(text)?)).map(RustStaged::new)
    }
    fn load_config(&self, text: &str) -> Answer<Vec<u8>> {
        status(self.0.load_config(&digest(text)?))
    }
    fn has_config(&self, text: &str) -> Answer<bool> {
        status(self.0.has_config(&digest(text)?))
    }
    fn stage_layer(&self, text: &str, size: i64) -> Answer<RustStaged> {
        status(self.0.stage_layer(&digest(text)?, u64::try_from(size).ok().filter(|&n| n > 0))).map(RustStaged::new)
    }
    fn has_layer(&self, text: &str) -> Answer<bool> {
        status(self.0.has_layer(&digest(text)?))
    }
    fn verify_layer(&self, text: &str) -> Answer<()> {
        status(self.0.verify_layer(&digest(text)?, &VerifyOptions::default()))
    }
    fn extract_layer(&self, text: &str, tarball: Option<&Path>, diff_id: Option<&str>) -> Answer<(bool, String)> {
        let mut options = ExtractOptions::default();
        options.tarball_path = tarball.map(Into::into);
        options.diff_id = diff_id.map(digest).transpose()?;
        let done = status(self.0.extract_layer(&digest(text)?, &options))?;
        Ok((done.cached, done.diff_id.map(|digest| digest.to_string()).unwrap_or_default()))
    }
    fn verify_blobs_exist(&self, digests: &[String]) -> Answer<bool> {
        let digests = digests.iter().map(|text| digest(text)).collect::<Answer<Vec<_>>>()?;
        status(self.0.verify_blobs_exist(&digests))
    }
    fn local_bundle_cache_dir(&self, bundle: &Path, text: &str) -> Answer<PathBuf> {
        status(self.0.local_bundle_cache_dir(bundle, &digest(text)?))
    }
    fn paths(&self, text: &str) -> Answer<[PathBuf; 4]> {
        let d = digest(text)?;
        let s = &self.0;
        Ok([s.manifest_path(&d), s.config_path(&d), s.layer_tarball_path(&d), s.layer_extracted_path(&d)])
    }
}

/// What C's handle refuses after the end, the compiler refuses in Rust: commit and abort take the object.
pub(super) struct RustStaged {
    staged: Option<Staged>,
    is_committed: bool,
    written: Arc<AtomicU64>,
    paths: [PathBuf; 2],
}

impl RustStaged {
    fn new(staged: Staged) -> RustStaged {
        RustStaged {
            is_committed: false,
            written: staged.progress(),
            paths: [staged.staged_path().to_owned(), staged.final_path().to_owned()],
            staged: Some(staged),
        }
    }
}

impl StagedApi for RustStaged {
    fn write(&mut self, bytes: &[u8]) -> Answer<()> {
        status(self.staged.as_mut().ok_or(Status::State)?.write(bytes))
    }
    fn commit(&mut self) -> Answer<()> {
        status(self.staged.take().ok_or(Status::State)?.commit())?;
        self.is_committed = true;
        Ok(())
    }
    fn abort(&mut self) -> Answer<()> {
        if self.is_committed {
            return Err(Status::State);
        }
        if let Some(staged) = self.staged.take() {
            staged.abort();
        }
        Ok(())
    }
    fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
    fn paths(&self) -> [PathBuf; 2] {
        self.paths.clone()
    }
}

pub(super) struct C(*mut bl_storage);

pub(super) struct CStaged(*mut bl_staged);

impl Drop for C {
    fn drop(&mut self) {
        unsafe { bl_storage_close(self.0) };
    }
}

impl Drop for CStaged {
    fn drop(&mut self) {
        unsafe { bl_staged_free(self.0) };
    }
}

/// Makes a call with an error to fill; checks that status and error agree, and frees it.
fn checked(call: impl FnOnce(*mut *mut bl_error) -> bl_status) -> Answer<()> {
    let mut err = null_mut();
    let code = call(&mut err);
    assert_eq!(code, unsafe { bl_error_status(err) });
    assert_eq!(code == BL_OK, err.is_null());
    if code == BL_OK {
        return Ok(());
    }
    let message = unsafe { CStr::from_ptr(bl_error_message(err)) }.to_str().unwrap();
    assert!(!message.is_empty() && !message.contains('\n'), "{message}");
    assert!(message.matches("failed earlier").count() < 2, "{message}");
    unsafe { bl_error_free(err) };
    Err(Status::from_code(code).unwrap())
}

fn c(text: &str) -> CString {
    // A digest with a NUL ends there for C, and is as wrong.
    CString::new(text.split('\0').next().unwrap()).unwrap()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

fn bytes_from(call: impl FnOnce(*mut *mut bl_bytes, *mut *mut bl_error) -> bl_status) -> Answer<Vec<u8>> {
    let mut out = std::ptr::dangling_mut();
    let result = checked(|err| call(&mut out, err));
    assert_eq!(result.is_err(), out.is_null());
    result?;
    let data = unsafe { std::slice::from_raw_parts(bl_bytes_data(out), bl_bytes_len(out) + 1) };
    let (nul, data) = data.split_last().unwrap();
    assert_eq!(*nul, 0);
    let data = data.to_vec();
    unsafe { bl_bytes_free(out) };
    Ok(data)
}

fn path_from(call: impl FnOnce(*mut *mut bl_bytes, *mut *mut bl_error) -> bl_status) -> Answer<PathBuf> {
    Ok(String::from_utf8(bytes_from(call)?).unwrap().into())
}

fn bool_from(call: impl FnOnce(*mut bool, *mut *mut bl_error) -> bl_status) -> Answer<bool> {
    let mut out = true;
    let result = checked(|err| call(&mut out, err));
    assert!(result.is_ok() || !out);
    result.map(|()| out)
}

fn staged_from(call: impl FnOnce(*mut *mut bl_staged, *mut *mut bl_error) -> bl_status) -> Answer<CStaged> {
    let mut out = std::ptr::dangling_mut();
    let result = checked(|err| call(&mut out, err));
    assert_eq!(result.is_err(), out.is_null());
    result.map(|()| CStaged(out))
}

impl Api for C {
    type Staged = CStaged;

    fn open(dir: &Path, read_only: bool, max_blob_bytes: u64) -> Answer<C> {
        let options = bl_storage_options {
            struct_size: size_of::<bl_storage_options>(),
            flags: if read_only { BL_STORAGE_READ_ONLY } else { 0 },
            max_blob_bytes,
            durability: BL_DURABILITY_FULL,
            reserved: 0,
            min_free_bytes: 0,
            gc_above_bytes: 0,
            gc_min_age_seconds: 0,
        };
        let mut out = std::ptr::dangling_mut();
        let dir = c_path(dir);
        let result = checked(|err| unsafe { bl_storage_open(dir.as_ptr(), &options, &mut out, err) });
        assert_eq!(result.is_err(), out.is_null());
        result.map(|()| C(out))
    }
    fn images_dir(&self) -> PathBuf {
        path_from(|out, err| unsafe { bl_images_dir(self.0, out, err) }).unwrap()
    }
    fn layers_dir(&self) -> PathBuf {
        path_from(|out, err| unsafe { bl_layers_dir(self.0, out, err) }).unwrap()
    }
    fn save_manifest(&self, digest: &str, bytes: &[u8]) -> Answer<()> {
        let digest = c(digest);
        checked(|err| unsafe { bl_save_manifest(self.0, digest.as_ptr(), bytes.as_ptr().cast(), bytes.len(), err) })
    }
    fn load_manifest(&self, digest: &str) -> Answer<Vec<u8>> {
        let digest = c(digest);
        bytes_from(|out, err| unsafe { bl_load_manifest(self.0, digest.as_ptr(), out, err) })
    }
    fn has_manifest(&self, digest: &str) -> Answer<bool> {
        let digest = c(digest);
        bool_from(|out, err| unsafe { bl_has_manifest(self.0, digest.as_ptr(), out, err) })
    }
    fn stage_config(&self, digest: &str) -> Answer<CStaged> {
        let digest = c(digest);
        staged_from(|out, err| unsafe { bl_stage_config(self.0, digest.as_ptr(), out, err) })
    }
    fn load_config(&self, digest: &str) -> Answer<Vec<u8>> {
        let digest = c(digest);
        bytes_from(|out, err| unsafe { bl_load_config(self.0, digest.as_ptr(), out, err) })
    }
    fn has_config(&self, digest: &str) -> Answer<bool> {
        let digest = c(digest);
        bool_from(|out, err| unsafe { bl_has_config(self.0, digest.as_ptr(), out, err) })
    }
    fn stage_layer(&self, digest: &str, size: i64) -> Answer<CStaged> {
        let digest = c(digest);
        staged_from(|out, err| unsafe { bl_stage_layer(self.0, digest.as_ptr(), size, out, err) })
    }
    fn has_layer(&self, digest: &str) -> Answer<bool> {
        let digest = c(digest);
        bool_from(|out, err| unsafe { bl_has_layer(self.0, digest.as_ptr(), out, err) })
    }
    fn verify_layer(&self, digest: &str) -> Answer<()> {
        let digest = c(digest);
        checked(|err| unsafe { bl_verify_layer(self.0, digest.as_ptr(), null(), err) })
    }
    fn extract_layer(&self, digest: &str, tarball: Option<&Path>, diff_id: Option<&str>) -> Answer<(bool, String)> {
        let (digest, tarball, diff_id) = (c(digest), tarball.map(c_path), diff_id.map(c));
        let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        let options = bl_extract_options {
            struct_size: size_of::<bl_extract_options>(),
            tree: null(),
            tarball_path: pointer(&tarball),
            diff_id: pointer(&diff_id),
            cancel: null_mut(),
            timeout_ms: 0,
            // Everything that came later.
            ..unsafe { std::mem::zeroed() }
        };
        let mut result = bl_extract_result {
            struct_size: size_of::<bl_extract_result>(),
            entries: 99,
            bytes_in: 99,
            bytes_out: 99,
            anomalies: 99,
            cached: 99,
            reserved: 99,
            diff_id: [99; 136],
        };
        let answer = checked(|err| unsafe { bl_extract_layer(self.0, digest.as_ptr(), &options, &mut result, err) });
        let diff_id = unsafe { CStr::from_ptr(result.diff_id.as_ptr()) }.to_str().unwrap().to_owned();
        assert_eq!(result.struct_size, size_of::<bl_extract_result>());
        if answer.is_err() {
            let sum = result.entries + result.bytes_in + result.bytes_out + result.anomalies;
            assert_eq!((sum, result.cached, result.reserved, diff_id.as_str()), (0, 0, 0, ""));
        }
        answer.map(|()| (result.cached == 1, diff_id))
    }
    fn verify_blobs_exist(&self, digests: &[String]) -> Answer<bool> {
        let texts: Vec<_> = digests.iter().map(|text| c(text)).collect();
        let texts: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        bool_from(|out, err| unsafe { bl_verify_blobs_exist(self.0, texts.as_ptr(), texts.len(), out, err) })
    }
    fn local_bundle_cache_dir(&self, bundle: &Path, digest: &str) -> Answer<PathBuf> {
        let (bundle, digest) = (c_path(bundle), c(digest));
        path_from(|out, err| unsafe { bl_local_bundle_cache_dir(self.0, bundle.as_ptr(), digest.as_ptr(), out, err) })
    }
    fn paths(&self, digest: &str) -> Answer<[PathBuf; 4]> {
        let digest = c(digest);
        let of = |function: unsafe extern "C" fn(_, _, _, _) -> bl_status| {
            path_from(|out, err| unsafe { function(self.0.cast_const(), digest.as_ptr(), out, err) })
        };
        Ok([of(bl_manifest_path)?, of(bl_config_path)?, of(bl_layer_tarball_path)?, of(bl_layer_extracted_path)?])
    }
}

impl StagedApi for CStaged {
    fn write(&mut self, bytes: &[u8]) -> Answer<()> {
        checked(|err| unsafe { bl_write(self.0, bytes.as_ptr().cast(), bytes.len(), err) })
    }
    fn commit(&mut self) -> Answer<()> {
        checked(|err| unsafe { bl_commit(self.0, err) })
    }
    fn abort(&mut self) -> Answer<()> {
        checked(|err| unsafe { bl_abort(self.0, err) })
    }
    fn bytes_written(&self) -> u64 {
        unsafe { bl_staged_bytes_written(self.0) }
    }
    fn paths(&self) -> [PathBuf; 2] {
        let staged = path_from(|out, err| unsafe { bl_staged_path(self.0, out, err) }).unwrap();
        [staged, path_from(|out, err| unsafe { bl_final_path(self.0, out, err) }).unwrap()]
    }
}
