import CBoxliteImages
import Dispatch

/// Ends calls from another thread. One token may serve any number of calls, and is used up once it was triggered.
///
/// It is for blocking calls: those that are `async` end with their task.
public final class CancelToken: Sendable {
  let raw: OwnedCancel

  public init() throws { raw = OwnedCancel(try make { bl_cancel_new($0, $1) }) }
  public func trigger() { bl_cancel_trigger(raw.pointer) }
  public var isTriggered: Bool { bl_cancel_is_triggered(raw.pointer) }
}

struct OwnedCancel: @unchecked Sendable {
  private let owner: Owner
  var pointer: OpaquePointer { owner.pointer }

  init(_ pointer: OpaquePointer) { owner = Owner(pointer) }

  private final class Owner {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { bl_cancel_free(pointer) }
  }
}

/// How far a call came.
public struct TransferProgress: Sendable {
  /// Bytes of the layer's file; 0 where what is extracted already is read instead.
  public let bytesIn: UInt64
  /// Bytes of the uncompressed tar stream, or of the files that are copied.
  public let bytesOut: UInt64
  public let entries: UInt64
}

/// What a layer may cost at most; `nil` is the default. They are those of `bl_layer_limits`.
public struct LayerLimits: Sendable {
  public var layerBytes, compressionRatio, entries, nameComponentBytes, pathDepth, pathBytes, headerMetadataBytes: UInt64?
  public var stackedHeaders, sparseChunks, symlinkTargetBytes, symlinkHops, symlinkSteps, directorySteps: UInt64?
  public var xattrValueBytes, xattrs, xattrsBytes, keptMetadataBytes, recordBytes, zstdWindowLog: UInt64?

  public init() {}

  func c() -> bl_layer_limits {
    var c = bl_layer_limits_init()
    c.layer_bytes = layerBytes ?? 0
    c.compression_ratio = compressionRatio ?? 0
    c.entries = entries ?? 0
    c.name_component_bytes = nameComponentBytes ?? 0
    c.path_depth = pathDepth ?? 0
    c.path_bytes = pathBytes ?? 0
    c.header_metadata_bytes = headerMetadataBytes ?? 0
    c.stacked_headers = stackedHeaders ?? 0
    c.sparse_chunks = sparseChunks ?? 0
    c.symlink_target_bytes = symlinkTargetBytes ?? 0
    c.symlink_hops = symlinkHops ?? 0
    c.symlink_steps = symlinkSteps ?? 0
    c.directory_steps = directorySteps ?? 0
    c.xattr_value_bytes = xattrValueBytes ?? 0
    c.xattrs = xattrs ?? 0
    c.xattrs_bytes = xattrsBytes ?? 0
    c.kept_metadata_bytes = keptMetadataBytes ?? 0
    c.record_bytes = recordBytes ?? 0
    c.zstd_window_log = zstdWindowLog ?? 0
    return c
  }
}

/// How a tree says what lower layers lose.
public enum Whiteouts: Sendable {
  /// As in the layer: empty files `.wh.<name>`.
  case markers
  /// As overlayfs has it in its lower directories; only root can make them.
  case overlay
  /// The same for mounts with the option `userxattr`.
  case userOverlay

  var c: UInt32 {
    switch self {
    case .markers: UInt32(BL_WHITEOUTS_MARKERS)
    case .overlay: UInt32(BL_WHITEOUTS_OVERLAY)
    case .userOverlay: UInt32(BL_WHITEOUTS_USER_OVERLAY)
    }
  }
}

/// What an extracted layer is.
public enum LayerForm: Sendable {
  case directory
  /// One file with an EROFS file system in it, which nobody may write to.
  case erofs

  var c: UInt32 {
    switch self {
    case .directory: UInt32(BL_LAYER_DIRECTORY)
    case .erofs: UInt32(BL_LAYER_EROFS)
    }
  }
}

public typealias ProgressClosure = (TransferProgress) throws -> Void

let onProgress: bl_progress_callback = { progress, data in
  let at = progress!.pointee
  return Told<TransferProgress>.at(data).tell(
    TransferProgress(bytesIn: at.bytes_in, bytesOut: at.bytes_out, entries: at.entries))
}

func told(_ progress: ProgressClosure?) -> Told<TransferProgress>? { progress.map { Told($0) } }

func flags(_ all: (Bool, Int32)...) -> UInt64 { all.reduce(0) { $1.0 ? $0 | UInt64($1.1) : $0 } }

/// Rounded up, and never nothing: what is over already is not without an end. `nil` is nothing.
func whole(_ time: Duration?, of unit: Duration) -> UInt64 {
  guard let time else { return 0 }
  let count = (time / unit).rounded(.up)
  return count < 1 ? 1 : count >= 0x1p63 ? 1 << 63 : UInt64(count)
}

func milliseconds(_ time: Duration?) -> UInt64 { whole(time, of: .milliseconds(1)) }
func seconds(_ time: Duration?) -> UInt64 { whole(time, of: .seconds(1)) }

/// Runs a blocking call for a task, which ends it when it is cancelled.
func running<R: Sendable>(_ work: @escaping @Sendable (CancelToken) throws -> R) async throws -> R {
  try Task.checkCancellation()
  let token = try CancelToken()
  return try await withTaskCancellationHandler {
    do {
      return try await withCheckedThrowingContinuation { continuation in
        // A queue of its own is a thread of its own: those that tasks and concurrent queues share are few.
        DispatchQueue(label: "boxlite.call").async { continuation.resume(with: Result { try work(token) }) }
      }
    } catch let error as BoxliteError where error.status == .cancelled && token.isTriggered {
      throw CancellationError()
    }
  } onCancel: {
    token.trigger()
  }
}
