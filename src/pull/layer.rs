//! One layer: downloaded, hashed and written on one thread, and inflated, verified and unpacked on others while it
//! arrives. The blob is visible when its digest holds, the tree when both do.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;

use super::registry::{Failure, Registry};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::layer::Growing;
use crate::oci::Descriptor;
use crate::store::Staged;

/// Tries that bring no byte before the download is given up.
const FRUITLESS: u32 = 5;

/// Downloads a blob into a staged one, and commits it. Whoever reads `growing` follows.
pub(super) fn download(
    registry: &Registry,
    layer: &Descriptor,
    staged: &mut Staged,
    growing: &Growing,
    mut on_bytes: impl FnMut(u64),
) -> Result<()> {
    let result = receive(registry, layer, staged, growing, &mut on_bytes).and_then(|()| staged.commit());
    growing.finish(match &result {
        Ok(()) => Ok(layer.digest.clone()),
        Err(error) => Err(Error::new(error.status(), format!("download of {}: {}", layer.digest, error.message()))),
    });
    result
}

fn receive(
    registry: &Registry,
    layer: &Descriptor,
    staged: &mut Staged,
    growing: &Growing,
    on_bytes: &mut impl FnMut(u64),
) -> Result<()> {
    let path = format!("blobs/{}", layer.digest);
    let mut fruitless = 0;
    let mut last: Option<Failure> = None;
    while staged.bytes_written() < layer.size {
        if fruitless >= FRUITLESS {
            break;
        }
        registry.pause(fruitless, last.as_ref())?;
        let before = staged.bytes_written();
        match attempt(registry, &path, layer, staged, growing, on_bytes)? {
            Ok(()) => return Ok(()),
            Err(failure) => last = Some(failure),
        }
        fruitless = if staged.bytes_written() > before { 1 } else { fruitless + 1 };
    }
    match last {
        Some(failure) if staged.bytes_written() < layer.size => Err(failure.error),
        _ => Ok(()),
    }
}

/// One request, from where the one before ended.
fn attempt(
    registry: &Registry,
    path: &str,
    layer: &Descriptor,
    staged: &mut Staged,
    growing: &Growing,
    on_bytes: &mut impl FnMut(u64),
) -> Result<Result<(), Failure>> {
    let offset = staged.bytes_written();
    let mut response = match registry.blob(path, offset)? {
        Ok(response) => response,
        Err(failure) => return Ok(Err(failure)),
    };
    // A server that ignores the range sends all of it; what is there already is passed over.
    let mut skip = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-"))) {
                return Err(Error::new(Status::Registry, format!("{path}: another range than was asked for")));
            }
            0
        }
        _ => offset,
    };
    loop {
        let chunk = match registry.chunk(&mut response, path)? {
            Ok(Some(chunk)) => chunk,
            Ok(None) if staged.bytes_written() == layer.size => return Ok(Ok(())),
            Ok(None) => {
                let why = format!("{path}: ended after {} of {} bytes", staged.bytes_written(), layer.size);
                return Ok(Err(Failure::broken(why)));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        let passed = (chunk.len() as u64).min(skip);
        skip -= passed;
        let bytes = &chunk[passed as usize..];
        staged.write(bytes)?;
        growing.grow(bytes.len() as u64);
        on_bytes(bytes.len() as u64);
        if staged.bytes_written() == layer.size {
            return Ok(Ok(()));
        }
    }
}

/// The file that a staged blob is written to, open for somebody who follows.
pub(super) fn follow(staged: &Staged) -> Result<(OwnedFd, Arc<Growing>)> {
    Ok((staged.reader()?, Arc::new(Growing::default())))
}

/// What a layer is to be, for its extraction.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Option<Digest>,
}
