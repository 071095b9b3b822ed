import CBoxliteImages

/// The file system of a disk.
public enum DiskFormat: Sendable {
  /// What every Linux guest mounts. In one raw file.
  case ext4
  /// For guests with Linux 5.4 or newer that have it. Read-only.
  case erofs

  var c: UInt32 {
    switch self {
    case .ext4: UInt32(BL_DISK_EXT4)
    case .erofs: UInt32(BL_DISK_EROFS)
    }
  }
}

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

/// Something that a disk has on top of its image.
public struct DiskFile: Sendable {
  /// What it is.
  public enum Content: Sendable {
    case data([UInt8])
    /// With the content of a file of the host's.
    case copy(of: String)
    /// What the image has in it stays.
    case directory
    case symlink(to: String)
  }

  /// Where in the image. It leads through the image's symlinks and never out.
  public var path: String
  public var content: Content
  /// 0 is 0644, and 0755 of a directory.
  public var mode: UInt32 = 0
  public var uid: UInt32 = 0
  public var gid: UInt32 = 0
  /// Since 1970.
  public var mtimeSeconds: UInt64 = 0

  public init(path: String, content: Content) {
    self.path = path
    self.content = content
  }

  func c(_ arena: Arena) throws -> bl_disk_file {
    var c = bl_disk_file_init()
    c.path = try arena.text(path, "path")
    (c.mode, c.uid, c.gid, c.mtime_seconds) = (mode, uid, gid, mtimeSeconds)
    switch content {
    case .data(let bytes):
      c.data = UnsafeRawPointer(arena.pointer(bytes))
      c.data_len = bytes.count
    case .copy(let source): c.source = try arena.text(source, "source")
    case .directory: c.kind = UInt32(BL_DISK_FILE_DIRECTORY)
    case .symlink(let target):
      c.kind = UInt32(BL_DISK_FILE_SYMLINK)
      c.target = try arena.text(target, "target")
    }
    return c
  }
}

/// What disk it is to be.
public struct DiskOptions: Sendable {
  public var format = DiskFormat.ext4
  /// A merged one is EROFS.
  public var layout = DiskLayout.flat
  /// Replace what has the destination's name.
  public var replaces = false
  /// Refuse a layer with any anomaly.
  public var isStrict = false
  /// Leave no disks of layers in the store that are not there yet.
  public var isDirect = false
  /// Bytes of an ext4; 0 is what it needs, and what is to be free.
  public var sizeBytes: UInt64 = 0
  /// What is to be free in an ext4.
  public var freeBytes: UInt64 = 0
  public var freeInodes: UInt64 = 0
  /// An ext4 with a journal, for guests that write: its bytes; 0 is as many as mke2fs takes.
  public var journalBytes: UInt64?
  /// An ext4 that can grow while it is mounted.
  public var isGrowable = false
  /// Hashes of all blocks behind the file system, for dm-verity.
  public var hasVerity = false
  /// An archive that goes on top of the image as a layer would.
  public var topLayer: String?
  /// What goes on top of that, each taking the place of those before it.
  public var files: [DiskFile] = []
  /// At most 16 bytes in ext4 and 15 in EROFS.
  public var label: String?
  /// `nil` is one that is made of the layers and the options.
  public var uuid: String?
  /// Seconds since 1970: what was modified later has this time; 0 is not to change any.
  public var maxMtimeSeconds: Int64 = 0
  /// How long ``Storage/keepDisk(_:options:progress:)`` has the disk held; `nil` is a day.
  public var leaseTime: Duration?
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
  public let kernelArguments: String?
  /// What a guest verifies it by: the root of the hashes, and the table for dmsetup; `nil` without `hasVerity`.
  public let rootHash, verityTable: String?
  /// Bytes of the device, and those that its files take.
  public let sizeBytes, allocatedBytes: UInt64
  public let entries: UInt64
  public let anomalies: Anomalies
  /// The store kept it already.
  public let isCached: Bool
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
    kernelArguments = bl_disk_text(raw, UInt32(BL_DISK_TEXT_KERNEL_ARGS)).map { String(cString: $0) }
    rootHash = bl_disk_text(raw, UInt32(BL_DISK_TEXT_ROOT_HASH)).map { String(cString: $0) }
    verityTable = bl_disk_text(raw, UInt32(BL_DISK_TEXT_VERITY_TABLE)).map { String(cString: $0) }
    (sizeBytes, allocatedBytes, entries) = (info.size_bytes, info.allocated_bytes, info.entries)
    anomalies = Anomalies(rawValue: info.anomalies)
    isCached = info.cached != 0
    parts = try (0..<Int(info.parts)).map { index in
      var part = bl_disk_part_init()
      try call { bl_disk_get_part(raw, index, &part, $0) }
      return DiskPart(
        path: String(cString: part.path), offsetBytes: part.offset_bytes, lengthBytes: part.length_bytes)
    }
  }
}

