import CBoxliteImages

/// What was changed.
public enum CommitSource: Sendable {
  /// The upper directory of an overlay, in which nobody writes any more.
  case upper(String)
  /// A directory with all of the image, which is compared with what the base's records say.
  case tree(String)
  /// The archive of a layer, plain or compressed, in a file or a pipe.
  case archive(String)

  func c(_ arena: Arena) throws -> bl_commit_source {
    var c = bl_commit_source_init()
    let (kind, path) =
      switch self {
      case .upper(let path): (BL_COMMIT_UPPER, path)
      case .tree(let path): (BL_COMMIT_TREE, path)
      case .archive(let path): (BL_COMMIT_ARCHIVE, path)
      }
    c.kind = UInt32(kind)
    c.path = try arena.text(path, "path")
    return c
  }
}

/// How a layer is stored.
public enum LayerCompression: Sendable {
  /// zstd, and gzip on a base with Docker's media types, which have no zstd.
  case byBase
  /// The fastest to write and to read. Docker reads it from 23.0 on.
  case zstd
  case gzip
  case none

  var c: UInt32 {
    switch self {
    case .byBase: UInt32(BL_COMPRESSION_DEFAULT)
    case .zstd: UInt32(BL_COMPRESSION_ZSTD)
    case .gzip: UInt32(BL_COMPRESSION_GZIP)
    case .none: UInt32(BL_COMPRESSION_NONE)
    }
  }
}

/// What of a config is to be another than the base's. What is `nil`, or empty, stays.
public struct ConfigChanges: Sendable {
  /// The command's first words, and the arguments; an empty list is none.
  public var entrypoint, cmd: [String]?
  /// Variables as `NAME=value`, in place of those of the same name; names of those that go.
  public var env: [String] = [], unsetEnv: [String] = []
  public var workingDir, user, stopSignal: String?
  /// In place of those of the same key; keys of those that go.
  public var labels: [String: String] = [:], unsetLabels: [String] = []
  /// Further ports, as `8080/tcp`, and directories with data of their own.
  public var exposedPorts: [String] = [], volumes: [String] = []

  public init() {}

  func c(_ arena: Arena) throws -> bl_config_changes {
    var c = bl_config_changes_init()
    c.entrypoint = try words(entrypoint, "entrypoint", arena)
    c.cmd = try words(cmd, "cmd", arena)
    c.env = try arena.list(env, "env")
    c.unset_env = try arena.list(unsetEnv, "unsetEnv")
    c.working_dir = try arena.text(workingDir, "workingDir")
    c.user = try arena.text(user, "user")
    c.labels = try arena.list(pairs(labels), "labels")
    c.unset_labels = try arena.list(unsetLabels, "unsetLabels")
    c.exposed_ports = try arena.list(exposedPorts, "exposedPorts")
    c.volumes = try arena.list(volumes, "volumes")
    c.stop_signal = try arena.text(stopSignal, "stopSignal")
    return c
  }
}

/// A list that may be empty; NULL for `nil`.
private func words(_ words: [String]?, _ name: String, _ arena: Arena) throws -> UnsafePointer<UnsafePointer<CChar>?>? {
  guard let words else { return nil }
  return try arena.list(words, name) ?? UnsafePointer(arena.pointer([nil]))
}

/// As "key=value". A key that would be another one is passed as an empty one, which is refused.
private func pairs(_ all: [String: String]) -> [String] {
  all.map { "\($0.key.contains("=") ? "" : $0.key)=\($0.value)" }.sorted()
}

/// How to make an image of another one.
public struct CommitOptions: Sendable {
  /// What it is called. Without a name a collection may take it, unless a lease holds it.
  public var name: String?
  public var compression = LayerCompression.byBase
  /// 0 is 3 for zstd, and 6 for gzip.
  public var level: Int32 = 0
  /// Since 1970: when it was made, and the latest time of any file. The same changes are the same image then. `nil` is now.
  public var epochSeconds: Int64?
  /// Who made it; what was done, and by what, for the history.
  public var author, message, createdBy: String?
  /// What the config says otherwise.
  public var config = ConfigChanges()
  /// What the manifest says besides.
  public var annotations: [String: String] = [:]
  /// Read the files of a tree that look as they were, too.
  public var comparesContent = false
  /// Go into other file systems that are mounted below.
  public var crossesFileSystems = false
  /// The overlay was mounted with `userxattr`.
  public var hasUserXattrs = false
  /// The new layer is extracted too, in this form. Its files share the source's blocks where the file system can.
  public var extract: TreeOptions?
  /// What the layer may cost.
  public var limits: LayerLimits?
  public var timeout: Duration?

