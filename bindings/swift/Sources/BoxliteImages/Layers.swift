import CBoxliteImages
import Dispatch

/// What a tree looks like, and what a layer may cost.
public struct TreeOptions: Sendable {
  /// As root, make device nodes; otherwise a device is an empty file.
  public var makesDeviceNodes = false
  /// Refuse a layer with any anomaly.
  public var isStrict = false
  /// Write owners and modes to `user.containers.override_stat`.
  public var overridesStat = false
  /// How the tree of a layer says what lower layers lose.
  public var whiteouts = Whiteouts.markers
  /// What an extracted layer is. With `.erofs` the other fields about the look of a tree must have their defaults.
  public var form = LayerForm.directory
  public var limits: LayerLimits?

  public init() {}

  func c(_ arena: Arena) -> UnsafePointer<bl_tree_options> {
    var c = bl_tree_options_init()
    c.flags = flags(
      (makesDeviceNodes, BL_TREE_DEVICE_NODES), (isStrict, BL_TREE_STRICT), (overridesStat, BL_TREE_OVERRIDE_STAT))
    c.whiteouts = whiteouts.c
    c.form = form.c
    if let limits { c.limits = UnsafePointer(arena.pointer([limits.c()])) }
    return UnsafePointer(arena.pointer([c]))
  }
}

/// How to extract a layer.
public struct ExtractOptions: Sendable {
  public var tree = TreeOptions()
  /// The layer's file; `nil` is the stored one.
  public var tarballPath: String?
  /// What the layer must hash to uncompressed.
  public var diffID: String?
  public var timeout: Duration?

  public init() {}

  func c(_ arena: Arena, _ cancel: CancelToken?, _ progress: Callback?) throws -> bl_extract_options {
    var c = bl_extract_options_init()
    c.tree = tree.c(arena)
    c.tarball_path = try arena.text(tarballPath, "tarballPath")
    c.diff_id = try arena.text(diffID, "diffID")
    c.cancel = cancel?.raw.pointer
    c.timeout_ms = milliseconds(timeout)
    if let progress {
      c.progress = onProgress
      c.progress_data = progress.pointer
    }
    return c
  }
}

/// What was odd about a layer, and accepted.
public struct Anomalies: OptionSet, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  init(_ bit: Int32) { rawValue = UInt64(bit) }

  public static let trailingCompressed = Anomalies(BL_ANOMALY_TRAILING_COMPRESSED)
  public static let trailingArchive = Anomalies(BL_ANOMALY_TRAILING_ARCHIVE)
  public static let skippedXattr = Anomalies(BL_ANOMALY_SKIPPED_XATTR)
  public static let skippedAufs = Anomalies(BL_ANOMALY_SKIPPED_AUFS)
  public static let selfLink = Anomalies(BL_ANOMALY_SELF_LINK)
  public static let ignoredHeader = Anomalies(BL_ANOMALY_IGNORED_HEADER)
  public static let devicePlaceholder = Anomalies(BL_ANOMALY_DEVICE_PLACEHOLDER)
  public static let ownerNotSet = Anomalies(BL_ANOMALY_OWNER_NOT_SET)
  public static let lowerLink = Anomalies(BL_ANOMALY_LOWER_LINK)
  public static let longWhiteout = Anomalies(BL_ANOMALY_LONG_WHITEOUT)
  public static let copiedLink = Anomalies(BL_ANOMALY_COPIED_LINK)
}

/// What an extraction did.
public struct Extraction: Sendable {
  /// 0 where it was cached, as are the bytes.
  public let entries, bytesIn, bytesOut: UInt64
  public let anomalies: Anomalies
  /// The tree was there already.
  public let isCached: Bool
  /// The digest of the layer uncompressed; `nil` where it is cached and not known.
  public let diffID: String?
}

extension Storage {
  /// Unpacks a layer, verified, once for all processes.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func extractLayer(
    _ digest: String, options: ExtractOptions = ExtractOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> Extraction {
    let (arena, told, digest) = (Arena(), told(progress), try plain(digest, "digest"))
    return try handle.use { storage in
      try withExtendedLifetime((arena, cancel)) {
        var c = try options.c(arena, cancel, told)
        var result = bl_extract_result_init()
        try call(told) { bl_extract_layer(storage, digest, &c, &result, $0) }
        let diffID = string(result.diff_id)
        return Extraction(
          entries: result.entries, bytesIn: result.bytes_in, bytesOut: result.bytes_out,
          anomalies: Anomalies(rawValue: result.anomalies), isCached: result.cached != 0, diffID: diffID.isEmpty ? nil : diffID)
      }
    }
  }

