import CBoxliteImages

/// How to import images.
public struct ImportOptions: Sendable {
  /// Only the image of this name or tag.
  public var select: String?
  /// A name to give it instead of its own.
  public var name: String?
  /// "linux/arm64/v8"; `nil` is this machine's.
  public var platform: String?
  public var isPlatformStrict = false
  public var unpacks = true
  /// Layers of a folder may be its own files; see `BL_IMPORT_HARD_LINK`.
  public var usesHardLinks = false
  /// What the trees look like, and what each layer and the archive may cost.
  public var tree = TreeOptions()
  public var timeout: Duration?

  public init() {}

  func c(_ arena: Arena, _ cancel: CancelToken?, _ progress: Callback?) throws -> bl_import_options {
    var c = bl_import_options_init()
    c.flags = flags(
      (!unpacks, BL_IMPORT_NO_UNPACK), (isPlatformStrict, BL_IMPORT_STRICT_PLATFORM),
      (usesHardLinks, BL_IMPORT_HARD_LINK))
    c.select = try arena.text(select, "select")
    c.name = try arena.text(name, "name")
    c.platform = try arena.text(platform, "platform")
    c.tree = tree.c(arena)
    c.cancel = cancel?.raw.pointer
    c.timeout_ms = milliseconds(timeout)
    if let progress {
      c.progress = onProgress
      c.progress_data = progress.pointer
    }
    return c
  }
}

/// How to export images.
public struct ExportOptions: Sendable {
  /// An OCI layout in a folder, and not an archive.
  public var isFolder = false
  /// Replace what is at the path.
  public var replaces = false
  public var timeout: Duration?

  public init() {}
}

extension Storage {
  /// Stores the images of an OCI layout or of what `docker save` writes, and gives what ``openImage(_:)`` takes for each.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func importImages(
    from path: String, options: ImportOptions = ImportOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> [String] {
    let path = try plain(path, "path")
    return try importing(options, cancel, progress) { bl_import($0, path, $1, $2, $3) }
  }

  /// The same from an archive in a file, pipe or socket, which stays the caller's.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func importImages(
    descriptor: Int32, options: ImportOptions = ImportOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> [String] {
    try importing(options, cancel, progress) { bl_import_fd($0, descriptor, $1, $2, $3) }
  }

  @discardableResult
  public func importImages(
    from path: String, options: ImportOptions = ImportOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> [String] {
    try await running { try self.importImages(from: path, options: options, cancel: $0, progress: progress) }
  }

  @discardableResult
  public func importImages(
    descriptor: Int32, options: ImportOptions = ImportOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> [String] {
    try await running { try self.importImages(descriptor: descriptor, options: options, cancel: $0, progress: progress) }
  }

  private func importing(
    _ options: ImportOptions, _ cancel: CancelToken?, _ progress: ProgressClosure?,
    _ body: (OpaquePointer, UnsafePointer<bl_import_options>, Out, Out) -> bl_status
  ) throws -> [String] {
    let (arena, told) = (Arena(), told(progress))
    return try handle.use { storage in
      try withExtendedLifetime((arena, cancel)) {
        var c = try options.c(arena, cancel, told)
        return names(taking: try make(told) { body(storage, &c, $0, $1) })
      }
    }
  }

  /// Opens an image of a layout's folder where it is: a store that has it, and what its ``openImage(_:)`` takes.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func openBundle(
    _ path: String, options: ImportOptions = ImportOptions(), cancel: CancelToken? = nil, progress: ProgressClosure? = nil
  ) throws -> (storage: Storage, names: [String]) {
    let (arena, told, path) = (Arena(), told(progress), try plain(path, "path"))
    return try handle.use { storage in
      try withExtendedLifetime((arena, cancel)) {
        var c = try options.c(arena, cancel, told)
        var found: OpaquePointer?
        let raw = try make(told) { bl_bundle_open(storage, path, &c, $0, &found, $1) }
        return (Storage(taking: raw), names(taking: found))
      }
    }
  }

  public func openBundle(
    _ path: String, options: ImportOptions = ImportOptions(), progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws -> (storage: Storage, names: [String]) {
    try await running { try self.openBundle(path, options: options, cancel: $0, progress: progress) }
  }

  /// Writes images to an archive, or a folder.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func exportImages(
    _ images: [Image], to path: String, options: ExportOptions = ExportOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws {
    let path = try plain(path, "path")
    try exporting(images, options, cancel, progress) { bl_export($0, $1, images.count, path, $2, $3) }
  }

  /// Writes an archive into a file, pipe or socket, which stays the caller's.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func exportImages(
    _ images: [Image], descriptor: Int32, options: ExportOptions = ExportOptions(), cancel: CancelToken? = nil,
    progress: ProgressClosure? = nil
  ) throws {
    try exporting(images, options, cancel, progress) { bl_export_fd($0, $1, images.count, descriptor, $2, $3) }
  }

  public func exportImages(
    _ images: [Image], to path: String, options: ExportOptions = ExportOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws {
    try await running { try self.exportImages(images, to: path, options: options, cancel: $0, progress: progress) }
  }

  public func exportImages(
    _ images: [Image], descriptor: Int32, options: ExportOptions = ExportOptions(),
    progress: (@Sendable (TransferProgress) throws -> Void)? = nil
  ) async throws {
    try await running {
      try self.exportImages(images, descriptor: descriptor, options: options, cancel: $0, progress: progress)
    }
  }

  private func exporting(
    _ images: [Image], _ options: ExportOptions, _ cancel: CancelToken?, _ progress: ProgressClosure?,
    _ body: (OpaquePointer, UnsafePointer<OpaquePointer?>, UnsafePointer<bl_export_options>, Out) -> bl_status
  ) throws {
    let (arena, told) = (Arena(), told(progress))
    try handle.use { storage in
      // Open until the end, each of them.
      var raw: [OpaquePointer?] = []
      defer { for image in images.prefix(raw.count) { image.handle.leave() } }
      for image in images { raw.append(try image.handle.enter()) }
      try withExtendedLifetime((arena, cancel)) {
        var c = bl_export_options_init()
        c.flags = flags((options.isFolder, BL_EXPORT_FOLDER), (options.replaces, BL_EXPORT_REPLACE))
        c.cancel = cancel?.raw.pointer
        c.timeout_ms = milliseconds(options.timeout)
        if let told {
          c.progress = onProgress
          c.progress_data = told.pointer
        }
        let list = arena.pointer(raw)
        try call(told) { body(storage, list, &c, $0) }
      }
    }
  }
}