/// A disk that the store keeps.
public struct KeptDisk: Sendable {
  public let disk: Disk
  /// Holds the disk: to be extended as long as a guest has it, and released after that.
  public let lease: Lease
}

extension DiskOptions {
  func c(_ arena: Arena, _ cancel: CancelToken?, _ told: Told<TransferProgress>?) throws -> bl_disk_options {
    var c = bl_disk_options_init()
    c.flags = flags(
      (replaces, BL_DISK_FLAG_REPLACE), (isStrict, BL_DISK_FLAG_STRICT), (isDirect, BL_DISK_FLAG_DIRECT),
      (journalBytes != nil, BL_DISK_FLAG_JOURNAL), (isGrowable, BL_DISK_FLAG_GROWABLE),
      (hasVerity, BL_DISK_FLAG_VERITY))
    c.size_bytes = sizeBytes
    c.free_bytes = freeBytes
    c.free_inodes = freeInodes
    c.journal_bytes = journalBytes ?? 0
    c.format = format.c
    c.layout = layout.c
    c.top_layer_path = try arena.text(topLayer, "topLayer")
    let all = arena.pointer(try files.map { try $0.c(arena) })
    if !files.isEmpty {
      let pointers: [UnsafePointer<bl_disk_file>?] = files.indices.map { UnsafePointer(all + $0) } + [nil]
      c.files = UnsafePointer(arena.pointer(pointers))
    }
    c.label = try arena.text(label, "label")
    c.uuid = try arena.text(uuid, "uuid")
    c.max_mtime_seconds = maxMtimeSeconds
    c.lease_seconds = seconds(leaseTime)
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

extension Storage {
  /// Makes a disk of an image that a guest mounts; a file, or with `.merged` a directory.
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
          var c = try options.c(arena, cancel, told)
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

  /// Makes an ext4 without content, for a guest that writes: a scratch disk or, over an image, the writable layer over a disk of
  /// it, with the directories `upper` and `work`. The options say its size.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func formatDisk(
    at destination: String, over image: Image? = nil, options: DiskOptions, cancel: CancelToken? = nil
  ) throws -> Disk {
    let (arena, destination) = (Arena(), try plain(destination, "destination"))
    return try handle.use { storage in
      let format = { (image: OpaquePointer?) throws -> Disk in
        try withExtendedLifetime((arena, cancel)) {
          var c = try options.c(arena, cancel, nil)
          var disk: OpaquePointer?
          try call { bl_format_disk(storage, image, destination, &c, &disk, $0) }
          guard let disk else { throw BoxliteError(.internal, "a call that succeeded gave no disk") }
          defer { bl_disk_free(disk) }
          return try Disk(disk)
        }
      }
      guard let image else { return try format(nil) }
      return try image.handle.use { try format($0) }
    }
  }

  @discardableResult
  public func formatDisk(at destination: String, over image: Image? = nil, options: DiskOptions) async throws -> Disk {
    try await running { try self.formatDisk(at: destination, over: image, options: options, cancel: $0) }
  }

  /// Makes a disk as ``createDisk(_:at:options:progress:)`` does, in the store, which keeps it; one that is there is found again.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func keepDisk(
    _ image: Image, options: DiskOptions = DiskOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> KeptDisk {
    let (arena, told) = (Arena(), told(progress))
    return try handle.use { storage in
      try image.handle.use { image in
        try withExtendedLifetime((arena, cancel)) {
          var c = try options.c(arena, cancel, told)
          var (disk, lease): (OpaquePointer?, OpaquePointer?) = (nil, nil)
          try call(told) { bl_keep_disk(storage, image, &c, &disk, &lease, $0) }
          guard let disk, let lease else { throw BoxliteError(.internal, "a call that succeeded gave no disk") }
          let held = Lease(taking: lease)
          defer { bl_disk_free(disk) }
          return KeptDisk(disk: try Disk(disk), lease: held)
        }
      }
    }
  }

  public func keepDisk(
    _ image: Image, options: DiskOptions = DiskOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> KeptDisk {
    try await running { try self.keepDisk(image, options: options, cancel: $0, progress: progress) }
  }

  /// What a guest's init starts, where the image's layers are disks: its user is looked up in these.
  public func process(of image: Image) throws -> ImageProcess {
    try handle.use { storage in
      try image.handle.use { image in
        let raw = try make { bl_image_process(storage, image, nil, $0, $1) }
        defer { bl_process_free(raw) }
        return try ImageProcess(raw)
      }
    }
  }
}