  public init() {}

  func c(
    _ arena: Arena, _ counts: UnsafeMutablePointer<bl_commit_counts>, _ cancel: CancelToken?, _ told: Told<TransferProgress>?
  ) throws -> bl_commit_options {
    var c = bl_commit_options_init()
    c.flags = flags(
      (epochSeconds != nil, BL_COMMIT_FLAG_EPOCH), (crossesFileSystems, BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS),
      (hasUserXattrs, BL_COMMIT_FLAG_USERXATTR), (comparesContent, BL_COMMIT_FLAG_COMPARE_CONTENT))
    c.name = try arena.text(name, "name")
    c.compression = compression.c
    c.level = level
    c.epoch_seconds = epochSeconds ?? 0
    c.author = try arena.text(author, "author")
    c.message = try arena.text(message, "message")
    c.created_by = try arena.text(createdBy, "createdBy")
    c.changes = UnsafePointer(arena.pointer([try config.c(arena)]))
    c.annotations = try arena.list(pairs(annotations), "annotations")
    c.counts = counts
    if let extract { c.extract = extract.c(arena) }
    if let limits { c.limits = UnsafePointer(arena.pointer([limits.c()])) }
    c.cancel = cancel?.raw.pointer
    c.timeout_ms = milliseconds(timeout)
    if let told {
      c.progress = onProgress
      c.progress_data = told.pointer
    }
    return c
  }
}

/// An image that was made of another one.
public struct CommittedImage: Sendable {
  public let image: Image
  /// Of its new layer.
  public let entries: UInt64
  /// What was left out of that: sockets, and directories on which another file system is mounted.
  public let sockets, otherFileSystems: UInt64
}

extension Storage {
  /// Makes an image of what was changed: the base's layers, or none, and one layer more.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func commitImage(
    _ base: Image?, source: CommitSource, options: CommitOptions = CommitOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws -> CommittedImage {
    let arena = Arena()
    var source = try source.c(arena)
    return try committed(base, options, arena, cancel, progress) { bl_commit_image($0, $1, &source, $2, $3, $4) }
  }

  public func commitImage(
    _ base: Image?, source: CommitSource, options: CommitOptions = CommitOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> CommittedImage {
    try await running { try self.commitImage(base, source: source, options: options, cancel: $0, progress: progress) }
  }

  /// Makes one layer of all from one on, counted from 0 at the bottom.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func squashImage(
    _ image: Image, from layer: Int = 0, options: CommitOptions = CommitOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws -> CommittedImage {
    try committed(image, options, Arena(), cancel, progress) { bl_squash_image($0, $1, layer, $2, $3, $4) }
  }

  public func squashImage(
    _ image: Image, from layer: Int = 0, options: CommitOptions = CommitOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> CommittedImage {
    try await running { try self.squashImage(image, from: layer, options: options, cancel: $0, progress: progress) }
  }

  /// Makes an image with the same layers, and another config or annotations.
  public func editImage(_ image: Image, options: CommitOptions) throws -> CommittedImage {
    try committed(image, options, Arena(), nil, nil) { bl_edit_image($0, $1, $2, $3, $4) }
  }

  private func committed(
    _ base: Image?, _ options: CommitOptions, _ arena: Arena, _ cancel: CancelToken?, _ progress: ProgressClosure?,
    _ commit: (
      OpaquePointer?, OpaquePointer?, UnsafePointer<bl_commit_options>?, UnsafeMutablePointer<OpaquePointer?>?,
      UnsafeMutablePointer<OpaquePointer?>?
    ) -> bl_status
  ) throws -> CommittedImage {
    let (told, counts) = (told(progress), arena.pointer([bl_commit_counts_init()]))
    return try handle.use { storage in
      func make(_ base: OpaquePointer?) throws -> CommittedImage {
        try withExtendedLifetime((arena, cancel)) {
          var c = try options.c(arena, counts, cancel, told)
          var image: OpaquePointer?
          try call(told) { commit(storage, base, &c, &image, $0) }
          guard let image else { throw BoxliteError(.internal, "a call that succeeded gave no image") }
          let n = counts.pointee
          return CommittedImage(
            image: try Image(taking: image), entries: n.entries, sockets: n.sockets, otherFileSystems: n.other_file_systems)
        }
      }
      guard let base else { return try make(nil) }
      return try base.handle.use { try make($0) }
    }
  }
}
