import CBoxliteImages

/// An image as it was when it was opened. What it says of itself can be asked after ``close()`` too.
public final class Image: Sendable {
  let handle: Handle

  /// The full name, and the short one; `nil` where it was opened by its digest.
  public let name, familiarName: String?
  public let manifestDigest, configDigest: String
  /// Of the index that led to it, where a pull came by one.
  public let indexDigest: String?
  /// The config as it is; `nil` where it is missing.
  public let configJSON: String?
  /// When it was made, as its maker wrote it.
  public let created: String?
  public let os, architecture, variant: String?
  public let entrypoint, cmd, env: [String]
  public let workingDir, user, stopSignal: String?
  public let exposedPorts, volumes: [String]
  /// Keys that are one for Swift (canonically equivalent) and not for others are one here: ``labelList`` has all.
  public let labels: [String: String]
  public let labelList: [(key: String, value: String)]
  /// The lowest first.
  public let layers: [ImageLayer]
  /// Digests of its config and layers that are not in the store.
  public let missing: [String]

  init(taking raw: OpaquePointer) throws {
    handle = Handle("image", raw) { bl_image_free($0) }
    func all(_ field: Int32) -> [String] { texts(bl_image_text_count(raw, UInt32(field))) { bl_image_text(raw, UInt32(field), $0) } }
    func one(_ field: Int32) -> String? { bl_image_text(raw, UInt32(field), 0).map { String(cString: $0) } }
    name = one(BL_IMAGE_NAME)
    familiarName = one(BL_IMAGE_FAMILIAR_NAME)
    manifestDigest = one(BL_IMAGE_MANIFEST_DIGEST) ?? ""
    configDigest = one(BL_IMAGE_CONFIG_DIGEST) ?? ""
    indexDigest = one(BL_IMAGE_INDEX_DIGEST)
    configJSON = one(BL_IMAGE_CONFIG_JSON)
    created = one(BL_IMAGE_CREATED)
    os = one(BL_IMAGE_OS)
    architecture = one(BL_IMAGE_ARCHITECTURE)
    variant = one(BL_IMAGE_VARIANT)
    entrypoint = all(BL_IMAGE_ENTRYPOINT)
    cmd = all(BL_IMAGE_CMD)
    env = all(BL_IMAGE_ENV)
    workingDir = one(BL_IMAGE_WORKING_DIR)
    user = one(BL_IMAGE_USER)
    stopSignal = one(BL_IMAGE_STOP_SIGNAL)
    exposedPorts = all(BL_IMAGE_EXPOSED_PORT)
    volumes = all(BL_IMAGE_VOLUME)
    labelList = zip(all(BL_IMAGE_LABEL_KEY), all(BL_IMAGE_LABEL_VALUE)).map { ($0, $1) }
    labels = Dictionary(labelList.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    missing = all(BL_IMAGE_MISSING)
    layers = try (0..<bl_image_layer_count(raw)).map { index in
      var info = bl_image_layer_info_init()
      try call { bl_image_layer(raw, index, &info, $0) }
      return ImageLayer(
        digest: String(cString: info.digest), diffID: info.diff_id.map { String(cString: $0) },
        mediaType: String(cString: info.media_type), sizeBytes: info.size_bytes)
    }
  }

  /// What a guest's init starts: the config's command, with the user looked up in the assembled root file system.
  public func process(rootfs: String) throws -> ImageProcess {
    let rootfs = try plain(rootfs, "rootfs")
    return try handle.use { image in
      let raw = try make { bl_image_process(nil, image, rootfs, $0, $1) }
      defer { bl_process_free(raw) }
      return try ImageProcess(raw)
    }
  }

  public func close() { handle.close() }
}

/// Texts by index, until there is none.
func texts(_ count: Int, _ at: (Int) -> UnsafePointer<CChar>?) -> [String] {
  (0..<count).compactMap { at($0).map { String(cString: $0) } }
}

public struct ImageLayer: Sendable {
  public let digest: String
  /// The digest uncompressed; `nil` where the config does not say it.
  public let diffID: String?
  public let mediaType: String
  public let sizeBytes: UInt64
}

/// How much room an image takes, in bytes, and when it was used.
public struct ImageUsage: Sendable {
  /// Seconds since 1970; `nil` where the image was opened by its digest.
  public let taggedSeconds, lastUsedSeconds: Int64?
  public let compressedBytes, extractedBytes: UInt64
  /// The part of ``compressedBytes`` that other images use too, and the rest.
  public let sharedBytes, uniqueBytes: UInt64
}

/// An image's program, as it is to be started.
public struct ImageProcess: Sendable {
  public let args, env: [String]
  public let cwd: String
  /// `nil` where the user is not in the image's /etc/passwd.
  public let home: String?
  public let stopSignal: String?
  public let uid, gid: UInt32
  public let additionalGIDs: [UInt32]
  /// The `process` object of an OCI runtime configuration.
  public let runtimeJSON: String

  init(_ raw: OpaquePointer) throws {
    func one(_ field: Int32) -> String? { bl_process_text(raw, UInt32(field), 0).map { String(cString: $0) } }
    func all(_ field: Int32) -> [String] {
      texts(bl_process_text_count(raw, UInt32(field))) { bl_process_text(raw, UInt32(field), $0) }
    }
    args = all(BL_PROCESS_ARG)
    env = all(BL_PROCESS_ENV)
    cwd = one(BL_PROCESS_CWD) ?? "/"
    home = one(BL_PROCESS_HOME)
    stopSignal = one(BL_PROCESS_STOP_SIGNAL)
    runtimeJSON = one(BL_PROCESS_RUNTIME_JSON) ?? ""
    var user = bl_process_user_init()
    try call { bl_process_get_user(raw, &user, $0) }
    (uid, gid) = (user.uid, user.gid)
    additionalGIDs = Array(UnsafeBufferPointer(start: user.additional_gids, count: user.additional_gid_count))
  }
}

extension Storage {
  /// Opens an image by a name, or its manifest's digest.
  public func openImage(_ name: String) throws -> Image {
    let name = try plain(name, "name")
    return try Image(taking: try handle.use { storage in try make { bl_image_open(storage, name, $0, $1) } })
  }

  /// The names of all images.
  public func images() throws -> [String] {
    names(taking: try handle.use { storage in try make { bl_image_list(storage, $0, $1) } })
  }

  /// Gives a complete image a name, which another may have had.
  public func tagImage(_ name: String, manifestDigest: String) throws {
    let (name, digest) = (try plain(name, "name"), try plain(manifestDigest, "manifestDigest"))
    try handle.use { storage in try call { bl_tag_image(storage, name, digest, $0) } }
  }

  /// Takes a name away. What nothing else reaches goes with the next collection.
  public func removeImage(_ name: String) throws {
    let name = try plain(name, "name")
    try handle.use { storage in try call { bl_remove_image(storage, name, $0) } }
  }

  public func usage(of image: Image) async throws -> ImageUsage { try await running { _ in try self.usage(of: image) } }

  public func usage(of image: Image) throws -> ImageUsage {
    try handle.use { storage in
      try image.handle.use { image in
        var usage = bl_image_usage_init()
        try call { bl_image_get_usage(storage, image, &usage, $0) }
        return ImageUsage(
          taggedSeconds: usage.tagged_seconds == 0 ? nil : usage.tagged_seconds,
          lastUsedSeconds: usage.last_used_seconds == 0 ? nil : usage.last_used_seconds,
          compressedBytes: usage.compressed_bytes, extractedBytes: usage.extracted_bytes, sharedBytes: usage.shared_bytes,
          uniqueBytes: usage.unique_bytes)
      }
    }
  }
}
