import CBoxliteImages
import Dispatch

/// A C handle, freed once: by `close()` or, where calls are running then, when the last of them returns; or with the last
/// reference. Calls and closing may come from any thread, and from closures that a call is running.
final class Handle: @unchecked Sendable {
  private let lock = DispatchQueue(label: "boxlite.handle")
  private var raw: OpaquePointer?
  /// What is closed and still in use.
  private var closing: OpaquePointer?
  private var calls = 0
  private let what: String
  private let free: @Sendable (OpaquePointer) -> Void

  init(_ what: String, _ raw: OpaquePointer, _ free: @escaping @Sendable (OpaquePointer?) -> Void) {
    self.what = what
    self.raw = raw
    self.free = { free($0) }
  }

  deinit { if let raw { free(raw) } }

  /// The handle is not freed while the body runs.
  func use<R>(_ body: (OpaquePointer) throws -> R) throws -> R {
    let raw = try enter()
    defer { leave() }
    return try body(raw)
  }

  /// It is not freed before `leave()`.
  func enter() throws -> OpaquePointer {
    try lock.sync {
      guard let raw else { throw BoxliteError(.state, "the \(what) is closed") }
      calls += 1
      return raw
    }
  }

  func leave() {
    let last: OpaquePointer? = lock.sync {
      calls -= 1
      guard calls == 0 else { return nil }
      defer { closing = nil }
      return closing
    }
    if let last { free(last) }
  }

  func close() {
    let unused: OpaquePointer? = lock.sync {
      defer { raw = nil }
      if calls == 0 { return raw }
      closing = closing ?? raw
      return nil
    }
    if let unused { free(unused) }
  }
}

/// Strings and arrays that a C struct points to, for as long as this lives.
final class Arena {
  private var owned: [UnsafeMutableRawPointer] = []

  deinit { for pointer in owned { pointer.deallocate() } }

  /// Where the value is kept.
  func pointer<T>(_ values: [T]) -> UnsafeMutablePointer<T> {
    let pointer = UnsafeMutablePointer<T>.allocate(capacity: max(values.count, 1))
    pointer.initialize(from: values, count: values.count)
    owned.append(UnsafeMutableRawPointer(pointer))
    return pointer
  }

  func text(_ string: String?, _ name: String) throws -> UnsafePointer<CChar>? {
    try string.map { UnsafePointer(pointer(Array(try plain($0, name).utf8CString))) }
  }

  /// As C has it: with NULL at its end; NULL for none.
  func list(_ strings: [String], _ name: String) throws -> UnsafePointer<UnsafePointer<CChar>?>? {
    if strings.isEmpty { return nil }
    return UnsafePointer(pointer(try strings.map { try text($0, name) } + [nil]))
  }
}

/// A closure that C calls. What it throws stays here, and ends the call.
class Callback {
  private(set) var thrown: (any Error)?

  /// For the `user_data` of C, which keeps no reference: `call()` does.
  var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

  static func at(_ pointer: UnsafeMutableRawPointer?) -> Self {
    unsafeDowncast(Unmanaged<Callback>.fromOpaque(pointer!).takeUnretainedValue(), to: Self.self)
  }

  /// What C is answered.
  func contain(_ body: () throws -> Void) -> Int32 {
    if thrown != nil { return 1 }
    do { try body() } catch {
      thrown = error
      return 1
    }
    return 0
  }
}

/// A closure that is told something.
final class Told<T>: Callback {
  private let closure: (T) throws -> Void
  init(_ closure: @escaping (T) throws -> Void) { self.closure = closure }
  @discardableResult func tell(_ value: @autoclosure () -> T) -> Int32 { contain { try closure(value()) } }
}
