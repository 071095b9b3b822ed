import CBoxliteImages

/// How to open a store.
public struct StorageOptions: Sendable {
  /// Nothing in the directory is created, changed or removed.
  public var isReadOnly = false
  /// For file systems where `flock` does not work: no other process opens the store meanwhile.
  public var isSingleProcess = false
  /// Whether what was committed survives power loss.
  public var isDurable = true
  /// Bytes of the largest layer that is taken; `nil` is 50 GiB.
  public var maxBlobBytes: UInt64?
  /// Bytes of the file system that stay free.
  public var minFreeBytes: UInt64 = 0
  /// Above so many bytes the store is collected before a layer is stored; `nil` is never.
  public var gcAboveBytes: UInt64?
  /// What is younger stays then; `nil` is an hour.
  public var gcMinAge: Duration?

  public init() {}
}

/// An open image store. Any number of threads may use it, and any number of processes the same directory.
///
/// Calls that can take long are there twice: `async`, on a thread of their own, ended with their task; and blocking, where a
/// ``CancelToken`` ends them. The others are a matter of the disk's: opening and closing a store may wait for a flush.
public final class Storage: Sendable {
  let handle: Handle

  init(taking raw: OpaquePointer) { handle = Handle("storage", raw) { bl_storage_close($0) } }

  /// Opens the store in a directory, which is created where it is missing.
  public convenience init(at directory: String, options: StorageOptions = StorageOptions()) throws {
    var c = bl_storage_options_init()
    c.flags = flags((options.isReadOnly, BL_STORAGE_READ_ONLY), (options.isSingleProcess, BL_STORAGE_SINGLE_PROCESS))
    c.max_blob_bytes = options.maxBlobBytes ?? 0
    c.durability = UInt32(options.isDurable ? BL_DURABILITY_FULL : BL_DURABILITY_NONE)
    c.min_free_bytes = options.minFreeBytes
    c.gc_above_bytes = options.gcAboveBytes ?? 0
    c.gc_min_age_seconds = seconds(options.gcMinAge)
    let directory = try plain(directory, "directory")
    self.init(taking: try make { bl_storage_open(directory, &c, $0, $1) })
  }

  /// Closes the store, which otherwise happens with the last reference. Calls that are running go on, and the last of them
  /// closes it; what was opened from it goes on working.
  public func close() { handle.close() }

  func about(
    _ digest: String, _ body: (OpaquePointer?, UnsafePointer<CChar>?, Out?, Out?) -> bl_status
  ) throws -> String {
    let digest = try plain(digest, "digest")
    return try handle.use { storage in try text { body(storage, digest, $0, $1) } }
  }

  func has(
    _ digest: String, _ body: (OpaquePointer?, UnsafePointer<CChar>?, UnsafeMutablePointer<Bool>?, Out?) -> bl_status
  ) throws -> Bool {
    let digest = try plain(digest, "digest")
    return try handle.use { storage in try bool { body(storage, digest, $0, $1) } }
  }

  func load(
    _ digest: String, _ body: (OpaquePointer?, UnsafePointer<CChar>?, Out?, Out?) -> bl_status
  ) throws -> [UInt8] {
    let digest = try plain(digest, "digest")
    return try handle.use { storage in try bytes { body(storage, digest, $0, $1) } }
  }

  public func imagesDirectory() throws -> String { try handle.use { storage in try text { bl_images_dir(storage, $0, $1) } } }
  public func layersDirectory() throws -> String { try handle.use { storage in try text { bl_layers_dir(storage, $0, $1) } } }

  // MARK: Manifests and configs

  /// Stores a manifest, which must hash to the digest.
  public func saveManifest(_ digest: String, _ json: some Collection<UInt8>) throws {
    let digest = try plain(digest, "digest")
    let json = Array(json)
    try handle.use { storage in
      try json.withUnsafeBufferPointer { json in
        try call { bl_save_manifest(storage, digest, json.baseAddress, json.count, $0) }
      }
    }
  }

  public func loadManifest(_ digest: String) throws -> [UInt8] { try load(digest, bl_load_manifest) }
  public func hasManifest(_ digest: String) throws -> Bool { try has(digest, bl_has_manifest) }
  public func manifestPath(_ digest: String) throws -> String { try about(digest, bl_manifest_path) }
  public func loadConfig(_ digest: String) throws -> [UInt8] { try load(digest, bl_load_config) }
  public func hasConfig(_ digest: String) throws -> Bool { try has(digest, bl_has_config) }
  public func configPath(_ digest: String) throws -> String { try about(digest, bl_config_path) }

