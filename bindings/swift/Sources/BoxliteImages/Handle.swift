import CBoxliteImages
import Dispatch

/// A C handle, freed once: by `close()`, or with the last reference. Calls and closing may come from any thread.
final class Handle: @unchecked Sendable {
  private let lock = DispatchQueue(label: "boxlite.handle")
  private let calls = DispatchGroup()
  private var raw: OpaquePointer?
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
    defer { calls.leave() }
    return try body(raw)
  }

  /// Nor until the body's second argument is called.
  func hold(_ body: (OpaquePointer, _ release: @escaping @Sendable () -> Void) -> Void) throws {
    body(try enter()) { self.calls.leave() }
  }

  private func enter() throws -> OpaquePointer {
    try lock.sync {
      guard let raw = self.raw else { throw BoxliteError(.state, "the \(what) is closed") }
      calls.enter()
      return raw
    }
  }

  /// Waits for calls that are running. A second time it does nothing.
  func close() {
    let raw = lock.sync {
      defer { self.raw = nil }
      return self.raw
    }
    calls.wait()
    if let raw { free(raw) }
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

  func text(_ string: String?) throws -> UnsafePointer<CChar>? {
    try string.map { UnsafePointer(pointer(Array(try plain($0).utf8CString))) }
  }

  /// As C has it: with NULL at its end; NULL for none.
  func list(_ strings: [String]) throws -> UnsafePointer<UnsafePointer<CChar>?>? {
    if strings.isEmpty { return nil }
    return UnsafePointer(pointer(try strings.map(text) + [nil]))
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

  /// Of a callback that C does not ask how it went.
  func rethrow() throws {
    if let thrown { throw BoxliteError(.callback, "a closure threw: \(thrown)", underlying: thrown) }
  }
}

/// A closure that is told something.
final class Told<T>: Callback {
  private let closure: (T) throws -> Void
  init(_ closure: @escaping (T) throws -> Void) { self.closure = closure }
  @discardableResult func tell(_ value: @autoclosure () -> T) -> Int32 { contain { try closure(value()) } }
}
