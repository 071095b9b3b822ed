import CBoxliteImages

/// What kind of failure an error is. A newer library may have more of them than these.
public struct Status: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: Int32
  public init(rawValue: Int32) { self.rawValue = rawValue }

  public static let invalidArgument = Status(rawValue: BL_E_INVALID_ARGUMENT)
  public static let unsupported = Status(rawValue: BL_E_UNSUPPORTED)
  public static let notFound = Status(rawValue: BL_E_NOT_FOUND)
  public static let busy = Status(rawValue: BL_E_BUSY)
  /// Also what a method of a closed object gives.
  public static let state = Status(rawValue: BL_E_STATE)
  public static let exists = Status(rawValue: BL_E_EXISTS)
  public static let io = Status(rawValue: BL_E_IO)
  public static let noSpace = Status(rawValue: BL_E_NO_SPACE)
  public static let permission = Status(rawValue: BL_E_PERMISSION)
  public static let digestMismatch = Status(rawValue: BL_E_DIGEST_MISMATCH)
  public static let sizeMismatch = Status(rawValue: BL_E_SIZE_MISMATCH)
  public static let malformed = Status(rawValue: BL_E_MALFORMED)
  public static let unsafePath = Status(rawValue: BL_E_UNSAFE_PATH)
  public static let limit = Status(rawValue: BL_E_LIMIT)
  public static let unauthorized = Status(rawValue: BL_E_UNAUTHORIZED)
  public static let denied = Status(rawValue: BL_E_DENIED)
  public static let network = Status(rawValue: BL_E_NETWORK)
  public static let timeout = Status(rawValue: BL_E_TIMEOUT)
  public static let rateLimited = Status(rawValue: BL_E_RATE_LIMITED)
  public static let registry = Status(rawValue: BL_E_REGISTRY)
  public static let cancelled = Status(rawValue: BL_E_CANCELLED)
  /// A closure threw: see ``BoxliteError/underlying``.
  public static let callback = Status(rawValue: BL_E_CALLBACK)
  public static let forked = Status(rawValue: BL_E_FORKED)
  public static let `internal` = Status(rawValue: BL_E_INTERNAL)

  /// "NOT_FOUND".
  public var description: String { String(cString: bl_status_name(rawValue)) }
}

/// Why a call failed.
public struct BoxliteError: Error, CustomStringConvertible {
  public let status: Status
  /// One line that names the object.
  public let message: String
  /// What the system said, or 0.
  public let osErrno: Int32
  /// What a registry said, or 0.
  public let httpStatus: Int32
  /// The registry's word for it, such as "MANIFEST_UNKNOWN"; empty where there is none, as below.
  public let registryCode: String
  public let expectedDigest: String
  public let actualDigest: String
  /// Whether the same call may succeed later.
  public let isRetryable: Bool
  /// What a closure of the host's threw.
  public let underlying: (any Error)?

  public var description: String { "\(status): \(message)" }

  init(_ status: Status, _ message: String, underlying: (any Error)? = nil) {
    self.status = status
    self.message = message
    osErrno = 0
    httpStatus = 0
    registryCode = ""
    expectedDigest = ""
    actualDigest = ""
    isRetryable = false
    self.underlying = underlying
  }

  /// Takes over what a C function has set.
  init(status: bl_status, taking raw: OpaquePointer?, underlying: (any Error)?) {
    self.status = Status(rawValue: status)
    message = String(cString: bl_error_message(raw))
    osErrno = bl_error_os_errno(raw)
    httpStatus = bl_error_http_status(raw)
    registryCode = String(cString: bl_error_registry_code(raw))
    expectedDigest = String(cString: bl_error_expected_digest(raw))
    actualDigest = String(cString: bl_error_actual_digest(raw))
    isRetryable = bl_error_retryable(raw)
    self.underlying = underlying
    bl_error_free(raw)
  }
}

typealias Out = UnsafeMutablePointer<OpaquePointer?>

/// Calls C, and throws what it says. C may use the callback's address until it returns.
func call(_ callback: Callback? = nil, _ body: (_ err: Out) -> bl_status) throws {
  var raw: OpaquePointer?
  let status = withExtendedLifetime(callback) { body(&raw) }
  guard status == BL_OK else { throw BoxliteError(status: status, taking: raw, underlying: status == BL_E_CALLBACK ? callback?.thrown : nil) }
}

/// Calls C for a handle.
func make(_ callback: Callback? = nil, _ body: (_ out: Out, _ err: Out) -> bl_status) throws -> OpaquePointer {
  var raw: OpaquePointer?
  try call(callback) { body(&raw, $0) }
  guard let raw else { throw BoxliteError(.internal, "a call that succeeded gave nothing") }
  return raw
}

/// Calls C for text.
func text(_ callback: Callback? = nil, _ body: (_ out: Out, _ err: Out) -> bl_status) throws -> String {
  String(decoding: try bytes(callback, body), as: UTF8.self)
}

func bytes(_ callback: Callback? = nil, _ body: (_ out: Out, _ err: Out) -> bl_status) throws -> [UInt8] {
  let raw = try make(callback, body)
  defer { bl_bytes_free(raw) }
  return Array(UnsafeBufferPointer(start: bl_bytes_data(raw), count: bl_bytes_len(raw)))
}

func bool(_ body: (_ out: UnsafeMutablePointer<Bool>, _ err: Out) -> bl_status) throws -> Bool {
  var answer = false
  try call { body(&answer, $0) }
  return answer
}

/// Takes over a list of names.
func names(taking raw: OpaquePointer?) -> [String] {
  defer { bl_names_free(raw) }
  return (0..<bl_names_count(raw)).map { String(cString: bl_names_get(raw, $0)) }
}

/// A string as C can have it: one with a zero in it would be another one there. The error names it and does not quote it: it may
/// be a password.
func plain(_ string: String, _ name: String) throws -> String {
  if string.utf8.contains(0) { throw BoxliteError(.invalidArgument, "\(name) has a zero in it") }
  return string
}

#if canImport(FoundationEssentials)
  import FoundationEssentials
#elseif canImport(Foundation)
  import Foundation
#endif

#if canImport(FoundationEssentials) || canImport(Foundation)
  extension BoxliteError: LocalizedError {
    public var errorDescription: String? { message }
  }
#endif
