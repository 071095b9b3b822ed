import CBoxliteImages

/// A hold on objects, which lives in the store: it ends at its time or with ``release()``, and not with this object.
public final class Lease: Sendable {
  private let handle: Handle
  /// What ``Storage/openLease(_:)`` takes.
  public let id: String

  init(taking raw: OpaquePointer) {
    id = String(cString: bl_lease_id(raw))
    handle = Handle("lease", raw) { bl_lease_free($0) }
  }

  /// Holds an object, which need not be in the store yet. A manifest holds its config, its layers and their trees: for an image
  /// give its ``Image/manifestDigest``.
  public func hold(_ digest: String) throws {
    let digest = try plain(digest, "digest")
    try handle.use { lease in try call { bl_lease_hold(lease, digest, $0) } }
  }

  /// Lets it end that long from now.
  public func extend(for time: Duration) throws {
    try handle.use { lease in try call { bl_lease_extend(lease, seconds(time), $0) } }
  }

  /// Ends it now.
  public func release() throws { try handle.use { lease in try call { bl_lease_release(lease, $0) } } }

  public func close() { handle.close() }
}

/// What to collect.
public struct GCOptions: Sendable {
  /// Only say what would be removed.
  public var isDryRun = false
  /// What is younger stays; `nil` is an hour.
  public var minAge: Duration?
  /// Nothing stays for its age.
  public var ignoresAge = false
  /// Disks that nobody has asked for in this time go too; `nil` is to keep them.
  public var maxDiskIdle: Duration?
  public var timeout: Duration?

  public init() {}
}

public struct GCResult: Sendable {
  /// Objects that were removed, and how many bytes they had.
  public let removed, bytes: UInt64
  /// Objects that nothing reaches and that stayed, because they are young or in use.
  public let kept: UInt64
}

/// What to check.
public struct CheckOptions: Sendable {
  /// Move what is damaged to the folder quarantine.
  public var repairs = false
  public var skipsTrees = false
  /// The most that is read; `nil` is as fast as it goes.
  public var bytesPerSecond: UInt64?
  public var timeout: Duration?

  public init() {}
}

/// Something that is not as it should be.
public struct Finding: Sendable {
  public enum Problem: UInt32, Sendable { case damaged = 1, missing }
  public let object, message: String
  public let problem: Problem
  public let wasQuarantined: Bool
}

public struct CheckResult: Sendable {
  public let objects, bytes, skipped, damaged, missing, quarantined: UInt64
}

/// What the store has of each kind, in objects and bytes, and what its file system has.
public struct DiskUsage: Sendable {
  public let manifests, manifestBytes, configs, configBytes, layers, layerBytes, trees, treeBytes: UInt64
  public let disks, diskBytes: UInt64
  public let partials, partialBytes, quarantined, quarantinedBytes, freeBytes, totalBytes: UInt64
}

extension Storage {
  /// Makes a lease that holds nothing yet, until that long from now.
  public func createLease(for time: Duration) throws -> Lease {
    Lease(taking: try handle.use { storage in try make { bl_lease_create(storage, seconds(time), $0, $1) } })
  }

  /// Opens one that was made earlier, perhaps by another process.
  public func openLease(_ id: String) throws -> Lease {
    let id = try plain(id, "id")
    return Lease(taking: try handle.use { storage in try make { bl_lease_open(storage, id, $0, $1) } })
  }

  /// Removes what no name and no lease reaches. The closure is told of each object afterwards.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func collectGarbage(
    options: GCOptions = GCOptions(), cancel: CancelToken? = nil, onRemoved: ((String) -> Void)? = nil
  ) throws -> GCResult {
    let told = onRemoved.map { Told($0) }
    return try handle.use { storage in
      try withExtendedLifetime(cancel) {
        var c = bl_gc_options_init()
        c.flags = flags((options.isDryRun, BL_GC_DRY_RUN), (options.ignoresAge, BL_GC_ANY_AGE))
        c.min_age_seconds = seconds(options.minAge)
        c.max_disk_idle_seconds = seconds(options.maxDiskIdle)
        c.cancel = cancel?.raw.pointer
        c.timeout_ms = milliseconds(options.timeout)
        if let told {
          c.on_removed_data = told.pointer
          c.on_removed = { object, data in Told<String>.at(data).tell(String(cString: object!)) }
        }
        var result = bl_gc_result_init()
        try call(told) { bl_gc(storage, &c, &result, $0) }
        return GCResult(removed: result.removed, bytes: result.bytes, kept: result.kept)
      }
    }
  }

  @discardableResult
  public func collectGarbage(
    options: GCOptions = GCOptions(), onRemoved: (@Sendable (String) -> Void)? = nil
  ) async throws -> GCResult {
    try await running { try self.collectGarbage(options: options, cancel: $0, onRemoved: onRemoved) }
  }

  /// Reads everything and compares it with what it should be. The closure is told of each finding afterwards.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  @discardableResult
  public func check(
    options: CheckOptions = CheckOptions(), cancel: CancelToken? = nil, onFinding: ((Finding) -> Void)? = nil
  ) throws -> CheckResult {
    let told = onFinding.map { Told($0) }
    return try handle.use { storage in
      try withExtendedLifetime(cancel) {
        var c = bl_check_options_init()
        c.flags = flags((options.repairs, BL_CHECK_REPAIR), (options.skipsTrees, BL_CHECK_SKIP_TREES))
        c.bytes_per_second = options.bytesPerSecond ?? 0
        c.cancel = cancel?.raw.pointer
        c.timeout_ms = milliseconds(options.timeout)
        if let told {
          c.on_finding_data = told.pointer
          c.on_finding = { finding, data in
            let found = finding!.pointee
            Told<Finding>.at(data).tell(
              Finding(
                object: String(cString: found.object), message: String(cString: found.message),
                // One that is not known counts as damage.
                problem: Finding.Problem(rawValue: found.problem) ?? .damaged, wasQuarantined: found.quarantined != 0))
          }
        }
        var r = bl_check_result_init()
        try call(told) { bl_check(storage, &c, &r, $0) }
        return CheckResult(
          objects: r.objects, bytes: r.bytes, skipped: r.skipped, damaged: r.damaged, missing: r.missing,
          quarantined: r.quarantined)
      }
    }
  }

  @discardableResult
  public func check(
    options: CheckOptions = CheckOptions(), onFinding: (@Sendable (Finding) -> Void)? = nil
  ) async throws -> CheckResult {
    try await running { try self.check(options: options, cancel: $0, onFinding: onFinding) }
  }

  public func diskUsage() async throws -> DiskUsage { try await running { _ in try self.diskUsage() } }

  public func diskUsage() throws -> DiskUsage {
    try handle.use { storage in
      var u = bl_disk_usage_result_init()
      try call { bl_disk_usage(storage, &u, $0) }
      return DiskUsage(
        manifests: u.manifests, manifestBytes: u.manifest_bytes, configs: u.configs, configBytes: u.config_bytes,
        layers: u.layers, layerBytes: u.layer_bytes, trees: u.trees, treeBytes: u.tree_bytes, disks: u.disks, diskBytes: u.disk_bytes, partials: u.partials,
        partialBytes: u.partial_bytes, quarantined: u.quarantined, quarantinedBytes: u.quarantined_bytes,
        freeBytes: u.free_bytes, totalBytes: u.total_bytes)
    }
  }
}
