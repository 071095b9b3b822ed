//! Panics where a test wants them, to see that a bug of ours is an error of one call and nothing more. Outside the unit tests
//! [`at`] is nothing.

#[cfg(not(test))]
pub(crate) const fn at(_: &str) {}

#[cfg(test)]
pub(crate) use on::*;

#[cfg(test)]
mod on {
    use std::cell::Cell;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    thread_local! {
        static PLACE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Held by tests of what a process has once: the network and the log callback.
    pub(crate) fn whole_process() -> MutexGuard<'static, ()> {
        static PROCESS: Mutex<()> = Mutex::new(());
        PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Panics when a test wants that here.
    pub(crate) fn at(place: &str) {
        assert_ne!(PLACE.get(), Some(place), "injected");
    }

    /// Runs something in which, on this thread and those that it starts, that place panics.
    pub(crate) fn panicking<T>(place: &'static str, body: impl FnOnce() -> T) -> T {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                PLACE.set(None);
            }
        }
        let _reset = Reset;
        PLACE.set(Some(place));
        body()
    }

    /// The body of a new thread, for which the same place panics.
    pub(crate) fn inherited<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let place = PLACE.get();
        move || {
            PLACE.set(place);
            body()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::panicking;
    use crate::digest::Digest;
    use crate::error::Status;
    use crate::extraction::ExtractOptions;
    use crate::store::{Durability, Storage, StorageOptions};

    /// A store in a folder that goes at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> (Scratch, Storage) {
            let dir = std::env::temp_dir().join(format!("bl-inject-{}", uuid::Uuid::new_v4()));
            let options = StorageOptions { durability: Durability::None, ..StorageOptions::default() };
            let storage = Storage::open(&dir, &options).unwrap();
            (Scratch(dir), storage)
        }

        /// What is half made, or made.
        fn trees(&self) -> Vec<String> {
            let names = std::fs::read_dir(self.0.join("extracted")).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        /// That nothing of a layer is there, soon: what was made is removed in the background.
        fn is_empty(&self) -> bool {
            (0..500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                self.trees().is_empty()
            })
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// An archive, plain.
    fn archive() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in 0..200 {
            let mut header = tar::Header::new_ustar();
            header.set_path(format!("d/{name}")).unwrap();
            header.set_size(10_000);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, &[b'x'; 10_000][..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// With its digest, and its diff_id.
    fn layer() -> (Vec<u8>, Digest, Digest) {
        let tar = archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar).unwrap();
        let layer = gzip.finish().unwrap();
        let digest = Digest::of(&layer);
        (layer, digest, Digest::of(&tar))
    }

    #[test]
    fn a_thread_of_an_extraction_that_dies_is_one_internal_error() {
        for layer in [layer().0, archive()] {
            let (scratch, storage) = Scratch::new();
            let digest = Digest::of(&layer);
            let mut staged = storage.stage_layer(&digest, Some(layer.len() as u64)).unwrap();
            staged.write(&layer).unwrap();
            staged.commit().unwrap();
            // On one core there is only the last of them.
            let several = ["bl-read", "bl-inflate", "bl-hash", "bl-write"];
            for place in if crate::sys::has_cores() { &several[..] } else { &several[3..] } {
                let extract = || storage.extract_layer(&digest, &ExtractOptions::default());
                let error = panicking(place, extract).unwrap_err();
                assert_eq!(error.status(), Status::Internal, "{place}: {error}");
                assert!(scratch.is_empty(), "{place}: {:?}", scratch.trees());
            }
            assert_eq!(storage.extract_layer(&digest, &ExtractOptions::default()).unwrap().entries, 200);
        }
    }

    #[cfg(feature = "pull")]
    mod pulls {
        use std::collections::HashMap;
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::net::TcpListener;
        use std::sync::Arc;

        use super::*;
        use crate::pull::{PullOptions, RegistryOptions};

        /// A registry with one image, for as long as the process lives.
        fn registry() -> String {
            let (layer, digest, diff_id) = layer();
            let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#).into_bytes();
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
                "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
                "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{}}}]}}"#,
                Digest::of(&config),
                config.len(),
                layer.len()
            );
            let answers = Arc::new(HashMap::from([
                ("/v2/x/manifests/latest".to_owned(), manifest.into_bytes()),
                (format!("/v2/x/blobs/{}", Digest::of(&config)), config),
                (format!("/v2/x/blobs/{digest}"), layer),
            ]));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let host = listener.local_addr().unwrap().to_string();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let answers = answers.clone();
                    std::thread::spawn(move || {
                        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                        while let Some(request) = lines.next() {
                            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                            let _ = lines.find(|line| line.is_empty());
                            let (status, body) =
                                answers.get(&path).map_or(("404 None", &b""[..]), |body| ("200 OK", body));
                            let kind = "application/vnd.oci.image.manifest.v1+json";
                            let head = format!(
                                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                                body.len()
                            );
                            let is_head = request.starts_with("HEAD");
                            let mut stream = &stream;
                            if stream.write_all(head.as_bytes()).is_err() || !is_head && stream.write_all(body).is_err()
                            {
                                return;
                            }
                        }
                    });
                }
            });
            host
        }

        #[test]
        fn a_thread_of_a_pull_that_dies_is_one_internal_error() {
            let _process = crate::fault::whole_process();
            let host = registry();
            let (scratch, storage) = Scratch::new();
            let registry = RegistryOptions { host: host.clone(), plain_http: true, ..RegistryOptions::default() };
            let options = PullOptions { registries: vec![registry], ..PullOptions::default() };
            let reference = format!("{host}/x");
            for place in ["bl-pull", "bl-unpack", "bl-write"] {
                let error = panicking(place, || storage.pull(&reference, &options)).unwrap_err();
                assert_eq!(error.status(), Status::Internal, "{place}: {error}");
                assert!(storage.images().unwrap().is_empty(), "{place}");
                assert!(scratch.is_empty(), "{place}: {:?}", scratch.trees());
            }
            let error = panicking("bl-op", || {
                let pull = storage.start_pull(&reference, &options).unwrap();
                assert!(pull.wait(None).unwrap());
                pull.finish().unwrap_err()
            });
            assert_eq!(error.status(), Status::Internal, "{error}");
            assert_eq!(storage.pull(&reference, &options).unwrap().layers().count(), 1);
            assert_eq!(scratch.trees().len(), 2, "{:?}", scratch.trees());
        }
    }
}
