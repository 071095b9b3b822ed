import CBoxliteImages

/// How files come into a root file system.
public enum RootfsMode: Sendable {
  case copy
  /// Shared blocks, where the file system has that.
  case reflink
  /// Further names of the store's files. Only to be read.
  case hardlink
  /// Straight from the blobs.
  case direct

  var c: UInt32 {
    switch self {
    case .copy: UInt32(BL_ROOTFS_MODE_COPY)
    case .reflink: UInt32(BL_ROOTFS_MODE_REFLINK)
    case .hardlink: UInt32(BL_ROOTFS_MODE_HARDLINK)
    case .direct: UInt32(BL_ROOTFS_MODE_DIRECT)
    }
  }
}

/// How to assemble a root file system.
public struct RootfsOptions: Sendable {
  public var mode = RootfsMode.copy
  /// How devices and owners are said, and what each layer may cost.
  public var tree = TreeOptions()
  /// Replace a destination that is not empty.
  public var replaces = false
  /// Fill a directory that is there, as is done with a mount point.
  public var fillsExisting = false
  /// Where the metadata record goes; `nil` is beside the destination for an ordinary user, and nowhere for root.
  public var recordPath: String?
  public var timeout: Duration?

  public init() {}
}

/// What an assembly did.
public struct Rootfs: Sendable {
  public let layers, entries: UInt64
  public let anomalies: Anomalies
}

/// What kind of overlay mount it is to be.
public struct OverlayOptions: Sendable {
  /// What the directories look like. Its whiteouts are `.userOverlay` for a mount with `userxattr`; anything else is `.overlay`.
  public var tree = TreeOptions()
  /// How long the layers are held; `nil` is a day.
  public var leaseTime: Duration?
  public var timeout: Duration?

  public init() {}
}

/// What an overlay mount needs.
public struct Overlay: Sendable {
  /// `lowerdir=…`; relative to `mountDirectory`, unless that is `nil`.
  public let mountOptions: String
  /// The directory to mount from; `nil` where the options have absolute paths. `chdir` is of all threads.
  public let mountDirectory: String?
  /// Absolute, the uppermost first; for fsconfig(2).
  public let lowerDirectories: [String]
  /// Holds the layers: to be extended as long as they are mounted, and released after that.
  public let lease: Lease
}

extension Storage {
  /// Makes the root file system of an image, which appears at its place when it is whole.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func assembleRootfs(
    _ image: Image, at destination: String, options: RootfsOptions = RootfsOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws -> Rootfs {
    let (arena, told, destination) = (Arena(), told(progress), try plain(destination, "destination"))
    return try handle.use { storage in
      try image.handle.use { image in
        try withExtendedLifetime((arena, cancel)) {
          var c = bl_rootfs_options_init()
          c.flags = flags(
            (options.replaces, BL_ROOTFS_REPLACE), (options.fillsExisting, BL_ROOTFS_INTO_EXISTING))
          c.mode = options.mode.c
          c.tree = options.tree.c(arena)
          c.record_path = try arena.text(options.recordPath, "recordPath")
          c.cancel = cancel?.raw.pointer
          c.timeout_ms = milliseconds(options.timeout)
          if let told {
            c.progress = onProgress
            c.progress_data = told.pointer
          }
          var result = bl_rootfs_result_init()
          try call(told) { bl_assemble_rootfs(storage, image, destination, &c, &result, $0) }
          return Rootfs(layers: result.layers, entries: result.entries, anomalies: Anomalies(rawValue: result.anomalies))
        }
      }
    }
  }

  @discardableResult
  public func assembleRootfs(
    _ image: Image, at destination: String, options: RootfsOptions = RootfsOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> Rootfs {
    try await running { try self.assembleRootfs(image, at: destination, options: options, cancel: $0, progress: progress) }
  }

  /// Extracts an image's layers for an overlay mount.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func prepareOverlay(
    _ image: Image, options: OverlayOptions = OverlayOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> Overlay {
    let (arena, told) = (Arena(), told(progress))
    return try handle.use { storage in
      try image.handle.use { image in
        try withExtendedLifetime((arena, cancel)) {
          var c = bl_overlay_options_init()
          c.tree = options.tree.c(arena)
          c.lease_seconds = seconds(options.leaseTime)
          c.cancel = cancel?.raw.pointer
          c.timeout_ms = milliseconds(options.timeout)
          if let told {
            c.progress = onProgress
            c.progress_data = told.pointer
          }
          var overlay: OpaquePointer?
          var lease: OpaquePointer?
          try call(told) { bl_prepare_overlay(storage, image, &c, &overlay, &lease, $0) }
          guard let overlay, let lease else { throw BoxliteError(.internal, "a call that succeeded gave no overlay") }
          defer { bl_overlay_free(overlay) }
          return Overlay(
            mountOptions: String(cString: bl_overlay_mount_options(overlay)),
            mountDirectory: bl_overlay_mount_dir(overlay).map { String(cString: $0) },
            lowerDirectories: (0..<bl_overlay_lower_dir_count(overlay)).map {
              String(cString: bl_overlay_lower_dir(overlay, $0))
            },
            lease: Lease(taking: lease))
        }
      }
    }
  }

  public func prepareOverlay(
    _ image: Image, options: OverlayOptions = OverlayOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> Overlay {
    try await running { try self.prepareOverlay(image, options: options, cancel: $0, progress: progress) }
  }
}
