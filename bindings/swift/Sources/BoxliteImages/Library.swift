import CBoxliteImages
import Dispatch

/// The library itself: what belongs to the process and not to a store.
public enum Library {
  /// "0.1.0", of the library that is loaded.
  public static var versionString: String { String(cString: bl_version_string()) }
  /// major * 1000000 + minor * 1000 + patch.
  public static var versionNumber: UInt32 { bl_version_number() }

  /// What a library may be built with.
  public enum Feature: Sendable {
    /// Pulls from registries.
    case pull
    /// Layers that ISA-L inflates.
    case isal
  }

  /// Whether the library that is loaded was built with it.
  public static func has(_ feature: Feature) -> Bool {
    bl_has_feature(UInt32(feature == .pull ? BL_FEATURE_PULL : BL_FEATURE_ISAL))
  }

  /// Ends pulls, and the network threads. Throws ``Status/timeout`` where pulls have not ended by then.
  public static func shutdown(timeout: Duration) throws {
    let time = timeout > .zero ? milliseconds(timeout) : 0
    try call { bl_shutdown(time, $0) }
  }

  public enum LogLevel: Int32, Sendable {
    case error = 1, warn, info, debug, trace
  }

  /// Where log lines of that level and above go, for the whole process. The closure is called from any thread, and must not
  /// set another, nor remove itself.
  public static func setLogHandler(level: LogLevel, _ closure: @escaping @Sendable (LogLevel, String) -> Void) throws {
    try set(level, Log(closure))
  }

  /// They go nowhere, as at first. The closure is not running when this returns, and will not be called again.
  public static func removeLogHandler() throws { try set(.error, nil) }

  private static func set(_ level: LogLevel, _ next: Log?) throws {
    try setting.sync {
      let set: bl_log_callback? = next == nil ? nil : { level, message, data in
        let log = Unmanaged<Log>.fromOpaque(data!).takeUnretainedValue()
        log.closure(LogLevel(rawValue: level) ?? .trace, String(cString: message!))
      }
      try call { bl_set_log_callback(level.rawValue, set, next.map { Unmanaged.passUnretained($0).toOpaque() }, $0) }
      // The one before is not running, nor will be.
      current.log = next
    }
  }

  private static let setting = DispatchQueue(label: "boxlite.log")
  private static let current = Current()

  private final class Current: @unchecked Sendable { var log: Log? }

  private final class Log {
    let closure: @Sendable (LogLevel, String) -> Void
    init(_ closure: @escaping @Sendable (LogLevel, String) -> Void) { self.closure = closure }
  }
}
