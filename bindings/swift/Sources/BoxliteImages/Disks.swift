import CBoxliteImages

/// What a disk is made of.
public enum DiskLayout: Sendable {
  /// One raw file with everything, in which there is nothing that a layer hides.
  case flat
  /// A directory: metadata, the layers' own disks, and a VMDK descriptor that puts them one behind the other.
  case merged

  var c: UInt32 {
    switch self {
    case .flat: UInt32(BL_DISK_LAYOUT_FLAT)
    case .merged: UInt32(BL_DISK_LAYOUT_MERGED)
    }
  }
}

/// What disk it is to be: a read-only EROFS file system.
public struct DiskOptions: Sendable {
  public var layout = DiskLayout.flat
  /// Replace what has the destination's name.
  public var replaces = false
  /// Refuse a layer with any anomaly.
  public var isStrict = false
  /// At most 15 bytes.
  public var label: String?
  /// `nil` is one that is made of the layers and the options.
  public var uuid: String?
  /// Seconds since 1970: what was modified later has this time; 0 is not to change any.
  public var maxMtimeSeconds: Int64 = 0
  /// What each layer may cost.
  public var limits: LayerLimits?
  public var timeout: Duration?

  public init() {}
}

/// A file that is a part of a disk, or all of it.
public struct DiskPart: Sendable {
  public let path: String
  /// Where on the device it begins, and how much of that it has, from its beginning on.
  public let offsetBytes, lengthBytes: UInt64
}

/// A disk that was made.
public struct Disk: Sendable {
  /// The file to attach.
  public let path: String
  /// What a VMM calls it: "raw" or "vmdk".
  public let format: String
  /// The file system, as mount(2) calls it.
  public let fileSystem: String
  public let uuid: String
  /// A digest of everything that the disk's bytes depend on.
  public let key: String
  /// For a Linux guest whose first virtio disk it is.
  public let kernelArguments: String
  /// Bytes of the device, and those that its files take.
  public let sizeBytes, allocatedBytes: UInt64
  public let entries: UInt64
  public let anomalies: Anomalies
  /// In the order of the device.
  public let parts: [DiskPart]

  init(_ raw: OpaquePointer) throws {
    let text = { (field: Int32) in bl_disk_text(raw, UInt32(field)).map { String(cString: $0) } ?? "" }
    var info = bl_disk_info_init()
    try call { bl_disk_get_info(raw, &info, $0) }
    path = text(BL_DISK_TEXT_PATH)
    format = text(BL_DISK_TEXT_FORMAT)
    fileSystem = text(BL_DISK_TEXT_FILE_SYSTEM)
    uuid = text(BL_DISK_TEXT_UUID)
    key = text(BL_DISK_TEXT_KEY)
    kernelArguments = text(BL_DISK_TEXT_KERNEL_ARGS)
    (sizeBytes, allocatedBytes, entries) = (info.size_bytes, info.allocated_bytes, info.entries)
    anomalies = Anomalies(rawValue: info.anomalies)
    parts = try (0..<Int(info.parts)).map { index in
      var part = bl_disk_part_init()
      try call { bl_disk_get_part(raw, index, &part, $0) }
      return DiskPart(
        path: String(cString: part.path), offsetBytes: part.offset_bytes, lengthBytes: part.length_bytes)
    }
  }
}

extension Storage {
  /// Makes a read-only disk of an image that a guest mounts; a file, or with `.merged` a directory.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func createDisk(
    _ image: Image, at destination: String, options: DiskOptions = DiskOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws -> Disk {
    let (arena, told, destination) = (Arena(), told(progress), try plain(destination, "destination"))
    return try handle.use { storage in
      try image.handle.use { image in
        try withExtendedLifetime((arena, cancel)) {
          var c = bl_disk_options_init()
          c.flags = flags((options.replaces, BL_DISK_FLAG_REPLACE), (options.isStrict, BL_DISK_FLAG_STRICT))
          c.format = UInt32(BL_DISK_EROFS)
          c.layout = options.layout.c
          c.label = try arena.text(options.label, "label")
          c.uuid = try arena.text(options.uuid, "uuid")
          c.max_mtime_seconds = options.maxMtimeSeconds
          if let limits = options.limits { c.limits = UnsafePointer(arena.pointer([limits.c()])) }
          c.cancel = cancel?.raw.pointer
          c.timeout_ms = milliseconds(options.timeout)
          if let told {
            c.progress = onProgress
            c.progress_data = told.pointer
          }
          var disk: OpaquePointer?
          try call(told) { bl_create_disk(storage, image, destination, &c, &disk, $0) }
          guard let disk else { throw BoxliteError(.internal, "a call that succeeded gave no disk") }
          defer { bl_disk_free(disk) }
          return try Disk(disk)
        }
      }
    }
  }

  @discardableResult
  public func createDisk(
    _ image: Image, at destination: String, options: DiskOptions = DiskOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> Disk {
    try await running { try self.createDisk(image, at: destination, options: options, cancel: $0, progress: progress) }
  }
}