  @discardableResult
  public func extractLayer(
    _ digest: String, options: ExtractOptions = ExtractOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> Extraction {
    try await running { try self.extractLayer(digest, options: options, cancel: $0, progress: progress) }
  }

  /// Where ``extractLayer(_:options:)`` puts a layer's tree of this kind.
  public func extractedPath(_ digest: String, tree: TreeOptions = TreeOptions()) throws -> String {
    let (arena, digest) = (Arena(), try plain(digest, "digest"))
    return try handle.use { storage in
      try withExtendedLifetime(arena) {
        let tree = tree.c(arena)
        return try text { bl_extracted_path(storage, digest, tree, $0, $1) }
      }
    }
  }

  /// Lists what an extracted layer holds, in the order of the archive, without a look at its tree.
  public func layerEntries(_ digest: String, tree: TreeOptions = TreeOptions()) throws -> LayerEntries {
    let (arena, digest) = (Arena(), try plain(digest, "digest"))
    return try handle.use { storage in
      try withExtendedLifetime(arena) {
        let tree = tree.c(arena)
        return LayerEntries(taking: try make { bl_layer_entries_open(storage, digest, tree, $0, $1) })
      }
    }
  }
}

/// What is in a C array of characters, up to its NUL.
func string<T>(_ chars: T) -> String {
  withUnsafeBytes(of: chars) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// One path of a layer, and everything that the layer says of it.
public struct LayerEntry: Sendable {
  public enum Kind: UInt32, Sendable {
    case file = 1, directory, symlink, hardlink, lowerLink, fifo, characterDevice, blockDevice, whiteout, opaque
  }

  /// `nil` for a kind that this binding does not know: something to skip.
  public let kind: Kind?
  /// A directory without an entry of its own.
  public let isImplied: Bool
  /// Relative to the root of the layer; what is not UTF-8 in it is replaced. ``pathBytes`` has it as it is.
  public var path: String { String(decoding: pathBytes, as: UTF8.self) }
  public let pathBytes: [UInt8]
  /// The target of a link.
  public var link: String { String(decoding: linkBytes, as: UTF8.self) }
  public let linkBytes: [UInt8]
  public let mode, uid, gid: UInt32
  /// Seconds since 1970, and nanoseconds after that.
  public let mtimeSeconds: Int64
  public let mtimeNanoseconds: UInt32
  public let sizeBytes: UInt64
  public let deviceMajor, deviceMinor: UInt32
  public let xattrs: [Xattr]

  /// An extended attribute.
  public struct Xattr: Sendable {
    /// What is not UTF-8 in it is replaced.
    public var name: String { String(decoding: nameBytes, as: UTF8.self) }
    public let nameBytes, value: [UInt8]
  }

  init(_ c: bl_layer_entry) {
    kind = Kind(rawValue: c.kind)
    isImplied = c.flags & UInt32(BL_ENTRY_FLAG_IMPLIED) != 0
    pathBytes = Self.bytes(c.path)
    linkBytes = Self.bytes(c.link)
    (mode, uid, gid) = (c.mode, c.uid, c.gid)
    (mtimeSeconds, mtimeNanoseconds) = (c.mtime_seconds, c.mtime_nanoseconds)
    sizeBytes = c.size_bytes
    (deviceMajor, deviceMinor) = (c.device_major, c.device_minor)
    xattrs = UnsafeBufferPointer(start: c.xattrs, count: c.xattr_count).map {
      Xattr(nameBytes: Self.bytes($0.name), value: Array(UnsafeBufferPointer(start: $0.value, count: $0.value_len)))
    }
  }

  private static func bytes(_ text: UnsafePointer<CChar>?) -> [UInt8] {
    guard let text else { return [] }
    var end = text
    while end.pointee != 0 { end += 1 }
    return UnsafeRawBufferPointer(start: text, count: end - text).map { $0 }
  }
}

/// The entries of an extracted layer, one after the other.
public final class LayerEntries: Sendable {
  private let handle: Handle
  /// What C gives is valid until the next call.
  private let lock = DispatchQueue(label: "boxlite.entries")

  init(taking raw: OpaquePointer) { handle = Handle("list", raw) { bl_layer_entries_free($0) } }

  /// The next entry; `nil` after the last one.
  public func next() throws -> LayerEntry? {
    try handle.use { entries in
      try lock.sync {
        var entry = bl_layer_entry_init()
        try call { bl_layer_entries_next(entries, &entry, $0) }
        return entry.kind == UInt32(BL_ENTRY_END) ? nil : LayerEntry(entry)
      }
    }
  }

  public func close() { handle.close() }
}

/// `for try await entry in entries`: goes on where ``next()`` came to.
extension LayerEntries: AsyncSequence {
  public struct AsyncIterator: AsyncIteratorProtocol {
    let entries: LayerEntries
    public func next() async throws -> LayerEntry? { try entries.next() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(entries: self) }
}