  // MARK: Layers

  public func hasLayer(_ digest: String) throws -> Bool { try has(digest, bl_has_layer) }
  /// Where the layer's blob is, or would be.
  public func layerTarballPath(_ digest: String) throws -> String { try about(digest, bl_layer_tarball_path) }
  /// Where ``extractLayer(_:options:)`` puts a layer with default options, whether it is there or not.
  public func layerExtractedPath(_ digest: String) throws -> String { try about(digest, bl_layer_extracted_path) }

  /// Whether the blobs of all of these layers are here.
  public func verifyBlobsExist(_ digests: [String]) throws -> Bool {
    let arena = Arena()
    let list = arena.pointer(try digests.map { try arena.text($0, "digests") })
    return try handle.use { storage in
      try withExtendedLifetime(arena) { try bool { bl_verify_blobs_exist(storage, list, digests.count, $0, $1) } }
    }
  }

  /// Reads a stored layer and compares it with its digest.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func verifyLayer(_ digest: String, timeout: Duration? = nil, cancel: CancelToken? = nil) throws {
    let digest = try plain(digest, "digest")
    try handle.use { storage in
      try withExtendedLifetime(cancel) {
        var c = bl_verify_options_init()
        c.cancel = cancel?.raw.pointer
        c.timeout_ms = milliseconds(timeout)
        try call { bl_verify_layer(storage, digest, &c, $0) }
      }
    }
  }

  public func verifyLayer(_ digest: String, timeout: Duration? = nil) async throws {
    try await running { try self.verifyLayer(digest, timeout: timeout, cancel: $0) }
  }

  /// The cache folder for a bundle that is used in place; see ``openBundle(_:options:)``.
  public func localBundleCacheDirectory(_ path: String, manifestDigest: String) throws -> String {
    let (path, digest) = (try plain(path, "path"), try plain(manifestDigest, "manifestDigest"))
    return try handle.use { storage in try text { bl_local_bundle_cache_dir(storage, path, digest, $0, $1) } }
  }

  // MARK: Staged downloads

  /// Starts to store a layer. The size is the one that the manifest declares, where that is known.
  public func stageLayer(_ digest: String, size: Int64? = nil) throws -> Staged {
    let digest = try plain(digest, "digest")
    return Staged(taking: try handle.use { storage in try make { bl_stage_layer(storage, digest, size ?? -1, $0, $1) } })
  }

  /// Starts to store an image config.
  public func stageConfig(_ digest: String) throws -> Staged {
    let digest = try plain(digest, "digest")
    return Staged(taking: try handle.use { storage in try make { bl_stage_config(storage, digest, $0, $1) } })
  }
}

/// A blob that is being written. Nothing of it is visible before ``commit()``; without one it goes with the last
/// reference. For one thread at a time: a second one gets ``Status/busy``.
public final class Staged: Sendable {
  let handle: Handle

  init(taking raw: OpaquePointer) { handle = Handle("download", raw) { bl_staged_free($0) } }

  /// Appends bytes, which are hashed and written when this returns.
  public func write(_ bytes: UnsafeRawBufferPointer) throws {
    try handle.use { staged in try call { bl_write(staged, bytes.baseAddress, bytes.count, $0) } }
  }

  /// The same from `[UInt8]`, `Data` and their like.
  public func write(_ bytes: some Collection<UInt8>) throws {
    let done: Void? = try bytes.withContiguousStorageIfAvailable { try write(UnsafeRawBufferPointer($0)) }
    if done == nil { try Array(bytes).withUnsafeBytes(write) }
  }

  /// Verifies size and digest and makes the blob visible, durably.
  public func commit() async throws { try await running { _ in try self.commit() } }

  public func commit() throws { try handle.use { staged in try call { bl_commit(staged, $0) } } }
  /// Removes what was written.
  public func abort() throws { try handle.use { staged in try call { bl_abort(staged, $0) } } }
  /// 0 once it is closed.
  public var bytesWritten: UInt64 { (try? handle.use { bl_staged_bytes_written($0) }) ?? 0 }
  /// The partial file.
  public func path() throws -> String { try handle.use { staged in try text { bl_staged_path(staged, $0, $1) } } }
  /// Where the blob is after the commit.
  public func finalPath() throws -> String { try handle.use { staged in try text { bl_final_path(staged, $0, $1) } } }
  /// Ends a download that was not committed.
  public func close() { handle.close() }
}
